"""Pictures of what models cost: size against multiply-accumulates, with the limits as a box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeaudio.complexity.limits import Limits
from edgeaudio.config import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    from edgeaudio.complexity.compare import Comparison
    from edgeaudio.complexity.fit import Fit

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#555555"  # told apart by the colour-blind, too
SIZE = (8.0, 5.2)  # inches
DPI = 150
WIDE = 20  # axes whose largest value is more times the smallest are logarithmic
SIDES = (
    (1.0, 0.8),
    (1.0, -1.6),
    (-1.0, 0.8),
    (-1.0, -1.6),
    (0.0, 1.4),
    (0.0, -2.2),
    (2.2, -0.4),
    (-2.2, -0.4),
)
OFFSETS = tuple((8 * far * x, 8 * far * y) for far in (1, 2, 3.2, 4.6, 6.2, 8, 10, 12.5) for x, y in SIDES)
"""Where a label may stand beside its point, in points, the nearest first."""
NEAR = 18  # points; labels further off get a line to their point


def draw_comparison(comparison: Comparison, path: Path) -> Path:
    """Bytes and MACs of each model: a disc for what the official rules see, a ring for what really runs."""
    figure, axes = _figure()
    models = comparison.models
    sizes = [model.params * comparison.bits / 8e3 for model in models]
    macs = [model.macs / 1e6 for model in models]
    true = [model.true_macs / 1e6 for model in models]
    _frame(axes, sizes, [*macs, *true], comparison.limits, comparison.bits)
    axes.vlines(sizes, macs, true, color=GREY, linewidth=0.8, zorder=2)
    rings = axes.scatter(sizes, true, s=42, facecolors="white", edgecolors=ORANGE, linewidths=1.4, zorder=3)
    rings.set_label("true MACs, where they differ")
    axes.scatter(sizes, macs, s=46, color=BLUE, zorder=4, label="official MACs")
    front = [(model.params * comparison.bits / 8e3, model.macs / 1e6) for model in comparison.front]
    if len(front) > 1:
        axes.step(
            *zip(*front, strict=True), where="post", color=BLUE, linewidth=1, linestyle=":", zorder=1,
            label="no other is smaller and cheaper",
        )  # fmt: skip
    _finish(figure, axes, "What models cost", comparison.limits)
    points = [*zip(sizes, macs, strict=True), *zip(sizes, true, strict=True)]
    _label(figure, axes, [model.name for model in models], points)
    return _save(figure, path)


def draw_fit(fit: Fit, path: Path) -> Path:
    """Bytes, MACs and capacity of all candidates; those on the front have an edge, the start is a star."""
    figure, axes = _figure()
    rest = [candidate for candidate in fit.candidates if not candidate.on_front]
    sizes = [candidate.bytes / 1e3 for candidate in fit.candidates]
    macs = [candidate.macs / 1e6 for candidate in fit.candidates]
    _frame(axes, sizes, macs, fit.limits, fit.bits)
    low, high = _range([candidate.capacity for candidate in fit.candidates])
    style: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high}
    groups = ((rest, 10, "none", "others that fit"), (fit.front, 38, "black", "on the front"))
    for candidates, size, edge, label in groups:
        discs = axes.scatter(
            [c.bytes / 1e3 for c in candidates], [c.macs / 1e6 for c in candidates], s=size,
            c=[c.capacity for c in candidates], edgecolors=edge, linewidths=0.7,
            alpha=0.45 if edge == "none" else 1.0, zorder=3 if edge == "none" else 4, label=label, **style,
        )  # fmt: skip
    bar = figure.colorbar(discs, ax=axes, pad=0.02)
    bar.set_label("capacity: entropy its shape could reach (no accuracy)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    start = [c for c in fit.candidates if c.is_start]
    if start:
        axes.scatter(
            start[0].bytes / 1e3, start[0].macs / 1e6, s=170, marker="*", color=ORANGE, edgecolors="black",
            linewidths=0.7, zorder=5, label=f"{fit.start.name} as it is",
        )  # fmt: skip
    _finish(figure, axes, f"{fit.start.model.name} under {fit.limits.name}", fit.limits)
    return _save(figure, path)


def _figure() -> tuple[Figure, Axes]:
    # the object-oriented interface alone: pyplot would keep the figure and may look for a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _frame(axes: Axes, sizes: list[float], macs: list[float], limits: Limits | None, bits: int) -> None:
    """Scales, ranges and the box of the limits, before anything is drawn."""
    most_bytes, most_macs = _bounds(limits, bits)
    for name, values, bound in (("x", sizes, most_bytes), ("y", macs, most_macs)):
        low, high = _range([*values, *([bound] if bound else [])])
        wide = low > 0 and high > WIDE * low
        axes.set(**{f"{name}scale": "log" if wide else "linear"})
        axes.set(**{f"{name}lim": (low / 1.6, high * 1.9) if wide else (0, high * 1.15)})
    axes.set_xlabel(f"size of the parameters at {bits} bits, kB")
    axes.set_ylabel("multiply-accumulates of one inference, millions")
    if most_bytes is None and most_macs is None:
        return
    from matplotlib.patches import Rectangle

    right, top = axes.get_xlim()[1], axes.get_ylim()[1]
    x, y = axes.get_xlim()[0], axes.get_ylim()[0]
    box = Rectangle(
        (x, y), (most_bytes or right) - x, (most_macs or top) - y, color=GREEN, alpha=0.09, zorder=0
    )
    axes.add_patch(box)
    if most_bytes is not None:
        axes.plot([most_bytes] * 2, [y, most_macs or top], color=GREEN, linewidth=1.2, zorder=1)
    if most_macs is not None:
        axes.plot([x, most_bytes or right], [most_macs] * 2, color=GREEN, linewidth=1.2, zorder=1)


def _bounds(limits: Limits | None, bits: int) -> tuple[float | None, float | None]:
    """Size in kB and MACs in millions that the rules allow; a flash must hold the parameters at least."""
    if limits is None:
        return None, None
    params = None if limits.max_params is None else limits.max_params * bits / 8
    sizes = [size for size in (limits.max_bytes, limits.max_flash_bytes, params) if size is not None]
    return min(sizes) / 1e3 if sizes else None, None if limits.max_macs is None else limits.max_macs / 1e6


def _range(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)


def _finish(figure: Figure, axes: Axes, title: str, limits: Limits | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_title(title, fontsize=12, loc="left")
    if limits is not None:
        axes.set_title(f"box: {limits.name}", fontsize=9, loc="right", color=GREEN)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )


def _label(figure: Figure, axes: Axes, names: list[str], points: list[tuple[float, float]]) -> list[Bbox]:
    """Write each name beside its point, where it covers neither a point nor another name.

    The first points are those of the names, in their order; the others are only kept free.
    """
    figure.draw_without_rendering()
    renderer: RendererAgg = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken = [_around(axes, point) for point in points]
    for name, point in zip(names, points, strict=False):
        taken.append(_place(axes, name, point, taken, renderer).padded(2))
    return taken[len(points) :]


def _place(
    axes: Axes, name: str, point: tuple[float, float], taken: list[Bbox], renderer: RendererAgg
) -> Bbox:
    """Take the first place that is free and inside the axes; where none is, the one that covers least."""
    label = axes.annotate(
        name, point, xytext=OFFSETS[0], textcoords="offset points", fontsize=8, zorder=6,
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
    )  # fmt: skip
    label.set_parse_math(False)
    label.set_bbox({"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.5})
    inside = axes.get_window_extent(renderer)
    costs = []
    for offset in OFFSETS:
        box = _move(label, offset, renderer)
        outside = not (
            inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        )
        costs.append(sum(box.overlaps(other) for other in taken) + 10 * outside)
    return _move(label, OFFSETS[costs.index(min(costs))], renderer)


def _move(label: Annotation, offset: tuple[float, float], renderer: RendererAgg) -> Bbox:
    """The box of the text alone, without its line to the point."""
    from matplotlib.text import Text

    label.set_position(offset)
    if label.arrow_patch is not None:
        label.arrow_patch.set_visible(max(map(abs, offset)) > NEAR)
    label.set_horizontalalignment("left" if offset[0] > 0 else "right" if offset[0] < 0 else "center")
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)


def _around(axes: Axes, point: tuple[float, float]) -> Bbox:
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(point)
    return Bbox([[x - 8, y - 8], [x + 8, y + 8]])


def _save(figure: Figure, path: Path) -> Path:
    require(path.suffix in (".png", ".svg"), f"{path}: a picture's file ends in .png or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(path)
    return path
