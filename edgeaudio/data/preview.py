"""Pictures of log-mel spectrograms in rows, and one of a data set: a few clips of each class."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from edgeaudio.config import FrontEndSpec
from edgeaudio.data.clips import Clips
from edgeaudio.data.waveforms import Waveforms
from edgeaudio.errors import DataError
from edgeaudio.files import write_whole
from edgeaudio.frontend import LogMel
from edgeaudio.mel import mel_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Array = NDArray[np.float32]

LONGEST = 5.0
"""Seconds; of a longer clip the loudest stretch of this length is shown."""

# inches
_PANEL_WIDTH, _PANEL_HEIGHT = 2.9, 1.25  # with the gap, the title above and the ticks below
_GAP, _TITLE, _TICKS = 0.16, 0.16, 0.2
_IMAGE_HEIGHT = _PANEL_HEIGHT - _TITLE - _TICKS
_NAME_MARGIN, _LETTER = 0.6, 0.085
_BAR_WIDTH, _EDGE = 0.6, 0.15
_DPI = 100
_MOST_PIXELS = 60_000  # Agg draws 65,536 at most either way
_TICKS_KHZ = (1, 10, 4, 0.3, 2, 0.1, 20)  # the first come first where there isn't room for all
_TICK_DISTANCE = 0.16  # share of a panel's height between two tick labels


@dataclass(frozen=True)
class Panel:
    """One log-mel of a picture."""

    title: str
    log_mel: Array
    """`(mels, frames)` of the stretch shown."""
    start: float
    """Seconds into the clip."""
    seconds: float
    """Length of the stretch."""
    shown_seconds: float
    """Length of the log-mel: with the zeros that a very short clip is filled up with."""


def preview(
    clips: Clips, waveforms: Waveforms, spec: FrontEndSpec, path: Path, per_class: int = 4, seed: int = 0
) -> Path:
    """Draw a few clips of each class: classes are rows, examples columns, one colour scale for all.

    Equal inputs give equal bytes.

    Args:
        clips: the table.
        waveforms: its waveforms, at `spec.sample_rate`.
        spec: the front end whose log-mels are shown.
        path: the PNG file to write; its folder is made where missing.
        per_class: examples of each class; fewer where a class has fewer.
        seed: of the choice of clips.

    Returns:
        `path`.

    Raises:
        DataError: the front end has no log-mels, `per_class` is below 1, `path` doesn't end in .png, or the
            sample rates differ.
    """
    check(path, spec)
    if per_class < 1:
        raise DataError(f"{per_class} clips per class make no picture; use 1 or more")
    if waveforms.sample_rate != spec.sample_rate:
        raise DataError(
            f"the waveforms are at {waveforms.sample_rate} Hz but the front end wants {spec.sample_rate} Hz; "
            "prepare them at that rate"
        )
    rows = {label: _choose(clips, label, per_class, seed) for label in clips.classes}
    shown = {label: _examples(clips, waveforms, spec, chosen) for label, chosen in rows.items() if chosen}
    return write(path, draw_rows(shown, spec))


def check(path: Path, spec: FrontEndSpec) -> None:
    """Refuse what can't be drawn.

    Raises:
        DataError: the front end has no log-mels, or `path` doesn't end in .png.
    """
    if spec.kind != "log_mel":
        raise DataError(f"a front end of kind {spec.kind} has no log-mels to draw; choose a preset that has")
    if Path(path).suffix.lower() != ".png":
        raise DataError(f"{path}: the picture is a PNG file; let its name end in .png")


def write(path: Path, picture: bytes) -> Path:
    """Write a picture where `path` says; a kill leaves the old one or the new one."""
    return write_whole(Path(path), picture)


def _choose(clips: Clips, label: str, count: int, seed: int) -> list[int]:
    members = clips.indices(lambda clip: clip.label == label)
    # the class has a stream of its own, so that another class's clips don't change its choice
    rng = np.random.default_rng([seed % 2**32, *label.encode()])
    return sorted(rng.permutation(members)[:count].tolist())


def _examples(clips: Clips, waveforms: Waveforms, spec: FrontEndSpec, chosen: list[int]) -> list[Panel]:
    front_end = LogMel(spec)
    return [_example(clips, i, waveforms, front_end) for i in chosen]


def _example(clips: Clips, i: int, waveforms: Waveforms, front_end: LogMel) -> Panel:
    rate = front_end.spec.sample_rate
    waveform = waveforms[i]
    start, stop = loudest(waveform, round(LONGEST * rate), rate // 4)
    # room for the first frame and its reflection, however short the clip
    stretch = np.zeros(max(stop - start, front_end.spec.n_fft + 1), np.float32)
    stretch[: stop - start] = waveform[start:stop]
    with torch.inference_mode():
        log_mel = front_end(torch.from_numpy(stretch[None]))[0, 0].numpy()
    name = shorten(Path(clips.name_of(clips[i])).name, 30)
    return Panel(
        title=f"{name} · {_length(len(waveform) / rate)}",
        log_mel=log_mel,
        start=start / rate,
        seconds=(stop - start) / rate,
        shown_seconds=len(stretch) / rate,
    )


def _length(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def loudest(waveform: Array, length: int, hop: int) -> tuple[int, int]:
    """The loudest stretch of a waveform, on a grid.

    Args:
        waveform: `(samples,)`.
        length: samples wanted; a shorter waveform is taken whole.
        hop: samples between the stretches that are compared.

    Returns:
        First sample, and the one after the last.
    """
    if len(waveform) <= length:
        return 0, len(waveform)
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, len(waveform) - length + 1, hop)
    best = int(starts[np.argmax(energy[starts + length] - energy[starts])])
    return best, best + length


def draw_rows(shown: dict[str, list[Panel]], spec: FrontEndSpec) -> bytes:
    """Draw rows of log-mels by name, one colour scale for all.

    Args:
        shown: at least one panel in each row.
        spec: the front end that they come from.

    Returns:
        The bytes of a PNG file, equal for equal inputs.
    """
    # the object-oriented interface alone: pyplot would keep the figure and may look for a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = {label: shorten(label.replace("_", " "), 24) for label in shown}
    left = _NAME_MARGIN + _LETTER * max(map(len, names.values()))
    width = left + max(map(len, shown.values())) * _PANEL_WIDTH + _BAR_WIDTH
    height = len(shown) * _PANEL_HEIGHT + 2 * _EDGE
    figure = Figure(figsize=(width, height), dpi=min(_DPI, _MOST_PIXELS / max(width, height)))
    canvas = FigureCanvasAgg(figure)
    everything = [example for examples in shown.values() for example in examples]
    levels = _colour_range(everything)
    seconds = max(example.seconds for example in everything)
    for row, (label, examples) in enumerate(shown.items()):
        bottom = height - _EDGE - (row + 1) * _PANEL_HEIGHT + _TICKS
        _name(figure, names[label], bottom + _IMAGE_HEIGHT / 2)
        for column, example in enumerate(examples):
            axes = _axes(figure, left + column * _PANEL_WIDTH, bottom, _PANEL_WIDTH - _GAP, _IMAGE_HEIGHT)
            image = _panel(axes, example, spec, levels, seconds)
            _label(axes, example, spec, first=column == 0)
    bar_height = min(3.0, height - 2 * _EDGE - _TITLE - _TICKS)
    bar = _axes(figure, width - _BAR_WIDTH + 0.1, height - _EDGE - _TITLE - bar_height, 0.1, bar_height)
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=6, length=2)
    bar.set_title("log-mel", fontsize=7)
    return _png(canvas)


def _name(figure: Figure, name: str, middle: float) -> None:
    width, height = figure.get_size_inches()
    text = figure.text(0.12 / width, middle / height, name, fontsize=9, weight="bold", va="center")
    text.set_parse_math(False)  # a dollar sign is a dollar sign


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches: panels keep their size, whatever the number of classes."""
    all_width, all_height = figure.get_size_inches()
    return figure.add_axes((left / all_width, bottom / all_height, width / all_width, height / all_height))


def _panel(
    axes: Axes, example: Panel, spec: FrontEndSpec, levels: tuple[float, float], seconds: float
) -> AxesImage:
    image = axes.imshow(
        example.log_mel, origin="lower", aspect="auto", cmap="magma", vmin=levels[0], vmax=levels[1],
        extent=(example.start, example.start + example.shown_seconds, -0.5, spec.n_mels - 0.5),
    )  # fmt: skip
    axes.set_xlim(example.start, example.start + seconds)
    return image


def _label(axes: Axes, example: Panel, spec: FrontEndSpec, first: bool) -> None:
    axes.set_title(example.title, fontsize=7, loc="left", pad=2).set_parse_math(False)
    axes.set_facecolor("#f3f3f3")  # where a clip is shorter than the longest shown
    axes.spines[:].set_visible(False)
    axes.tick_params(labelsize=6, length=2, width=0.5, pad=1.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.locator_params(axis="x", nbins=5, steps=[1, 2, 5, 10], prune="upper")
    positions, names = frequency_ticks(spec)
    axes.set_yticks(positions, names if first else [""] * len(names))


def frequency_ticks(spec: FrontEndSpec) -> tuple[list[float], list[str]]:
    """Mel bands (fractions between their centres) of round frequencies, and the frequencies as text."""
    centres = mel_edges(spec)[1:-1]
    found: dict[float, str] = {}
    for khz in _TICKS_KHZ:
        band = float(np.interp(khz * 1000, centres, np.arange(spec.n_mels)))
        inside = centres[0] <= khz * 1000 <= centres[-1]
        if inside and all(abs(band - other) > _TICK_DISTANCE * spec.n_mels for other in found):
            found[band] = f"{khz:g} kHz" if khz >= 1 else f"{khz * 1000:g} Hz"
    return list(found), list(found.values())


def _colour_range(examples: list[Panel]) -> tuple[float, float]:
    """Levels that nearly all of the picture lies between, so that one loud click doesn't darken the rest."""
    values = np.concatenate([example.log_mel.ravel() for example in examples])
    low, high = (float(v) for v in np.percentile(values, (1, 99.8)))
    return low, max(high, low + 1e-3)


def _png(canvas: FigureCanvasAgg) -> bytes:
    png = io.BytesIO()
    with warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes; a warning for each letter helps nobody
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        canvas.figure.savefig(
            png, format="png", metadata={"Software": None}
        )  # the library's version would change the bytes
    return png.getvalue()


def shorten(text: str, most: int) -> str:
    """Cut out the middle: the ends of file names tell them apart."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2 - 1]}…{text[len(text) - most // 2 :]}"
