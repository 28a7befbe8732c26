"""A picture of one recording: truth above prediction, what is wrong, and the scores, over minutes, seconds.

A long recording is broken into lines, like music. Where one class sounds at a time, truth and prediction are
a band each; where several do, every class has a band, its truth in the upper half.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeaudio.segments.evaluate import Curves, Evaluation, Track
from edgeaudio.segments.figures import Laid
from edgeaudio.segments.grid import seconds_of
from edgeaudio.segments.reading import Segment
from edgeaudio.segments.stretches import clock, percent, wrong_stretches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#4477aa", "#ee8866", "#44aa66", "#aa66bb", "#ccaa33", "#66bbdd", "#885522", "#ee99bb", "#777722",
    "#223377", "#99cc99", "#bb7799", "#ffcc88", "#117788", "#bb99dd", "#aabb55", "#556677", "#ddbb99",
    "#338855", "#9999ee",
)  # fmt: skip
"""Of the classes that sound longest; no red, which marks what is wrong."""
OTHER, BACKGROUND, WRONG, EMPTY, IGNORED = "#a5a5a5", "#c4c4c4", "#d40000", "#f1f1f1", "#8a8a8a"
LINES = (60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400)
"""Seconds that a line may be long, where there are several."""
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
"""Seconds between ticks."""
MOST_LINES, ONE_LINE, MOST_BANDS = 8, 120.0, 16

# inches
_WIDTH, _RIGHT, _EDGE = 13.0, 0.25, 0.15
_BAND, _HALF, _GAP, _MARK = 0.3, 0.11, 0.04, 0.09
_SCORES, _ABOVE, _TICKS, _BETWEEN = 0.75, 0.1, 0.25, 0.2
_TITLE, _ROW = 0.32, 0.22
_LETTER = 0.082
_DPI = 110


@dataclass(frozen=True)
class Palette:
    """The colours of classes, the same in all pictures of an evaluation."""

    colours: dict[str, str]
    """Class → colour, those that sound longest first."""

    @classmethod
    def of(cls, evaluation: Evaluation) -> Palette:
        """Colours for the classes of an evaluation."""
        seconds = seconds_of(s for track in evaluation.tracks for s in (*track.truth, *track.predicted))
        shown = [label for track in evaluation.tracks if track.curves for label in track.curves.labels]
        order = dict.fromkeys([*seconds, *shown])
        order.pop(background := evaluation.options.naming.background or "", None)
        colours = {label: COLOURS[i] if i < len(COLOURS) else OTHER for i, label in enumerate(order)}
        return cls({**colours, background: BACKGROUND})

    def __getitem__(self, label: str) -> str:
        return self.colours.get(label, OTHER)


@dataclass(frozen=True)
class _Band:
    """A row of a line."""

    name: str
    parts: tuple[tuple[Segment, ...], ...]
    """One above the other."""
    height: float
    """Inches."""


def draw(track: Track, laid: Laid, evaluation: Evaluation, palette: Palette) -> bytes:
    """Draw one recording.

    Args:
        track: its segments and scores.
        laid: the same on the grid.
        evaluation: that the recording is a part of; with several labels at a time every class has a band.
        palette: colours.

    Returns:
        The bytes of a PNG file, equal for equal inputs.
    """
    # the object-oriented interface alone: pyplot would keep the figure and may look for a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    several = evaluation.several
    bands, left_out = _bands(track, several)
    starts, length = lines_of(track.grid.seconds)
    left = 0.35 + _LETTER * max(len(shorten(band.name)) for band in (*bands, _Band("predicted", (), 0)))
    legend = (
        [] if several and not track.curves else _legend_rows(track, bands, several, palette, _WIDTH - left)
    )
    block = sum(band.height + _GAP for band in bands) + _MARK + _TICKS
    block += _SCORES + _ABOVE if track.curves else 0.0
    height = 2 * _EDGE + _TITLE + _ROW * len(legend) + len(starts) * (block + _BETWEEN)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    _title(figure, track, laid, evaluation, left_out)
    _draw_legend(figure, legend, left, height - _EDGE - _TITLE)
    top = height - _EDGE - _TITLE - _ROW * len(legend)
    wrong = wrong_stretches(laid, track.grid, evaluation.silent)
    for i, start in enumerate(starts):
        place = _Place(figure, left, top - i * (block + _BETWEEN), start, length, track.grid.seconds)
        _line(place, bands, wrong, track, several, palette)
    return _png(canvas)


def lines_of(seconds: float) -> tuple[list[float], float]:
    """Where the lines of a picture begin, and how long each is, in seconds."""
    if seconds <= ONE_LINE:
        return [0.0], seconds
    longest = next(
        (n for n in LINES if math.ceil(seconds / n) <= MOST_LINES), math.ceil(seconds / MOST_LINES)
    )
    lines, step = math.ceil(seconds / longest), tick_step(longest)
    length = math.ceil(seconds / lines / step) * step  # no line is much emptier than the others
    return [float(i * length) for i in range(math.ceil(seconds / length))], float(length)


def tick_step(length: float) -> float:
    """Seconds between the ticks of a line."""
    return next((step for step in STEPS if length / step <= 12), length / 12)


def tick_name(seconds: float, step: float) -> str:
    """``1:05``, ``0:01.5`` where ticks lie closer than a second, ``1:00:05`` from an hour on."""
    if step < 1:
        minutes = int(seconds // 60)
        return f"{minutes}:{seconds - 60 * minutes:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shorten(name: str, most: int = 24) -> str:
    """A class's name where room is little."""
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


# ── what is where ────────────────────────────────────────────────────────────────────────────────


def _bands(track: Track, several: bool) -> tuple[list[_Band], int]:
    """The rows of each line, and how many classes are left out for want of room."""
    if not several:
        return [
            _Band("truth", ((*track.truth, *track.filled),), _BAND),
            _Band("predicted", (track.predicted,), _BAND),
        ], 0
    order = list(seconds_of((*track.truth, *track.filled, *track.predicted))) or ["nothing"]
    bands = [
        _Band(label, (_of((*track.truth, *track.filled), label), _of(track.predicted, label)), 2 * _HALF)
        for label in order[:MOST_BANDS]
    ]
    return bands, max(0, len(order) - MOST_BANDS)


def _of(segments: Iterable[Segment], label: str) -> tuple[Segment, ...]:
    return tuple(segment for segment in segments if segment.label == label)


@dataclass(frozen=True)
class _Place:
    """Where a line stands."""

    figure: Figure
    left: float
    top: float
    """Inches from the bottom of the figure."""
    start: float
    """Seconds at its left."""
    length: float
    """Seconds it has room for."""
    seconds: float
    """End of the recording."""

    def axes(self, below: float, height: float) -> Axes:
        """Axes `below` inches under the line's top; shorter where the recording ends within the line."""
        width, whole = self.figure.get_size_inches()
        room = width - self.left - _RIGHT
        used = min(self.length, self.seconds - self.start) / self.length
        bottom = (self.top - below - height) / whole
        axes = self.figure.add_axes((self.left / width, bottom, used * room / width, height / whole))
        axes.set_xlim(self.start, self.start + used * self.length)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8)
        axes.set_xticks([])
        return axes

    @property
    def pixel(self) -> float:
        """Seconds of a pixel: nothing that is drawn is thinner."""
        return self.length / ((_WIDTH - self.left - _RIGHT) * _DPI)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


def _line(
    place: _Place,
    bands: Sequence[_Band],
    wrong: Sequence[tuple[float, float]],
    track: Track,
    several: bool,
    palette: Palette,
) -> None:
    below = 0.0
    for band in bands:
        axes = place.axes(below, band.height)
        _draw_band(axes, place, band, track.ignored, several, palette)
        below += band.height + _GAP
    axes = place.axes(below, _MARK)
    _bars(axes, place, wrong, WRONG, 0.0, 1.0)
    axes.set_yticks([0.5], ["wrong"])
    axes.set_ylim(0, 1)
    axes.yaxis.get_ticklabels()[0].set_color(WRONG)
    below += _MARK
    if track.curves is not None:
        axes = place.axes(below + _ABOVE, _SCORES)
        _draw_scores(axes, place, track.curves, track, palette)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color("#888888")
    _ticks(axes, place)


def _draw_band(
    axes: Axes, place: _Place, band: _Band, ignored: Sequence[Segment], several: bool, palette: Palette
) -> None:
    axes.set_facecolor(EMPTY)
    axes.set_ylim(0, 1)
    share = 1 / len(band.parts)
    for i, part in enumerate(band.parts):
        bottom = 1 - (i + 1) * share
        strength = 0.6 if several and i else 1.0
        by_label: dict[str, list[tuple[float, float]]] = {}
        for segment in part:
            by_label.setdefault(segment.label, []).append((segment.start, segment.end))
        for label, spans in by_label.items():
            _bars(axes, place, spans, palette[label], bottom, share, strength)
        if not several:
            _write_names(axes, place, part, palette)
    spans = [(s.start, s.end) for s in ignored]
    for start, end in _visible(place, spans):
        axes.axvspan(start, end, facecolor="none", edgecolor=IGNORED, hatch="////", linewidth=0)
    axes.set_yticks([0.5], [shorten(band.name)])
    name = axes.yaxis.get_ticklabels()[0]
    name.set_parse_math(False)  # a dollar sign is a dollar sign
    if several:
        axes.axhline(0.5, color="white", linewidth=0.6)
        name.set_color(_dark(palette[band.name]))


def _visible(place: _Place, spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The parts of spans within a line, each at least a pixel wide."""
    first, last = place.start, place.start + place.length
    cut = [(max(start, first), min(end, last)) for start, end in spans if start < last and end > first]
    return [(start, max(end, start + place.pixel)) for start, end in cut]


def _bars(
    axes: Axes,
    place: _Place,
    spans: Iterable[tuple[float, float]],
    colour: str,
    bottom: float,
    height: float,
    strength: float = 1.0,
) -> None:
    seen = [(start, end - start) for start, end in _visible(place, spans)]
    if seen:
        # a thin edge parts neighbours of one colour; on narrow ones it would leave nothing
        edges = [0.5 if width > 6 * place.pixel else 0.0 for _, width in seen]
        axes.broken_barh(
            seen, (bottom, height), facecolors=colour, edgecolors="white", linewidths=edges, alpha=strength
        )


def _write_names(axes: Axes, place: _Place, part: Iterable[Segment], palette: Palette) -> None:
    """Names within the segments that have room for them."""
    inch = place.length / (_WIDTH - place.left - _RIGHT)
    for segment in part:
        for start, end in _visible(place, [(segment.start, segment.end)]):
            if (end - start) / inch > _LETTER * 0.85 * len(segment.label) + 0.1:
                ink = "white" if _luminance(palette[segment.label]) < 0.5 else "black"
                text = axes.text((start + end) / 2, 0.47, segment.label, ha="center", va="center", fontsize=8)
                text.set_color(ink)
                text.set_parse_math(False)


def _draw_scores(axes: Axes, place: _Place, curves: Curves, track: Track, palette: Palette) -> None:
    middles = track.grid.middles
    seen = (middles >= place.start - 1) & (middles <= place.start + place.length + 1)
    for label, scores in reversed(list(zip(curves.labels, curves.scores.T, strict=True))):
        axes.plot(middles[seen], scores[seen], color=palette[label], linewidth=1.1)
    top = 0.5 if np.nanmax(curves.scores, initial=0.0) <= 0.5 else 1.0
    axes.set_ylim(0, 1.02 * top)
    axes.set_yticks([0, top / 2, top], ["0", "score", f"{top:g}"])
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _ticks(axes: Axes, place: _Place) -> None:
    step = tick_step(place.length)
    last = min(place.start + place.length, place.seconds)
    places = [place.start + i * step for i in range(int((last - place.start) / step + 1e-6) + 1)]
    axes.set_xticks(places, [tick_name(seconds, step) for seconds in places])
    axes.tick_params(axis="x", length=3, color="#888888", labelsize=8)


def _title(figure: Figure, track: Track, laid: Laid, evaluation: Evaluation, left_out: int) -> None:
    width, height = figure.get_size_inches()
    counted = laid.counted(evaluation.silent)
    right = percent(float(laid.right()[counted].mean())) if counted.any() else None
    told = f"right {right} of the time{'' if evaluation.silent else ' with truth'}"
    parts = [track.name, clock(track.grid.resolution * track.grid.cells), *([told] if right else [])]
    if evaluation.several:
        parts.append("each class: truth above, predicted below")
    if left_out:
        parts.append(f"{left_out} more classes not shown")
    text = figure.text(
        0.15 / width, 1 - (_EDGE + 0.12) / height, "  ·  ".join(parts), fontsize=10, va="center"
    )
    text.set_parse_math(False)


def _legend_rows(
    track: Track, bands: Sequence[_Band], several: bool, palette: Palette, room: float
) -> list[list[tuple[str, str]]]:
    """Names and colours, as many to a row as fit."""
    curves = track.curves.labels if track.curves else ()
    named = {band.name for band in bands} if several else set()
    wanted = [] if several else seconds_of((*track.truth, *track.predicted))
    labels = [label for label in dict.fromkeys([*wanted, *curves]) if label not in named]
    entries = [(shorten(label), palette[label]) for label in labels if palette[label] != OTHER]
    if len(entries) < len(labels):
        entries.append(("other classes", OTHER))
    if track.ignored:
        entries.append(("ignored", IGNORED))
    rows: list[list[tuple[str, str]]] = []
    used = math.inf
    for name, colour in entries:
        needed = _entry_width(name)
        if used + needed > room:
            rows.append([])
            used = 0.0
        rows[-1].append((name, colour))
        used += needed
    return rows


def _entry_width(name: str) -> float:
    return 0.4 + _LETTER * len(name)


def _draw_legend(figure: Figure, rows: Sequence[Sequence[tuple[str, str]]], left: float, top: float) -> None:
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    for i, row in enumerate(rows):
        x, y = left, top - (i + 0.5) * _ROW
        for name, colour in row:
            size = (0.15 / width, 0.11 / height)
            figure.add_artist(Rectangle((x / width, (y - 0.055) / height), *size, color=colour, linewidth=0))
            text = figure.text((x + 0.2) / width, y / height, name, fontsize=8, va="center_baseline")
            text.set_parse_math(False)
            x += _entry_width(name)


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.3 * red + 0.59 * green + 0.11 * blue


def _dark(colour: str) -> str:
    """A class's colour, dark enough to be read on white."""
    factor = min(1.0, 0.45 / _luminance(colour))
    return "#" + "".join(f"{round(int(colour[i : i + 2], 16) * factor):02x}" for i in (1, 3, 5))


def _png(canvas: object) -> bytes:
    png = io.BytesIO()
    with warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes; a warning for each letter helps nobody
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        canvas.figure.savefig(  # type: ignore[attr-defined]
            png, format="png", metadata={"Software": None}
        )  # the library's version would change the bytes
    return png.getvalue()
