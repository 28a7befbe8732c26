"""A trained model and its front end → one static ONNX graph: waveform in, scores out.

The front end and the network are exported apart and joined at the tensor `log_mel`. So the integers of
`quantization.py` can never reach the front end, and the graph can be split again at that name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from edgeaudio.config import FrontEndSpec
from edgeaudio.export.activation import to_scores
from edgeaudio.frontend import OpenLogMel, build_static_front_end
from edgeaudio.models import Model
from edgeaudio.predictor import EMBEDDING

OPSET = 20
WAVEFORM, LOG_MEL, LOGITS, SCORES = "waveform", "log_mel", "logits", "scores"


class _Head(nn.Module):
    """The network with its softmax or sigmoid: log-mel → scores and logits."""

    def __init__(self, model: nn.Module, several: bool) -> None:
        super().__init__()
        self.model, self.several = model, several

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(log_mel)
        return to_scores(logits, self.several), logits


class _EmbeddingHead(nn.Module):
    """The same with the embedding as a third answer, worked out once for both."""

    def __init__(self, model: Model, several: bool) -> None:
        super().__init__()
        self.model, self.several = model, several

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with _worked_out_once(self.model):
            logits = self.model(log_mel)
            embedding = self.model.embed(log_mel)
        return to_scores(logits, self.several), logits, embedding


@contextlib.contextmanager
def _worked_out_once(model: Model) -> Iterator[None]:
    """Let the steps that logits and embedding have in common be traced a single time."""
    shared = [name for name in ("features", "embed") if callable(getattr(model, name, None))]
    for name in shared:
        object.__setattr__(model, name, functools.cache(getattr(model, name)))
    try:
        yield
    finally:
        for name in shared:
            object.__delattr__(model, name)


def export_front_end(spec: FrontEndSpec, samples: int | None) -> onnx.ModelProto:
    """Graph `waveform (batch, samples)` → `log_mel (batch, 1, mels, frames)`, in float32.

    Args:
        spec: the front end, of kind ``log_mel`` where the length is open.
        samples: length of every waveform; None leaves it open.
    """
    if samples is None:
        module, example = OpenLogMel(spec), torch.zeros(2, 2 * spec.n_fft + 1)
        return _export(
            module, example, [WAVEFORM], [LOG_MEL], {1: torch.export.Dim("samples", min=spec.n_fft + 1)}
        )
    return _export(build_static_front_end(spec, samples), torch.zeros(2, samples), [WAVEFORM], [LOG_MEL])


def export_model(
    model: Model, input_shape: tuple[int, int, int, int], *, embedding: bool = False, several: bool = False
) -> onnx.ModelProto:
    """Graph `log_mel (batch, 1, mels, frames)` → `scores` and `logits`, both `(batch, classes)`.

    What can be folded into weights is folded: by the model itself, and batch norms by the exporter.

    Args:
        model: trained, in evaluation mode.
        input_shape: of one log-mel, `(1, 1, mels, frames)`.
        embedding: also give what the network knows before it decides, ``embedding (batch, features)``.
        several: a clip may have several labels: each score is a sigmoid, else all are one softmax.
    """
    example = torch.zeros(2, *input_shape[1:])
    if embedding:
        outputs = [SCORES, LOGITS, EMBEDDING]
        return _export(_EmbeddingHead(model.folded(), several), example, [LOG_MEL], outputs)
    return _export(_Head(model.folded(), several), example, [LOG_MEL], [SCORES, LOGITS])


def join(front_end: onnx.ModelProto, model: onnx.ModelProto, metadata: dict[str, object]) -> onnx.ModelProto:
    """The front end followed by the model; `metadata` is stored as JSON strings under `edgeaudio.*`."""
    front_end, model = _prefixed(front_end, "frontend/"), _prefixed(model, "model/")
    version = max(front_end.ir_version, model.ir_version)
    front_end.ir_version = model.ir_version = version
    _share_opsets(front_end, model)
    joined = onnx.compose.merge_models(front_end, model, io_map=[(LOG_MEL, LOG_MEL)])
    joined.producer_name = "edgeaudio"
    joined.graph.name = "edgeaudio"
    onnx.helper.set_model_props(joined, {f"edgeaudio.{k}": json.dumps(v) for k, v in metadata.items()})
    onnx.checker.check_model(joined, full_check=True)
    return joined


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph with all its weights in the one file."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _export(
    module: nn.Module,
    example: Tensor,
    inputs: list[str],
    outputs: list[str],
    open_axes: dict[int, torch.export.Dim] | None = None,
) -> onnx.ModelProto:
    shapes = {0: torch.export.Dim("batch", min=1), **(open_axes or {})}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # the exporter warns about its own deprecations and prints its progress
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True, external_data=False, opset_version=OPSET,
            input_names=inputs, output_names=outputs, dynamic_shapes=(shapes,), verbose=False,
        )  # fmt: skip
    assert program is not None
    return _stripped(program.model_proto)


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporter's notes for debugging: file names, which differ from machine to machine."""
    model.doc_string = ""
    model.producer_version = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    return model


def _prefixed(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    keep = {WAVEFORM, LOG_MEL, SCORES, LOGITS, EMBEDDING}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)

    def rename(name: str) -> str:
        return name if not name or name in keep else prefix + name

    for node in copy.graph.node:
        node.name = rename(node.name)
        for names in (node.input, node.output):
            names[:] = [rename(name) for name in names]
    for tensor in copy.graph.initializer:
        tensor.name = rename(tensor.name)
    del copy.graph.value_info[:]
    return copy


def _share_opsets(*models: onnx.ModelProto) -> None:
    """Give all the same operator set imports, which joining asks for."""
    versions: dict[str, int] = {}
    for model in models:
        for opset in model.opset_import:
            versions[opset.domain] = max(versions.get(opset.domain, 0), opset.version)
    for model in models:
        del model.opset_import[:]
        model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in sorted(versions.items()))
