"""The pictures of a search: accuracy over cost with the front, and the best value trial by trial."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgeaudio.report.charts import CHAR, FONT, percentage, plain, svg, ticks

WIDTH, HEIGHT = 520.0, 300.0
FOOT, GAP = 40.0, 18.0  # under the plot, and at its right
RADIUS = 4.5


@dataclass(frozen=True)
class Point:
    """One trial in a picture."""

    x: float
    y: float
    label: str
    """What a pointer shows."""
    name: str = ""
    """Written beside it; empty writes nothing."""
    front: bool = False
    """Whether no other trial beats it."""
    css: str = "student"
    """The class that gives the colour."""


@dataclass(frozen=True)
class Axis:
    """One axis: its ticks, and where a value lies."""

    marks: Sequence[float]
    name: str
    label: Callable[[float, float], str]
    """`(value, step)` → text of a tick."""

    def at(self, value: float) -> float:
        """0 at the first tick, 1 at the last."""
        return (value - self.marks[0]) / (self.marks[-1] - self.marks[0])

    @property
    def texts(self) -> list[str]:
        """Of the ticks."""
        step = self.marks[1] - self.marks[0]
        return [self.label(mark, step) for mark in self.marks]


def axis(
    values: Sequence[float], name: str, share: bool = False, integer: bool = False, unit: float = 1.0
) -> Axis:
    """An axis that holds all values; a share ends at 100 %.

    Args:
        values: what will be drawn.
        name: written beside it.
        share: values between 0 and 1, written as percentages.
        integer: no tick lies between whole numbers.
        unit: ticks are written as multiples of it.
    """
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
        low, high = (max(low, 0.0), min(high, 1.0)) if share else (low, high)
    marks = ticks(low / unit, high / unit, integer=integer)
    if share:
        marks = [mark for mark in marks if -1e-9 <= mark <= 1 + 1e-9]
    return Axis([mark * unit for mark in marks], name, _label(share, unit))


def _label(share: bool, unit: float) -> Callable[[float, float], str]:
    if share:
        return percentage
    return lambda value, step: plain(value / unit, step / unit)


def scatter(
    title: str, points: Sequence[Point], x: Axis, y: Axis, up: bool, limit: float | None = None
) -> Markup:
    """Trials as discs; those on the front are filled, named, and joined by the stairs they make.

    Args:
        title: what a screen reader says.
        points: the trials.
        x: what it costs.
        y: what it is worth.
        up: whether more of y is better.
        limit: the largest x that is allowed, drawn as a line.
    """
    px, py, frame, corners = _frame(x, y)
    _, right, top, bottom = corners
    body = [frame]
    if limit is not None and x.marks[0] <= limit <= x.marks[-1]:
        body.append(_limit(px(limit), top, bottom, right))
    front = sorted((p for p in points if p.front), key=lambda p: (p.x, -p.y if up else p.y))
    stairs = []
    for before, after in itertools.pairwise(front):
        stairs.append(f"H{px(after.x):.1f}V{py(after.y):.1f}")
        assert before.x <= after.x
    if front:
        path = f"M{px(front[0].x):.1f} {py(front[0].y):.1f}{''.join(stairs)}H{right:.1f}"
        body.append(Markup('<path class="line front" d="{}"/>').format(path))
    body += [_disc(p, px(p.x), py(p.y)) for p in sorted(points, key=lambda p: p.front)]
    body += _names([p for p in points if p.name], px, py, [(px(p.x), py(p.y)) for p in points], corners)
    return svg("chart search", WIDTH, HEIGHT, title, body)


def steps(
    title: str, points: Sequence[Point], best: Sequence[tuple[float, float]], x: Axis, y: Axis
) -> Markup:
    """Each trial's value as a disc, and the best so far as a line.

    Args:
        title: what a screen reader says.
        points: the trials by number.
        best: `(trial, value)` wherever the best changes, in order.
        x: the trials.
        y: the value.
    """
    px, py, frame, (_, right, _, _) = _frame(x, y)
    body = [frame]
    if best:
        path = f"M{px(best[0][0]):.1f} {py(best[0][1]):.1f}"
        path += "".join(f"H{px(a):.1f}V{py(b):.1f}" for a, b in best[1:]) + f"H{right:.1f}"
        body.append(Markup('<path class="line front" d="{}"/>').format(path))
    body += [_disc(p, px(p.x), py(p.y)) for p in points]
    return svg("chart search", WIDTH, HEIGHT, title, body)


Corners = tuple[float, float, float, float]


def _frame(x: Axis, y: Axis) -> tuple[Callable[[float], float], Callable[[float], float], Markup, Corners]:
    """Where values lie, the axes, and left, right, top and bottom of the plot."""
    left = max(len(text) for text in y.texts) * FONT * CHAR + 14
    top, right, bottom = 32.0, WIDTH - GAP, HEIGHT - FOOT

    def px(value: float) -> float:
        return left + x.at(value) * (right - left)

    def py(value: float) -> float:
        return bottom - y.at(value) * (bottom - top)

    row = Markup(
        '<line class="grid" x1="{1:.1f}" x2="{2:.1f}" y1="{0:.1f}" y2="{0:.1f}"/>'
        '<text class="tick" text-anchor="end" x="{3:.1f}" y="{4:.1f}">{5}</text>'
    )
    column = Markup(
        '<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>'
        '<text class="tick" text-anchor="middle" x="{0:.1f}" y="{3:.1f}">{4}</text>'
    )
    name = Markup('<text class="tick" text-anchor="{}" x="{:.1f}" y="{:.1f}">{}</text>')
    parts = [
        row.format(py(mark), left, right, left - 7, py(mark) + 4, text)
        for mark, text in zip(y.marks, y.texts, strict=True)
    ]
    parts += [
        column.format(px(mark), bottom, bottom + 4, bottom + 18, text)
        for mark, text in zip(x.marks, x.texts, strict=True)
    ]
    parts.append(name.format("start", 0.0, 11.0, y.name))
    parts.append(name.format("middle", (left + right) / 2, HEIGHT - 5, x.name))
    return px, py, Markup("").join(parts), (left, right, top, bottom)


def _limit(x: float, top: float, bottom: float, right: float) -> Markup:
    anchor, beside = ("end", x - 5) if x + 40 > right else ("start", x + 5)
    return Markup(
        '<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>'
        '<text class="limit" text-anchor="{3}" x="{4:.1f}" y="{5:.1f}">limit</text>'
    ).format(x, top, bottom, anchor, beside, bottom - 6)


def _disc(point: Point, x: float, y: float) -> Markup:
    css = f"{point.css} {'best' if point.front else 'rest'}"
    return Markup('<circle class="disc {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
        css, x, y, RADIUS + 1 if point.front else RADIUS, point.label
    )


def _names(
    points: Sequence[Point],
    px: Callable[[float], float],
    py: Callable[[float], float],
    discs: Sequence[tuple[float, float]],
    corners: Corners,
) -> list[Markup]:
    """Each name where it covers the fewest discs and names."""
    left, right, top, bottom = corners
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in discs]
    written = []
    for point in points:
        wide = len(point.name) * (FONT - 1) * CHAR
        x, y = px(point.x), py(point.y)
        boxes = [
            (x + dx, y + dy, x + dx + wide, y + dy + FONT)
            for dx, dy in (
                (-wide / 2, -21),
                (8, -6),
                (-8 - wide, -6),
                (-wide / 2, 9),
                (8, -19),
                (-8 - wide, 7),
            )
        ]
        inside = [b for b in boxes if b[0] >= left and b[2] <= right and b[1] >= top - 12 and b[3] <= bottom]
        box = min(inside or boxes, key=lambda b: sum(_meet(b, other) for other in taken))
        taken.append(box)
        written.append(
            Markup('<text class="name" x="{:.1f}" y="{:.1f}">{}</text>').format(
                box[0], box[3] - 2, point.name
            )
        )
    return written


def _meet(a: Sequence[float], b: Sequence[float]) -> float:
    """The area that two boxes share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)
