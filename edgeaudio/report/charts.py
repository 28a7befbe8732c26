"""Charts as inline SVG, written by hand: pure functions from numbers to markup.

Colours come from the page's style sheet by class, so a chart follows the light and the dark scheme.
Lengths are SVG user units, about one CSS pixel on a laptop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgeaudio.report.formats import is_number

CHAR = 0.58  # mean width of a character, in units of the font size
FONT = 12.0


@dataclass(frozen=True)
class Series:
    """One line of a line chart."""

    name: str
    """Its entry in the legend."""
    points: Sequence[tuple[float, float | None]]
    """`(x, y)` in rising x; a y that is missing or not finite leaves a gap."""
    css: str = "other"
    """The class that gives the colour."""
    dash: int = 0
    """0 is solid; 1, 2, … are dash patterns for lines of one colour."""


# --- axes ---------------------------------------------------------------------------------------------


def ticks(low: float, high: float, wanted: int = 5, integer: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) whose first and last enclose `low`–`high`."""
    assert low <= high, (low, high)
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= wanted + 1e-9)
    if integer:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def plain(value: float, step: float) -> str:
    """A tick's label with the decimals that its step needs."""
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def percentage(value: float, step: float) -> str:
    """A tick's label for a share between 0 and 1."""
    return plain(value * 100, step * 100) + "%"


# --- line chart ---------------------------------------------------------------------------------------


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str = "epoch",
    label: Callable[[float, float], str] = plain,
    y_limit: float = math.inf,
    width: float = 400.0,
    height: float = 200.0,
) -> Markup:
    """Lines over a whole-numbered x axis, with a legend; an empty string if no point is finite.

    Args:
        title: what a screen reader says and a pointer shows.
        series: the lines; one `path` each.
        x_label: written under the x axis.
        label: `(value, step)` → text of a y tick.
        y_limit: no y tick lies above (1 for a share).
        width: of the whole chart.
        height: of the plot and the x axis; the legend comes on top.
    """
    points = [(x, float(y)) for s in series for x, y in s.points if y is not None and is_number(y)]
    if not points:
        return Markup()
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_ticks = [t for t in ticks(min(ys), max(ys)) if t <= max(y_limit, max(ys)) + 1e-12]
    step = y_ticks[1] - y_ticks[0] if len(y_ticks) > 1 else 1.0
    names = [label(tick, step) for tick in y_ticks]
    left = max(len(name) for name in names) * FONT * CHAR + 12
    legend, top = _legend(series, width)
    right, bottom = width - 8, top + height - 36

    def px(x: float) -> float:
        return left + (x - min(xs)) / ((max(xs) - min(xs)) or 1) * (right - left)

    def py(y: float) -> float:
        return bottom - (y - y_ticks[0]) / ((y_ticks[-1] - y_ticks[0]) or 1) * (bottom - top)

    body = [legend, _y_axis([py(t) for t in y_ticks], names, left, right)]
    body.append(_x_axis(min(xs), max(xs), px, bottom, x_label, (left + right) / 2))
    for s in series:
        body.append(
            Markup('<path class="line {} d{}" d="{}"/>').format(s.css, s.dash % 4, _path(s.points, px, py))
        )
    return svg("chart", width, top + height, title, body)


def _path(
    points: Sequence[tuple[float, float | None]], px: Callable[[float], float], py: Callable[[float], float]
) -> str:
    parts, pen = [], "M"
    for i, (x, y) in enumerate(points):
        if y is None or not is_number(y):
            pen = "M"
            continue
        parts.append(f"{pen}{px(x):.1f} {py(y):.1f}")
        alone = pen == "M" and (i + 1 == len(points) or not is_number(points[i + 1][1]))
        if alone:
            parts.append("h0")  # round line caps make it a dot
        pen = "L"
    return "".join(parts)


def _legend(series: Sequence[Series], width: float) -> tuple[Markup, float]:
    """The entries, flowing into rows, and the y where the plot may begin."""
    entries, x, y = [], 0.0, 12.0
    for s in series:
        needed = 24 + len(s.name) * FONT * CHAR + 14
        if x and x + needed > width:
            x, y = 0.0, y + 18
        entries.append(
            Markup(
                '<line class="line {} d{}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>'
                '<text x="{:.1f}" y="{}">{}</text>'
            ).format(s.css, s.dash % 4, x + 1, x + 18, y - 4, y - 4, x + 24, y, s.name)
        )
        x += needed
    return Markup("").join(entries), y + 16


def _y_axis(heights: Sequence[float], names: Sequence[str], left: float, right: float) -> Markup:
    row = Markup(
        '<line class="grid" x1="{1:.1f}" x2="{2:.1f}" y1="{0:.1f}" y2="{0:.1f}"/>'
        '<text class="tick" text-anchor="end" x="{3:.1f}" y="{4:.1f}">{5}</text>'
    )
    rows = [row.format(y, left, right, left - 6, y + 4, name) for y, name in zip(heights, names, strict=True)]
    return Markup("").join(rows)


def _x_axis(
    low: float, high: float, px: Callable[[float], float], bottom: float, name: str, middle: float
) -> Markup:
    mark = Markup(
        '<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>'
        '<text class="tick" text-anchor="middle" x="{0:.1f}" y="{3:.1f}">{4:.0f}</text>'
    )
    inside = [t for t in ticks(low, high, 6, integer=True) if low <= t <= high]
    body = [mark.format(px(t), bottom, bottom + 4, bottom + 17, t) for t in inside]
    body.append(
        Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{:.1f}">{}</text>').format(
            middle, bottom + 33, name
        )
    )
    return Markup("").join(body)


# --- bars ---------------------------------------------------------------------------------------------


def bars(values: Sequence[tuple[str, float | None]], maximum: float, title: str) -> Markup:
    """Thin horizontal bars, one under the other, as wide as their table cell.

    Args:
        values: `(class, value)`; a missing value leaves its row empty.
        maximum: the value that fills the width.
        title: what a pointer shows; the numbers themselves stand beside the bars.
    """
    thick, gap = (5, 2) if len(values) > 1 else (8, 0)
    height = len(values) * (thick + gap) - gap
    rows = [Markup('<rect class="track" x="0" y="0" width="100" height="{}"/>').format(height)]
    for i, (css, value) in enumerate(values):
        share = value / maximum if value is not None and is_number(value) and maximum > 0 else 0.0
        rows.append(
            Markup('<rect class="bar {}" x="0" y="{}" width="{:.2f}" height="{}"/>').format(
                css, i * (thick + gap), 100 * min(max(share, 0.0), 1.0), thick
            )
        )
    head = Markup(
        '<svg class="bars" viewBox="0 0 100 {0}" height="{0}" preserveAspectRatio="none" '
        'aria-hidden="true"><title>{1}</title>'
    ).format(height, title)
    return head + Markup("").join(rows) + Markup("</svg>")


def columns(counts: Sequence[float], css: str, title: str) -> Markup:
    """A small histogram, one column beside the other, drawn on a logarithmic scale.

    Args:
        counts: how many values lie in each step; equal steps.
        css: the class that gives the colour.
        title: what a pointer shows.
    """
    heights = [math.log1p(max(count, 0.0)) for count in counts]
    most = max(heights, default=0.0) or 1.0
    rects = [
        Markup('<rect class="bar {}" x="{}" y="{:.1f}" width="1" height="{:.1f}"/>').format(
            css, place, 24 - 24 * height / most, 24 * height / most
        )
        for place, height in enumerate(heights)
        if height
    ]
    head = Markup(
        '<svg class="columns" viewBox="0 0 {} 24" width="{}" height="24" preserveAspectRatio="none" '
        'role="img"><title>{}</title>'
    ).format(len(counts), len(counts), title)
    return head + Markup("").join(rects) + Markup("</svg>")


# --- frame -----------------------------------------------------------------------------------------------


def svg(
    css: str, width: float, height: float, title: str, body: Sequence[Markup], font: float = FONT
) -> Markup:
    """The frame of a chart: `width` × `height` user units, named by its title."""
    head = Markup(
        '<svg class="{}" role="img" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" '
        'font-size="{:g}"><title>{}</title>'
    ).format(css, width, height, width, height, font, title)
    return head + Markup("").join(body) + Markup("</svg>")
