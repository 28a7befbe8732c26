"""A picture of how long the clips of a data set are: of all of them, and of each class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeaudio.data.clips import Clips
from edgeaudio.data.preview import write
from edgeaudio.data.waveforms import Waveforms
from edgeaudio.errors import DataError

_BINS = 40
_ROW, _WIDTH = 0.55, 8.0  # inches: of a class, and of the picture


def draw_durations(clips: Clips, waveforms: Waveforms, path: Path) -> Path:
    """Histograms of the clips' lengths, with the mean and the 5th and 95th percentile.

    Args:
        clips: the table.
        waveforms: its waveforms, in the same order.
        path: the PNG file to write; its folder is made where missing.

    Returns:
        `path`.

    Raises:
        DataError: `path` doesn't end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise DataError(f"{path}: the picture is a PNG file; let its name end in .png")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seconds = np.array([s.seconds for s in waveforms.stats])
    of_class = {
        label: seconds[[i for i, clip in enumerate(clips) if label in clip.labels]] for label in clips.classes
    }
    edges = _edges(seconds)
    figure = Figure(figsize=(_WIDTH, 2.6 + _ROW * len(of_class)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [4.0, *[1.0] * len(of_class)]
    whole, *rows = np.ravel(
        figure.subplots(len(ratios), 1, sharex=True, gridspec_kw={"height_ratios": ratios}, squeeze=False)
    )
    whole.hist(seconds, edges, color="#4c78a8")
    whole.set_ylabel("clips")
    low, high = (float(np.percentile(seconds, share)) for share in (5, 95))
    for value, name, style in ((low, "5 %", ":"), (float(seconds.mean()), "mean", "-"), (high, "95 %", "--")):
        whole.axvline(value, color="#222222", linestyle=style, linewidth=1, label=f"{name}: {value:.2f} s")
    whole.legend(fontsize=8, frameon=False)
    whole.set_title(f"{len(clips):,} clips, {seconds.min():.2f} to {seconds.max():.2f} s", fontsize=10)
    for axes, (label, own) in zip(rows, of_class.items(), strict=True):
        axes.hist(own, edges, color="#9ecae9")
        axes.set_ylabel(f"{label} ({len(own)})", rotation=0, ha="right", va="center", fontsize=8)
        axes.set_yticks([])
    figure.axes[-1].set_xlabel("seconds")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return write(Path(path), buffer.getvalue())


def _edges(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(seconds.min()), float(seconds.max())
    if high - low < 1e-3:  # all alike: a bar in the middle says so
        low, high = low - 0.5, high + 0.5
    return np.linspace(max(low, 0.0), high, _BINS + 1)
