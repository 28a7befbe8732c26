"""Which layers bear integers badly, and a network in which those are left in float.

The retreat is to float and not to 16-bit integers, because ONNX Runtime has no 16-bit convolution: it would
compute in float all the same, between two conversions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from edgeaudio.config import Target
from edgeaudio.errors import BoundError
from edgeaudio.export.onnx import LOGITS
from edgeaudio.quantization import Quantised, QuantSpec, quantize, ranges
from edgeaudio.quantization.equalise import equalise
from edgeaudio.quantization.grids import Floats, snr_db
from edgeaudio.quantization.observers import observe
from edgeaudio.quantization.placement import Placement, named, place
from edgeaudio.quantization.running import spread, tensors_of
from edgeaudio.quantization.writing import fit_weights, write

WINDOWS = 64
"""Windows that layers are compared on; the order of the layers settles with fewer."""


def sensitivity(
    model: onnx.ModelProto, log_mels: Floats, target: Target, spec: QuantSpec | None = None
) -> list[dict[str, Any]]:
    """Put every layer of the placement alone into integers, and compare the logits.

    Ranges are observed once for all. Bias correction and adaptive rounding are left out: they lessen every
    layer's error, but hardly change which is the largest, and cost more than all the rest.

    Args:
        model: float graph `log_mel` → `logits`.
        log_mels: calibration or validation windows `(windows, 1, mels, frames)`; at most `WINDOWS` of them,
            evenly spread, are used.
        target: the integers.
        spec: observer, bits, and which nodes are in float anyway; the defaults if None.

    Returns:
        A row for each layer, the most sensitive first: ``node``, ``op``, ``weight``, and ``snr_db`` of the
        logits against the float network, None where they don't differ.

    Raises:
        DataError: no windows, or NaN in them or in the network.
    """
    spec = spec or QuantSpec()
    source = named(model)
    if spec.equalise:
        source = equalise(source)
    log_mels = spread(log_mels, WINDOWS)
    layers = place(source, target, spec.float_layers).layers
    names = {layer.node for layer in layers}
    alone = {}
    for layer in layers:
        placement = place(source, target, {*spec.float_layers, *names - {layer.node}})
        alone[layer.node] = Placement({}, placement.layers, False) if spec.weight_bits < 8 else placement
    tensors = {tensor for placement in alone.values() for tensor in placement.readers}
    observed = observe(source, sorted(tensors), log_mels) if tensors else {}
    exact = _logits(source, log_mels)
    found: list[tuple[float, dict[str, Any]]] = []
    for layer in layers:
        placement = alone[layer.node]
        activations = ranges(placement, observed, target, spec)
        weights = fit_weights(source, placement, activations, target, spec.weight_bits)
        logits = _logits(write(source, placement, activations, weights), log_mels)
        snr = snr_db(exact.ravel(), logits.ravel())
        row = {"node": layer.node, "op": layer.op, "weight": layer.weight}
        found.append((snr, {**row, "snr_db": snr if math.isfinite(snr) else None}))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def mixed(
    model: onnx.ModelProto,
    log_mels: Floats,
    target: Target,
    spec: QuantSpec | None,
    drop_of: Callable[[Quantised], float],
    max_drop: float,
    train: Callable[[Quantised], Quantised] = lambda quantised: quantised,
    figure: str = "accuracy",
) -> tuple[Quantised, list[dict[str, Any]]]:
    """Let the most sensitive layers go back to float, one after another, until accuracy is kept.

    A layer goes back to float and not to 16-bit integers: ONNX Runtime has no 16-bit convolution and would
    compute it in float amid conversions, slower and no better.

    Args:
        model: float graph `log_mel` → `logits`.
        log_mels: calibration windows `(windows, 1, mels, frames)`, of training clips only.
        target: the integers.
        spec: technique; its `float_layers` are in float from the start.
        drop_of: fall of accuracy against the float network, as a share, on validation windows.
        max_drop: bound on it.
        train: what is done to each network once it is quantised; nothing unless told.
        figure: what falls, as it is called.

    Returns:
        The network, and a row for each layer that went back: ``layer``, ``drop`` with it and those before it
        in float, ``gained``, by how much that is less than before, and ``bytes`` by which the graph grew.

    Raises:
        BoundError: the bound is missed even with a single layer in integers.
    """
    spec = spec or QuantSpec()
    quantised = train(quantize(model, log_mels, target, spec))
    drop, size = drop_of(quantised), quantised.model.ByteSize()
    steps: list[dict[str, Any]] = []
    order = [row["node"] for row in sensitivity(model, log_mels, target, spec)] if drop > max_drop else []
    for node in order[:-1]:
        floats = (*spec.float_layers, *(step["layer"] for step in steps), node)
        quantised = train(quantize(model, log_mels, target, replace(spec, float_layers=floats)))
        before, drop = (drop, size), drop_of(quantised)
        size = quantised.model.ByteSize()
        steps.append({"layer": node, "drop": drop, "gained": before[0] - drop, "bytes": size - before[1]})
        if drop <= max_drop:
            break
    if drop > max_drop:
        raise BoundError(
            f"{figure} falls by {100 * drop:.1f} points, more than {100 * max_drop:g}, even with all layers "
            "but one in float, so nothing is left in integers; train on with --method qat, or export in float"
        )
    return quantised, steps


def _logits(model: onnx.ModelProto, log_mels: Floats) -> Floats:
    names = [value.name for value in model.graph.output]
    name = LOGITS if LOGITS in names else names[0]
    return np.concatenate([values[name] for values in tensors_of(model, [name], log_mels)])
