"""A float network → one in the integers of a target.

`place` says where it is rounded, `observe` what range each tensor has on training windows, `write` makes the
graph. Between them stand the techniques that lessen what rounding costs, each a function from a float network
to a float network. Batch norms are folded beforehand; what makes scores of the logits, and the front end,
stay in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edgeaudio.config import Target
from edgeaudio.errors import BoundError
from edgeaudio.quantization.bias import correct_biases
from edgeaudio.quantization.equalise import equalise
from edgeaudio.quantization.grids import Floats, Quantiser, activation_grid
from edgeaudio.quantization.observers import Observed, observe
from edgeaudio.quantization.placement import Placement, named, place
from edgeaudio.quantization.spec import QuantSpec
from edgeaudio.quantization.writing import fit_weights, with_constants, write

__all__ = ["QuantSpec", "Quantised", "quantize"]


@dataclass(frozen=True)
class Quantised:
    """A network in integers and how it came about."""

    model: onnx.ModelProto
    """``log_mel`` → ``scores``, ``logits``, with Q/DQ pairs."""
    source: onnx.ModelProto
    """The float network as the techniques left it; `model` is this one, rounded."""
    original: onnx.ModelProto
    """The float network as it came, its nodes named; equalised where that was asked for."""
    placement: Placement
    activations: dict[str, Quantiser]
    weights: dict[str, Quantiser]
    observed: dict[str, Observed]
    warnings: tuple[str, ...] = ()


def quantize(
    model: onnx.ModelProto, log_mels: Floats, target: Target, spec: QuantSpec | None = None
) -> Quantised:
    """Quantise a network after its training.

    Args:
        model: float graph with one input.
        log_mels: calibration inputs `(windows, 1, mels, frames)`, of training clips only.
        target: the integers, and what its runtime computes in them.
        spec: which techniques; the defaults if None.

    Raises:
        DataError: no calibration data, or NaN in it or in the network.
        BoundError: the network has no layer that could be in integers.
    """
    spec = spec or QuantSpec()
    source = named(model)
    if spec.equalise:
        source = equalise(source)
    original = source
    placement = place(source, target, spec.float_layers)
    if spec.weight_bits < 8:  # what counts is their bytes, and everything is computed in float
        placement = Placement({}, placement.layers, integer_biases=False)
    if not placement.layers:
        raise BoundError(
            f"no layer of this network can be in integers for {target.name}; export it in float instead"
        )
    observed = observe(source, list(placement.readers), log_mels)
    activations = ranges(placement, observed, target, spec)
    weights = fit_weights(source, placement, activations, target, spec.weight_bits)
    rounded: dict[str, Floats] = {}
    if spec.rounding == "adaptive":
        from edgeaudio.quantization.rounding import adapt_rounding  # needs torch, the rest doesn't

        rounded = adapt_rounding(source, placement, activations, weights, log_mels)
    elif spec.bias_correction:  # adapted weights leave no mean error, and correcting it would only add noise
        source, placement = correct_biases(source, placement, activations, weights, log_mels)
    source = with_constants(source, rounded)
    integer = write(source, placement, activations, weights)
    return Quantised(
        integer, source, original, placement, activations, weights, observed, _warnings(observed)
    )


def ranges(
    placement: Placement, observed: dict[str, Observed], target: Target, spec: QuantSpec
) -> dict[str, Quantiser]:
    """A quantiser for every tensor that is rounded; those that only move values share one."""
    grid, found = activation_grid(target), {}
    for tensor in placement.readers:
        first = tensor
        while first in placement.same:
            first = placement.same[first]
        found[tensor] = observed[first].fit(grid, spec.observer, spec.percentile)
    return found


def _warnings(observed: dict[str, Observed]) -> tuple[str, ...]:
    silent = [name for name, each in observed.items() if each.silent]
    return tuple(
        f"{name} is zero on every calibration window: that layer never fires, and a sound that wakes it "
        "will be clipped; train longer or calibrate with more clips"
        for name in silent
    )
