"""A confusion matrix and a scatter plot as PNG files; equal inputs give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
_LETTER = 0.082  # inches of a letter at 9 points, on average
_MARKERS = "os^DvP*X"
_LEGEND_ROWS = 25
_NUMBERED = 30
"""Up to this many classes the cells of a confusion matrix hold numbers."""


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str) -> bytes:
    """A confusion matrix, coloured by the share of each row, with the counts in it.

    Args:
        counts: `(classes, classes)` rows: truth, columns: answers.
        classes: their names.
        title: stands above.
    """
    names = [_short(name) for name in classes]
    n, margin = len(names), max(len(name) for name in names) * _LETTER + 0.5
    side = max(2.4, n * (0.42 if n <= _NUMBERED else 0.2))
    width, height = max(margin + side + 1.1, len(title) * _LETTER + 0.4), margin + side + 0.5
    figure = _figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    font = 9 if n <= _NUMBERED else 7
    axes.set_xticks(range(n), names, rotation=90, fontsize=font)
    axes.set_yticks(range(n), names, fontsize=font)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    if n <= _NUMBERED:
        # a digit is some 0.65 of its font's size wide; an inch has 72 points
        digits = len(str(counts.max()))
        size = min(9.0, 0.9 * 72 * side / n / (0.65 * digits))
        for i, j in zip(*np.nonzero(counts), strict=True):
            ink = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=ink, fontsize=size)
    bar = figure.add_axes(((margin + side + 0.15) / width, margin / height, 0.15 / width, side / height))
    figure.colorbar(image, cax=bar).set_label("share of the true class", fontsize=9)
    figure.text(0.2 / width, 1 - 0.28 / height, title, fontsize=10)
    return _png(figure)


def draw_scatter(
    points: NDArray[np.float64],
    labels: Sequence[str] | None,
    classes: Sequence[str],
    title: str,
    axis: str,
) -> bytes:
    """Points in the plane, coloured by label.

    Twenty colours times eight marks keep up to 160 classes apart; the legend stands beside, in columns.

    Args:
        points: `(instances, 2)`.
        labels: `(instances,)`; None draws all alike, without a legend.
        classes: their names, in the order of the legend.
        title: stands above.
        axis: what the axes are called, before their number.
    """
    names = [name for name in classes if name in set(labels)] if labels is not None else []
    columns = -(-len(names) // _LEGEND_ROWS)
    longest = max((len(_short(name)) for name in names), default=0)
    legend = columns * (longest * _LETTER + 0.42) + 0.3 if names else 0.2
    height = max(6.2, min(len(names), _LEGEND_ROWS) * 0.23 + 1.0)
    width = 7.0 + legend
    figure = _figure(width, height)
    axes = figure.add_axes((0.75 / width, 0.65 / height, 6.2 / width, 1 - 1.1 / height))
    size = float(np.clip(9000 / len(points), 6, 36))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, alpha=0.7, linewidths=0)
    else:
        _by_label(axes, points, np.asarray(labels), names, size)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1.01), ncols=columns, fontsize=9, frameon=False,
            handletextpad=0.3, columnspacing=1.0, labelspacing=0.35,
            markerscale=(30 / size) ** 0.5,
        )  # fmt: skip
    axes.set_xlabel(f"{axis} 1")
    axes.set_ylabel(f"{axis} 2")
    axes.tick_params(labelsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    return _png(figure)


def _by_label(
    axes: Any, points: NDArray[np.float64], labels: NDArray[Any], names: Sequence[str], size: float
) -> None:
    from matplotlib import colormaps

    pairs = colormaps["tab20"].colors  # type: ignore[attr-defined]
    colours = [*pairs[::2], *pairs[1::2]]  # the strong ones first
    for i, name in enumerate(names):
        mark = _MARKERS[i // len(colours) % len(_MARKERS)]
        axes.scatter(
            *points[labels == name].T, s=size, alpha=0.8, linewidths=0, marker=mark,
            color=colours[i % len(colours)], label=_short(name),
        )  # fmt: skip


def _short(name: str, limit: int = 26) -> str:
    """A name cut in its middle: long names often differ at their end alone."""
    half = (limit - 1) // 2
    return name if len(name) <= limit else f"{name[: limit - 1 - half].rstrip()}…{name[-half:].lstrip()}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    return out.getvalue()
