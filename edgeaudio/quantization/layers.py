"""What rounding does to each layer: its weights, its output, its range, as rows for a report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from edgeaudio.quantization import Quantised
from edgeaudio.quantization.grids import Floats, Quantiser, decibels, snr_db
from edgeaudio.quantization.observers import Observed
from edgeaudio.quantization.placement import WEIGHTED, Layer
from edgeaudio.quantization.running import tensors_of
from edgeaudio.quantization.writing import constants

BINS = 64
FLOAT_BITS = 32


def layer_rows(
    quantised: Quantised, log_mels: Floats, exact: onnx.ModelProto | None = None
) -> list[dict[str, Any]]:
    """A row for each node with weights, in order of execution.

    Args:
        quantised: the network.
        log_mels: windows `(windows, 1, mels, frames)` on which both networks are run.
        exact: the float network to compare with, whose tensors have the same names; the one that was
            quantised if None.

    Returns:
        Plain JSON values: ``node``, ``op``, ``weight``; ``in_float`` and ``bits`` of the weight;
        ``weight_sqnr_db`` and ``output_snr_db``, of what is handed on, behind the activation, None where
        nothing differs; ``range`` ``[low, high]`` of the output's integers and ``clipped``, the share of
        calibration values outside it, None where it isn't rounded; ``weight_histogram`` and
        ``activation_histogram``: ``low``, ``high`` and ``counts`` in 64 steps.
    """
    exact = exact or quantised.original
    original = constants(exact)
    layers = {layer.node: layer for layer in quantised.placement.layers}
    nodes = [n for n in exact.graph.node if n.op_type in WEIGHTED and n.input[1] in original]
    results = {node.name: _result(layers.get(node.name), node) for node in nodes}
    snr = _output_snr(quantised, exact, results, log_mels)
    rows = []
    for node in nodes:
        layer = layers.get(node.name)
        weight = original[node.input[1]]
        quantiser = quantised.weights[layer.weight] if layer else None
        tensor = layer.rounded_output if layer else None
        rows.append(
            {
                "node": node.name,
                "op": node.op_type,
                "weight": node.input[1],
                "in_float": layer is None,
                "bits": quantiser.grid.bits if quantiser else FLOAT_BITS,
                "weight_sqnr_db": _finite(snr_db(weight, _stored(quantised, layer, weight))),
                "output_snr_db": _finite(snr[node.name]),
                **_range(quantised, tensor),
                "weight_histogram": _histogram(weight),
                "activation_histogram": _seen(quantised, tensor),
            }
        )
    return rows


def _stored(quantised: Quantised, layer: Layer | None, weight: Floats) -> Floats:
    """What the integers of the file stand for."""
    if layer is None:
        return weight
    return quantised.weights[layer.weight].rounded(constants(quantised.source)[layer.weight])


def _result(layer: Layer | None, node: onnx.NodeProto) -> str:
    return (layer.rounded_output if layer else None) or node.output[0]


def _output_snr(
    quantised: Quantised, exact: onnx.ModelProto, results: dict[str, str], log_mels: Floats
) -> dict[str, float]:
    """Of every node's result, in dB, over all windows."""
    made = {name for node in quantised.model.graph.node for name in node.output}
    rounded = {t: f"{t}/rounded" if f"{t}/rounded" in made else t for t in results.values()}
    power = dict.fromkeys(rounded, 0.0)
    noise = dict.fromkeys(rounded, 0.0)
    pairs = zip(
        tensors_of(exact, list(rounded), log_mels),
        tensors_of(quantised.model, list(rounded.values()), log_mels),
        strict=True,
    )
    for before, after in pairs:
        for name in rounded:
            a, b = before[name].astype(np.float64), after[rounded[name]].astype(np.float64)
            power[name] += float(np.vdot(a, a))
            noise[name] += float(np.vdot(a - b, a - b))
    return {node: decibels(power[t], noise[t]) for node, t in results.items()}


def _seen(quantised: Quantised, tensor: str | None) -> dict[str, Any] | None:
    return quantised.observed[tensor].histogram(BINS) if tensor in quantised.observed else None


def _range(quantised: Quantised, tensor: str | None) -> dict[str, Any]:
    if tensor not in quantised.activations:  # weights alone are in integers
        return {"range": None, "clipped": None}
    low, high = _ends(quantised.activations[tensor])
    return {"range": [low, high], "clipped": _clipped(quantised.observed[tensor], low, high)}


def _ends(quantiser: Quantiser) -> tuple[float, float]:
    """The smallest and the largest value that the integers stand for."""
    scale, zero = float(quantiser.scale), int(quantiser.zero_point)
    return (quantiser.grid.low - zero) * scale, (quantiser.grid.high - zero) * scale


def _clipped(observed: Observed, low: float, high: float) -> float:
    """Share of the values beyond the ends."""
    if observed.counts is None or not observed.counts.sum():
        return 0.0
    outside = (observed.centres < low) | (observed.centres > high)
    return float(observed.counts[outside].sum() / observed.counts.sum())


def _histogram(weight: Floats) -> dict[str, Any]:
    counts, edges = np.histogram(weight, BINS)
    return {"low": float(edges[0]), "high": float(edges[-1]), "counts": counts.tolist()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
