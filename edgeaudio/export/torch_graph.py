"""What the runtimes that are fed from torch share: the graph as one module, and its calibration."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgeaudio.errors import DataError
from edgeaudio.export.activation import to_scores
from edgeaudio.export.targets import Pieces
from edgeaudio.frontend import build_static_front_end

OUTPUTS = ("scores", "logits")
"""Outputs of `WaveformGraph`, in this order; also in files whose format knows no names."""


class WaveformGraph(nn.Module):
    """Waveform `(1, samples)` → scores and logits `(1, classes)`.

    Args:
        front_end: waveform → log-mel.
        network: log-mel → logits, in float or in integers.
        several: a clip may have several labels (see `to_scores`).
    """

    def __init__(self, front_end: nn.Module, network: nn.Module, several: bool) -> None:
        super().__init__()
        self.front_end, self.network, self.several = front_end, network, several

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits = self.network(self.front_end(waveform))
        return to_scores(logits, self.several), logits


def waveform_graph(pieces: Pieces, network: nn.Module | None = None) -> WaveformGraph:
    """The whole graph, around another network than the trained one where that is given."""
    front_end = build_static_front_end(pieces.spec, pieces.window).eval()
    network = pieces.model.folded().eval() if network is None else network
    return WaveformGraph(front_end, network, pieces.several)


def calibration_log_mels(pieces: Pieces) -> Tensor:
    """The log-mels `(windows, 1, mels, frames)` that integer ranges are taken from.

    Raises:
        DataError: there is no calibration data, or it gives NaN or infinite log-mels.
    """
    if not len(pieces.calibration):
        raise DataError("there is no clip to calibrate with; ranges are never made up")
    front_end = build_static_front_end(pieces.spec, pieces.window)
    with torch.no_grad():
        windows = torch.from_numpy(np.ascontiguousarray(pieces.calibration))
        log_mels = torch.cat([front_end(window[None]) for window in windows])
    if not torch.isfinite(log_mels).all():
        raise DataError(
            "the calibration clips give NaN or infinite log-mels; look at them with: edgeaudio data inspect"
        )
    return log_mels
