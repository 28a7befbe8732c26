"""One sound's spectrograms in decibels, to look at before a whole set is made: a table and a picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeaudio.data.clips import Clip, Clips
from edgeaudio.errors import DataError
from edgeaudio.features.collecting import folds_of, partitions_of
from edgeaudio.features.featureset import PARTITIONS, VALID
from edgeaudio.features.sets import of_clip
from edgeaudio.features.spectrograms import Spectrogram, SpectrogramSettings
from edgeaudio.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = list[list[str]]

_BINS = 100
_FREQUENCY_TICKS = (100, 300, 1000, 3000, 10_000, 30_000)
_TICK_DISTANCE = 0.07
"""Share of the picture's height between two frequency ticks."""
_LINEAR_TICKS = 6


def pretend(clips: Clips, settings: SpectrogramSettings, index: int, picture: Path) -> Rows:
    """Make the spectrograms of one clip, unscaled, and draw them.

    Args:
        clips: the table.
        settings: how spectrograms are made.
        index: position of the clip in the table, from 0 on.
        picture: the PNG file to write.

    Returns:
        What is known of it, as rows of a name and a value.

    Raises:
        AudioError: the clip can't be read.
        DataError: there is no clip of that number, or it is too short.
    """
    if not 0 <= index < len(clips):
        raise DataError(f"{clips.root} has the clips 0 to {len(clips) - 1}; there is no clip {index}")
    clip = clips[index]
    made, rate = of_clip(clip, replace(settings, scaled=False), clips.name_of(clip))
    write_whole(picture, _drawn(made, clip, clips, settings))
    return [*_known(clips, index), *_sizes(made, rate)]


def _known(clips: Clips, index: int) -> Rows:
    clip = clips[index]
    folds, partitions = folds_of(clips), partitions_of(clips)
    label = f"{clip.label} ({clips.classes.index(clip.label)})" if clip.label else "none"
    rows = [["file", clips.name_of(clip)], ["label", label]]
    if folds is not None:
        said = ", ".join(
            f"{name} {'valid' if value == VALID else 'train'}"
            for name, value in zip(clips.folds, folds[index], strict=True)
        )
        rows.append(["folds", said])
    if partitions is not None:
        number = int(partitions[index])
        rows.append(["partition", PARTITIONS[number] if number >= 0 else "none"])
    return rows


def _sizes(made: Spectrogram, rate: int) -> Rows:
    steps = ", ".join(str(len(chunk)) for chunk in made.chunks)
    empty = f" ({made.empty_bands} empty)" if made.empty_bands else ""
    return [
        ["sample rate", f"{rate} Hz"],
        ["chunks", str(len(made.chunks))],
        ["time steps", steps],
        ["frequency bands", f"{len(made.frequencies)}{empty}"],
    ]


# ── the picture ──────────────────────────────────────────────────────────────────────────────────


def _drawn(made: Spectrogram, clip: Clip, clips: Clips, settings: SpectrogramSettings) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    levels = np.concatenate([chunk.ravel() for chunk in made.chunks])
    low, high = float(levels.min()), float(levels.max())
    flat = low == high
    figure = Figure(figsize=(9, 2.5 if flat else 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    if flat:
        top = figure.subplots()
        _draw_flat(top, "silent throughout" if made.silent else f"{low:g} dB throughout")
    else:
        top, below = figure.subplots(2, 1, height_ratios=(3, 2))
        low, high = settings.clip_below or low, settings.clip_above or 0.0
        _draw_levels(top, made, low, high)
        _draw_histogram(below, levels, low, high)
    title = f"{clips.name_of(clip)} · {clip.label}" if clip.label else clips.name_of(clip)
    top.set_title(title, fontsize=10, loc="left").set_parse_math(False)  # a dollar sign is a dollar sign
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})  # equal inputs give equal bytes
    return png.getvalue()


def _draw_flat(axes: Axes, sentence: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#f3f3f3")
    axes.text(0.5, 0.5, sentence, ha="center", va="center")


def _draw_levels(axes: Axes, made: Spectrogram, low: float, high: float) -> None:
    levels = np.concatenate(made.chunks)
    step = made.times[1] - made.times[0] if len(made.times) > 1 else 2 * made.times[0]
    bands = len(made.frequencies)
    image = axes.imshow(
        levels.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest", vmin=low, vmax=high,
        extent=(made.times[0] - step / 2, made.times[-1] + step / 2, -0.5, bands - 0.5),
    )  # fmt: skip
    axes.set_xlabel("time in s")
    axes.set_ylabel("frequency in Hz")
    axes.set_yticks(*_frequency_ticks(made))
    for number in range(1, len(made.chunks)):  # where a chunk ends
        axes.axvline(made.times[number * len(made.chunks[0])] - step / 2, color="white", lw=0.8, ls="--")
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label="dB under the loudest", pad=0.01)


def _frequency_ticks(made: Spectrogram) -> tuple[list[float], list[str]]:
    """Bands, in fractions between their middles, of round frequencies."""
    hz = made.frequencies
    linear = np.allclose(np.diff(hz), hz[1] - hz[0]) if len(hz) > 2 else True
    round_ones = _round_steps(float(hz[-1])) if linear else _FREQUENCY_TICKS
    found: dict[float, str] = {}
    for value in round_ones:
        band = float(np.interp(value, hz, np.arange(len(hz))))
        if hz[0] <= value <= hz[-1] and all(abs(band - b) > _TICK_DISTANCE * len(hz) for b in found):
            found[band] = f"{value:g}"
    return list(found), list(found.values())


def _round_steps(highest: float) -> list[float]:
    """0 and some round frequencies at equal distances."""
    from matplotlib.ticker import MaxNLocator

    return list(MaxNLocator(_LINEAR_TICKS, steps=[1, 2, 2.5, 5, 10]).tick_values(0, highest))


def _draw_histogram(axes: Axes, levels: NDArray[np.float64], low: float, high: float) -> None:
    # what was clipped would be a spike beside which nothing else is seen
    inside = (levels > low) & (levels < high)
    outside = 1 - float(inside.mean())
    clipped = f", without the {outside:.0%} at the ends" if outside >= 0.01 else ""
    axes.hist(
        levels[inside], bins=_BINS, range=(low, high), density=bool(inside.any()),
        histtype="stepfilled", color="#8c2981",
    )  # fmt: skip
    axes.set_xlabel(f"level in dB under the loudest{clipped}")
    axes.set_ylabel("density")
    axes.set_xlim(low, high)
