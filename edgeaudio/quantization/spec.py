"""How a network's integers are found."""

from __future__ import annotations

from dataclasses import dataclass

from edgeaudio.config import require
from edgeaudio.errors import RecipeError, did_you_mean

_CHOICES = {
    "method": ("ptq", "qat"),
    "observer": ("minmax", "percentile", "mse"),
    "rounding": ("nearest", "adaptive"),
}


@dataclass(frozen=True)
class QuantSpec:
    """Post-training quantisation, and training with the integers in the loop."""

    method: str = "ptq"
    """``ptq``: after training; ``qat``: then the weights are trained on, with the rounding in place."""
    observer: str = "mse"
    """Range of an activation: ``minmax``, ``percentile`` or ``mse`` (least squared error)."""
    percentile: float = 99.99
    """Share of the values inside the range, in percent."""
    equalise: bool = False
    """Even out the channels' ranges between neighbouring layers; for weights without a scale per channel."""
    bias_correction: bool = True
    """Take each channel's mean error, on calibration windows, out of its bias."""
    rounding: str = "nearest"
    """Of weights: ``nearest``, or ``adaptive`` to what the layer gives (AdaRound)."""
    weight_bits: int = 8
    """8, or 4: weights alone are stored in 4 bits, and all is computed in float."""
    float_layers: tuple[str, ...] = ()
    """Nodes of the network that stay in float."""
    scan: bool = False
    """Put every layer alone into integers, to show which bears them badly."""
    epochs: int = 3
    """``qat``: passes over the training windows."""
    learning_rate: float = 3e-5
    """``qat``: peak of the schedule."""

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise RecipeError(f"quantize: {name} is {value!r}; {did_you_mean(str(value), known)}")
        require(self.weight_bits in (4, 8), f"quantize: weight_bits is {self.weight_bits}; use 8 or 4")
        require(
            50 < self.percentile <= 100, f"quantize: percentile is {self.percentile}; it lies in (50, 100]"
        )
        require(self.epochs > 0, f"quantize: epochs is {self.epochs}; it must be positive")
        rate = self.learning_rate
        require(rate > 0, f"quantize: learning_rate is {rate}; it must be positive")
        require(
            self.weight_bits == 8 or self.method == "ptq",
            "quantize: weights of 4 bits are found after training; use --method ptq",
        )
