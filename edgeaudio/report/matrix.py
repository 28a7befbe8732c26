"""The confusion matrix as inline SVG, from 2 classes to 50 and more."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from edgeaudio.report.charts import CHAR, FONT, svg

FAINTEST = 0.14
"""Strength of a single mistake among very many clips: still to be seen."""
DARK_CELL = 0.68
"""From this strength on a cell's number is written in the page's background colour."""


def heat_map(counts: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> Markup:
    """A confusion matrix: rows are true classes, columns predicted ones, strength the share of the row.

    Zeros stay empty; the numbers are left out when they would not fit their cells.

    Args:
        counts: `(classes, classes)` clips.
        labels: the classes' names, in the same order.
        title: what a screen reader says.
    """
    n = len(labels)
    assert n, "a confusion matrix needs classes"
    assert [len(row) for row in counts] == [n] * n, "counts must be (classes, classes)"
    cell = float(min(40, max(13, 600 // n)))
    font = min(FONT, cell - 2)
    digits = len(str(max(max(row) for row in counts)))
    numbers = cell >= 18 and digits * font * CHAR <= cell - 3
    names = [shorten(name) for name in labels]
    gutter = max(len(name) for name in names) * font * CHAR + 8
    slanted = cell >= 24  # narrower columns leave no room for slanted names
    above = gutter * (0.75 if slanted else 1.0) + 22
    left, side = gutter + 18, cell * n
    body = [_matrix_axes(left, above, side), _matrix_names(names, labels, left, above, cell, font, slanted)]
    body.append(_matrix_cells(counts, labels, left, above, cell, numbers))
    overhang = gutter * 0.75 - cell / 2 if slanted else 2.0
    return svg("heat", left + side + max(overhang, 2.0), above + side + 2, title, body, font)


def shorten(name: str, limit: int = 22) -> str:
    """A name cut to `limit` characters, with an ellipsis in the middle of what was lost."""
    return name if len(name) <= limit else name[: limit - 1].rstrip() + "…"


def _matrix_axes(left: float, above: float, side: float) -> Markup:
    return Markup(
        '<rect class="field" x="{0:.1f}" y="{1:.1f}" width="{2:.1f}" height="{2:.1f}"/>'
        '<text class="tick" x="{0:.1f}" y="12">predicted →</text>'
        '<text class="tick" text-anchor="end" transform="translate(12 {1:.1f}) rotate(-90)">← true</text>'
    ).format(left, above, side)


def _matrix_names(
    names: Sequence[str],
    labels: Sequence[str],
    left: float,
    above: float,
    cell: float,
    font: float,
    slanted: bool,
) -> Markup:
    row = Markup('<text text-anchor="end" x="{:.1f}" y="{:.1f}">{}<title>{}</title></text>')
    column = Markup('<text transform="translate({:.1f} {:.1f}) rotate({})">{}<title>{}</title></text>')
    turn, shift = (-45, 0.1) if slanted else (-90, 0.35)
    parts = []
    for i, (name, full) in enumerate(zip(names, labels, strict=True)):
        middle = (i + 0.5) * cell
        parts.append(row.format(left - 6, above + middle + font * 0.35, name, full))
        parts.append(column.format(left + middle + font * shift, above - 6, turn, name, full))
    return Markup("").join(parts)


def _matrix_cells(
    counts: Sequence[Sequence[int]],
    labels: Sequence[str],
    left: float,
    above: float,
    cell: float,
    numbers: bool,
) -> Markup:
    square = Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}">'
        "<title>{} heard as {}: {} of {}</title></rect>"
    )
    figure = Markup('<text class="{}" text-anchor="middle" x="{:.1f}" y="{:.1f}">{}</text>')
    parts = []
    for i, row in enumerate(counts):
        for j, hits in enumerate(row):
            if not hits:
                continue
            x, y, share = left + j * cell, above + i * cell, hits / sum(row)
            css, strength = "hit" if i == j else "miss", FAINTEST + (1 - FAINTEST) * share
            parts.append(
                square.format(
                    css, x + 0.5, y + 0.5, cell - 1, cell - 1, strength, labels[i], labels[j], hits, sum(row)
                )
            )
            if numbers:
                ink = "strong" if strength >= DARK_CELL else "weak"
                parts.append(figure.format(ink, x + cell / 2, y + cell / 2 + 4, hits))
    return Markup("").join(parts)
