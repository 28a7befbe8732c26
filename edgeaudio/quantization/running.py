"""A graph's own tensors, as ONNX Runtime computes them, a few windows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime

from edgeaudio.quantization.grids import Floats

BATCH = 16
"""Windows a call."""


def tensors_of(
    model: onnx.ModelProto, names: Sequence[str], inputs: Floats, batch: int = BATCH
) -> Iterator[dict[str, Floats]]:
    """What the named tensors hold for runs of windows.

    Args:
        model: a graph with one input.
        names: its tensors; the input's own name is allowed.
        inputs: `(windows, …)`.
        batch: windows in a run; a graph that takes a fixed number gets that many.

    Yields:
        name → `(≤ batch, …)`; only one run's tensors are held in memory.
    """
    graph = model.graph
    given = graph.input[0].name
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    wanted = [name for name in dict.fromkeys(names) if name != given]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    batch = batch_of(model, batch)
    for start in range(0, len(inputs), batch):
        piece = np.ascontiguousarray(inputs[start : start + batch])
        values = dict(zip(wanted, session.run(wanted, {given: piece}), strict=True))
        yield values | ({given: piece} if given in names else {})


def spread(windows: Floats, most: int) -> Floats:
    """At most so many of the windows `(windows, …)`, evenly spread."""
    return windows[np.linspace(0, len(windows) - 1, min(most, len(windows))).astype(np.int64)]


def batch_of(model: onnx.ModelProto, wanted: int = BATCH) -> int:
    """Windows that a graph takes at once: as many as wanted, unless their number is fixed in it."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    return int(axes[0].dim_value or wanted) if axes else wanted
