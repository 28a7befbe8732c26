"""ONNX files for the runtimes that read them as they are: ONNX Runtime, its browser build, OpenVINO."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch

from edgeaudio.bundle import graph_file
from edgeaudio.config import Target
from edgeaudio.export import onnx as graphs
from edgeaudio.export.targets import Pieces
from edgeaudio.frontend import build_front_end
from edgeaudio.quantization import quantize


def integers(pieces: Pieces, target: Target) -> onnx.ModelProto:
    """The network in the target's integers: as given, or found from the calibration windows."""
    if pieces.integers is not None:
        return pieces.integers
    log_mels = build_front_end(pieces.spec)(torch.from_numpy(pieces.calibration)).numpy()
    return quantize(pieces.network, log_mels, target).model


def write(pieces: Pieces, target: Target, folder: Path) -> dict[str, Path]:
    """Write the graphs, waveform in, scores and logits out; see `edgeaudio.export.targets`."""
    files = {}
    for precision in target.precisions:
        network = pieces.network
        if precision == "int8":
            network = integers(pieces, target)
        files[precision] = folder / graph_file(precision, target.runtime)
        graphs.save(graphs.join(pieces.front_end, network, pieces.metadata), files[precision])
    return files
