"""What an autoencoder gives back, as pictures: a few sounds, and the loss over the epochs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeaudio.features.fit_data import Material
from edgeaudio.files import write_whole
from edgeaudio.models.layers import Autoencoder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 4
"""Sounds in a picture."""
_TIMES = 5  # pictures while a training goes on
# inches
_WIDTH, _PANEL_HEIGHT, _HEAD, _FOOT = 10.0, 1.8, 0.85, 0.5
_LONGEST_NAME = 44


@dataclass(frozen=True)
class Example:
    """One sound and what is made of it; each array `(time, bands)`."""

    name: str
    """Of the sound."""
    heard: NDArray[np.float32]
    """What goes in."""
    target: NDArray[np.float32]
    """What should come out: the input, turned round as the architecture wants it."""
    given: NDArray[np.float32]
    """What comes out."""

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return float(np.sqrt(np.square(self.given.astype(np.float64) - self.target).mean()))


def examples(model: Autoencoder, material: Material, device: torch.device) -> tuple[Example, ...]:
    """What a model makes of a few sounds, spread over those that the loss is measured on."""
    places = np.linspace(0, len(material.val) - 1, min(SHOWN, len(material.val))).astype(int)
    rows = material.val[places]
    heard = material.spectrograms[rows]
    model.eval()
    with torch.no_grad():
        given, target = (out.float().cpu().numpy() for out in model(torch.from_numpy(heard).to(device)))
    return tuple(
        Example(material.names[row], heard[k], target[k], given[k]) for k, row in enumerate(rows.tolist())
    )


def picture_epochs(epochs: int) -> set[int]:
    """Epochs, from 1 on, after which a picture is drawn: the first, and a few evenly spread ones."""
    return {1, *(max(1, round(epochs * k / _TIMES)) for k in range(1, _TIMES + 1))}


def draw(shown: Sequence[Example], path: Path, title: str) -> None:
    """Draw input, target and reconstruction side by side, one row a sound, all in one range of colours."""
    rows = len(shown)
    height = _HEAD + _FOOT + rows * _PANEL_HEIGHT
    figure = _figure(_WIDTH, height)
    # by hand: matplotlib's own layouts take longer than all the rest
    places = {"left": 0.07, "right": 0.885, "bottom": _FOOT / height, "top": 1 - _HEAD / height}
    grid = figure.subplots(
        rows,
        3,
        squeeze=False,
        sharex=True,
        sharey=True,
        gridspec_kw={**places, "hspace": 0.22, "wspace": 0.06},
    )
    low = float(min(min(each.target.min(), each.given.min()) for each in shown))
    high = float(max(max(each.target.max(), each.given.max()) for each in shown))
    for row, each in enumerate(shown):
        for axes, image in zip(grid[row], (each.heard, each.target, each.given), strict=True):
            mesh = axes.imshow(
                image.T, vmin=low, vmax=max(high, low + 1e-9), cmap="magma", origin="lower", aspect="auto",
                interpolation="nearest",
            )  # fmt: skip
        grid[row][0].set_ylabel("band")
        grid[row][0].set_title(f"{_short(each.name)}", fontsize=8, loc="left")
        grid[row][2].set_title(f"RMSE {each.rmse:.3f}", fontsize=8, loc="left")
    for axes, name in zip(grid[0], ("input", "target", "reconstruction"), strict=True):
        axes.annotate(
            name, (0.5, 1), (0, 20), "axes fraction", "offset points", ha="center", fontsize=10, weight="bold"
        )
    for axes in grid[-1]:
        axes.set_xlabel("frame")
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, va="top")
    bar = figure.add_axes((0.9, places["bottom"], 0.014, places["top"] - places["bottom"]))
    figure.colorbar(mesh, cax=bar, label="level, −1 silence to 1")
    _save(figure, path)


def draw_losses(history: Sequence[dict[str, Any]], path: Path, held_out: bool) -> None:
    """Draw the loss over the epochs."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.4, 3.6)
    figure.set_layout_engine("constrained")
    axes: Axes = figure.subplots()
    epochs = [row["epoch"] + 1 for row in history]
    val = "held-out sounds" if held_out else "the same sounds, nothing dropped"
    for key, name, style in (("train_loss", "training", "--"), ("val_loss", val, "-")):
        values = [row[key] for row in history]
        axes.plot(
            epochs, values, style, label=name, marker="o" if len(epochs) < 3 else "", color=_COLOURS[key]
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("RMSE")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


_COLOURS = {"train_loss": "#a76500", "val_loss": "#2b5fd0"}


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else "…" + name[-_LONGEST_NAME + 1 :]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # slow to import

    return Figure(figsize=(width, height), dpi=110)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_whole(path, buffer.getvalue())
