"""Averages of weights: over the steps, and over the best epochs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StepAverage:
    """An exponential average of the weights over the steps; the model itself without a decay."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the model's weights."""
        self.decay = decay
        self.model = copy.deepcopy(model) if decay else model
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step's weights in."""
        if not self.decay:
            return
        self.steps += 1
        # a short memory at first, or the random beginning would linger
        keep = min(self.decay, self.steps / (self.steps + 10))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)


def mean_of(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several state dicts; whole numbers are those of the first.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018;
    here of the epochs with the lowest validation loss.
    """
    return {
        key: torch.stack([state[key] for state in states]).mean(0) if value.is_floating_point() else value
        for key, value in states[0].items()
    }
