"""ExecuTorch files (.pte) for XNNPACK: the whole graph in float32, and with its network in int8.

The network is quantised before it is joined to the front end, so the integers can't reach either the front
end or what makes scores of the logits. Inside it, convolutions, products and sums take integers, those of a
global response norm too: left in float amid integers it is lowered to a memory layout that fails when it
runs, and on trained networks it made no difference (20.5 and 20.7 dB of signal to noise).
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from edgeaudio.bundle import graph_file
from edgeaudio.config import Target
from edgeaudio.errors import BoundError, BundleError
from edgeaudio.export.targets import Pieces
from edgeaudio.export.torch_graph import calibration_log_mels, waveform_graph
from edgeaudio.models.norms import SubSpectralNorm
from edgeaudio.runtimes import open_graph
from edgeaudio.runtimes.quiet import quiet

BATCH = 16  # windows


def write(pieces: Pieces, target: Target, folder: Path) -> dict[str, Path]:
    """Write the graphs, waveform in, scores and logits out; see `edgeaudio.export.targets`.

    Raises:
        BoundError: the network holds something that ExecuTorch has no kernel for.
        DataError: int8 is wanted, and the calibration clips are missing or broken.
    """
    log_mels = calibration_log_mels(pieces) if "int8" in target.precisions else torch.empty(0)
    files, floats = {}, _network(pieces)
    for precision in target.precisions:
        network = floats if precision == "fp32" else _quantised(floats, log_mels, target)
        files[precision] = folder / graph_file(precision, target.runtime)
        files[precision].write_bytes(_lowered(waveform_graph(pieces, network), pieces.window))
        _try(files[precision], pieces.window)
    return files


def _try(path: Path, window: int) -> None:
    """Run the file once: kernels and memory layouts that don't fit show only then."""
    try:
        open_graph("executorch", path).run("scores", np.zeros((1, window), np.float32))
    except BundleError as error:
        path.unlink()
        raise BoundError(
            f"ExecuTorch can't run what it made of this network ({error}); choose another"
        ) from error


class _Affine(nn.Module):
    """A batch norm in use: all its statistics are constants."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, values.detach()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def _network(pieces: Pieces) -> nn.Module:
    """A copy in which every batch norm can be folded or is written out.

    One by frequency bands can't be folded into the convolution before it. Left as it is, it would run outside
    XNNPACK, and torchao would search the graph for a whole minute for what to fold it into.
    """
    network = copy.deepcopy(pieces.model.folded()).eval()
    for module in network.modules():
        if isinstance(module, SubSpectralNorm):
            module.ssnorm = _Affine(module.ssnorm)  # type: ignore[assignment]
    return network


def _quantised(network: nn.Module, log_mels: Tensor, target: Target) -> nn.Module:
    """The network with its convolutions, products and sums in integers, with the ranges of the log-mels."""
    with quiet():
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        settings = xnnpack.get_symmetric_quantization_config(is_per_channel=target.per_channel)
        quantizer = xnnpack.XNNPACKQuantizer().set_global(settings)
        # batch norms are folded before the patterns are searched for, and building theirs takes seconds
        quantizer.SUPPORTED_PATTERNS = [p for p in quantizer.SUPPORTED_PATTERNS if "bn" not in p.name]
        # any number of windows: the observers' work is by the call, and in single windows it takes minutes
        example = torch.zeros(2, *log_mels.shape[1:])
        graph = _exported(network, example, torch.export.Dim("batch")).module()
        if target.float_input_layer:
            kept = _input_layer(graph)
            quantizer.set_filter_function(lambda node: node.name != kept)
        observed = prepare_pt2e(graph, quantizer)
        with torch.no_grad():
            for part in torch.split(log_mels, BATCH):
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
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
        from executorch.runtime import Runtime

        try:
            program = _exported(module, torch.zeros(1, window))
            # their checks after each of dozens of passes take half the time and have nothing to find
            settings = EdgeCompileConfig(_check_ir_validity=False)
            edge = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], compile_config=settings
            )
            lowered = edge.to_executorch()
        except Exception as error:  # exporter and backends raise classes of their own, without a common base
            raise BoundError(
                f"ExecuTorch can't take {_operator(error)} of this network; choose another model or target"
            ) from error
        missing = _called(lowered.exported_program().graph) - Runtime.get().operator_registry.operator_names
        if missing:
            raise BoundError(
                f"ExecuTorch can't take the operator {', '.join(sorted(missing))} of this network; "
                "choose another model or target"
            )
        return bytes(lowered.buffer)


def _called(graph: torch.fx.Graph) -> set[str]:
    """Names, as the runtime spells them, of the kernels that run outside XNNPACK."""
    schemas = [node.target._schema for node in graph.nodes if hasattr(node.target, "_schema")]
    return {f"{schema.name}.{schema.overload_name}".rstrip(".") for schema in schemas}


def _operator(error: Exception) -> str:
    """The operator that an error of the exporter is about, as far as it says so."""
    named = re.search(r"\baten(\.|::)\w+(\.\w+)?", str(error))
    return f"the operator {named[0]}" if named else f"an operator ({str(error).strip().splitlines()[-1]})"
