"""ExecuTorch files (.pte) for XNNPACK: the whole graph in float32, and with its network in int8.

The network is quantised before it is joined to the front end, so the integers can't reach either the front
end or the softmax.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from edgeaudio.bundle import graph_file
from edgeaudio.config import Target
from edgeaudio.errors import BoundError
from edgeaudio.export.targets import Pieces
from edgeaudio.export.torch_graph import calibration_log_mels, waveform_graph
from edgeaudio.models.layers import GlobalResponseNorm
from edgeaudio.models.norms import RelaxedFrequencyNorm, ResNorm
from edgeaudio.runtimes.quiet import quiet

BATCH = 16  # windows
NORMS = (GlobalResponseNorm, RelaxedFrequencyNorm, ResNorm)
"""They square, divide and take roots: 256 steps are too coarse for that, so they stay in float."""


def write(pieces: Pieces, target: Target, folder: Path) -> dict[str, Path]:
    """Write the graphs, waveform in, scores and logits out; see `edgeaudio.export.targets`.

    Raises:
        BoundError: the network holds something that ExecuTorch has no kernel for.
        DataError: int8 is wanted, and the calibration clips are missing or broken.
    """
    files = {}
    for precision in target.precisions:
        network = None if precision == "fp32" else _quantised(pieces, target)
        files[precision] = folder / graph_file(precision, target.runtime)
        files[precision].write_bytes(_lowered(waveform_graph(pieces, network), pieces.window))
    return files


def _quantised(pieces: Pieces, target: Target) -> nn.Module:
    """The network with its convolutions, products and sums in integers."""
    log_mels = calibration_log_mels(pieces)
    with quiet():
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        settings = xnnpack.get_symmetric_quantization_config(is_per_channel=target.per_channel)
        quantizer = xnnpack.XNNPACKQuantizer().set_global(settings)
        for norm in NORMS:
            quantizer.set_module_type(norm, None)
        network = pieces.model.folded().eval()
        # any number of windows: the observers' work is by the call, and in single windows it takes minutes
        example = torch.zeros(2, *pieces.input_shape[1:])
        graph = _exported(network, example, torch.export.Dim("batch")).module()
        if target.float_input_layer:
            kept = _input_layer(graph)
            quantizer.set_filter_function(lambda node: node.name != kept)
        observed = prepare_pt2e(graph, quantizer)
        with torch.no_grad():
            for part in log_mels.split(BATCH):
                observed(part)
        return cast(nn.Module, convert_pt2e(observed))


def _input_layer(graph: torch.fx.GraphModule) -> str:
    """Name of the first operator that multiplies the log-mel by weights; empty where there is none."""
    names = (n.name for n in graph.graph.nodes if re.match(r"aten\.(conv|linear|matmul)", str(n.target)))
    return next(names, "")


def _exported(
    module: nn.Module, example: Tensor, batch: torch.export.Dim | None = None
) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(
            module, (example,), dynamic_shapes=({0: batch},) if batch else None, strict=False
        )


def _lowered(module: nn.Module, window: int) -> bytes:
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            program = _exported(module, torch.zeros(1, window))
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
        except Exception as error:  # exporter and backends raise classes of their own, without a common base
            raise BoundError(
                f"ExecuTorch can't take {_operator(error)} of this network; choose another model or target"
            ) from error


def _operator(error: Exception) -> str:
    """The operator that an error of the exporter is about, as far as it says so."""
    named = re.search(r"\baten(\.|::)\w+(\.\w+)?", str(error))
    return f"the operator {named[0]}" if named else f"an operator ({str(error).strip().splitlines()[-1]})"
