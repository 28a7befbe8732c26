"""Official counts of one architecture at many widths, with one forward pass for each geometry.

The official rules need two things of a layer: its weights, and, if it is a convolution, the positions of its
output. Positions don't change with the width, so they are taken from one official count and reused while the
layers keep their names; what is left is building the network and adding up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeaudio.complexity.official import official

if TYPE_CHECKING:  # torch itself is imported with the first count
    from torch import nn

Walk = list[tuple[str, int]]
"""Called leaves in their order, each with the positions of its output (1 if it is no convolution)."""


class Layer(NamedTuple):
    """One call of a convolution or a linear layer."""

    fan_in: int
    """Products in each value of its output."""
    channels: int
    """Of its output."""
    positions: int
    """Of its output; 1 for a linear layer."""


class Cost(NamedTuple):
    """What one variant costs, and what its shape could express."""

    params: int
    macs: int
    """By the official rules."""
    capacity: float
    largest_map: int
    """Values in the largest output of a convolution, or in the input where that is larger."""


class Costs:
    """Counts variants of one architecture.

    Args:
        name: of the architecture.
        classes: number of logits.
        reuse: whether positions outlive a change of width; not where channels become an axis of an image.
    """

    def __init__(self, name: str, classes: int, reuse: bool = True) -> None:
        self.name, self.classes, self.reuse = name, classes, reuse
        self._walks: dict[Any, Walk] = {}

    def build(self, options: dict[str, Any]) -> nn.Module:
        """A fresh network; the random state of torch is left as it was."""
        import torch

        from edgeaudio.models import build

        with torch.random.fork_rng(devices=[]):
            return build(self.name, self.classes, **options)

    def of(self, options: dict[str, Any], shape: tuple[int, ...], geometry: str) -> Cost:
        """Cost of the network with these options at this input; `geometry` names all but its width.

        Raises:
            RecipeError: an option is impossible, or the network can't take the shape.
        """
        model = self.build(options)
        leaves = {name: module for name, module in model.named_modules() if not any(module.children())}
        key = (geometry, shape, tuple(leaves))
        if key not in self._walks or not self.reuse:
            self._walks[key] = walk(model, shape)
        layers, macs = [], 0
        for name, positions in self._walks[key]:
            module = leaves[name]
            macs += sum(p.numel() for p in _counted(module)) * positions
            weight = getattr(module, "weight", None)
            if weight is not None and weight.dim() > 1:
                layers.append(Layer(weight[0].numel(), weight.shape[0], positions))
        params = sum(p.numel() for p in model.parameters())
        largest = max([math.prod(shape), *(layer.channels * layer.positions for layer in layers)])
        return Cost(params, macs, capacity(layers), largest)


def walk(model: nn.Module, shape: tuple[int, ...]) -> Walk:
    """The leaves that an official count met, and the positions of the convolutions among them."""
    rows = [row for row in official(model, shape).layers if row.output_shape]
    return [(row.name, math.prod(row.output_shape[2:]) if "Conv" in row.kind else 1) for row in rows]


def capacity(layers: list[Layer]) -> float:
    """Entropy that a network of this shape could reach: log(values of the last map) × Σ log(fan-in).

    The sum runs over all layers but the classifier; the last map is what the last convolution among them
    answers. It grows with depth, width and resolution, is comparable within one architecture only, and is no
    forecast of accuracy: training, data and receptive field don't enter.

    Source: Shen et al., "DeepMAD: Mathematical Architecture Design for Deep Convolutional Neural Network",
    CVPR 2023.
    """
    body = layers[:-1] or layers
    last = next((layer for layer in reversed(body) if layer.positions > 1), body[-1])
    return math.log(last.channels * last.positions) * sum(math.log(layer.fan_in) for layer in body)


def _counted(module: nn.Module) -> list[nn.Parameter]:
    # longer names count, too, by another rule; no architecture that we vary has them, and `fit` checks that
    return [p for name, p in module.named_parameters() if name in ("weight", "bias")]
