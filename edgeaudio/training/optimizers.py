"""The optimiser of a training, as its settings say."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgeaudio.config import TrainSpec


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD with Nesterov momentum over what isn't frozen."""
    groups = _groups(model, spec)
    if spec.optimizer == "sgd":
        nesterov = spec.momentum > 0
        return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=nesterov)
    kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=spec.learning_rate, amsgrad=spec.amsgrad)


def _groups(model: nn.Module, spec: TrainSpec) -> list[dict[str, Any]]:
    learning = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in learning if p.dim() > 1 or spec.decay_all]
    # decaying scales and biases pulls normalisation towards zero for no gain
    rest = [p for p in learning if p.dim() <= 1 and not spec.decay_all]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": spec.weight_decay}]
    return groups + ([{"params": rest, "weight_decay": 0.0}] if rest else [])
