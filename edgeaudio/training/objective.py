"""The loss of a training step, put together from what the recipe asks for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from edgeaudio import losses
from edgeaudio.config import Recipe
from edgeaudio.export.activation import to_scores
from edgeaudio.training.learner import Heard


@dataclass(frozen=True)
class Answer:
    """What teachers say of a batch."""

    probabilities: Tensor
    """`(batch, classes)` at the distillation temperature."""
    feature_map: Tensor | None = None
    """`(batch, channels, frequency, time)` of the first teacher."""
    embedding: Tensor | None = None
    """`(batch, features)` of the first teacher."""


@dataclass(frozen=True)
class Batch:
    """What one optimiser step, or a part of it, sees."""

    mel: Tensor
    """`(batch, 1, mels, frames)`."""
    targets: Tensor
    """`(batch, classes)` label distributions, or a 1 for each of several labels."""
    answer: Answer | None = None
    """Of the teachers."""
    devices: Tensor | None = None
    """`(batch, devices)` distributions."""

    def __len__(self) -> int:
        return len(self.mel)

    def rows(self, part: slice) -> Batch:
        """Some of the windows."""
        answer = self.answer and Answer(*(_cut(getattr(self.answer, f.name), part) for f in fields(Answer)))
        return Batch(self.mel[part], self.targets[part], answer, _cut(self.devices, part))


def _cut(values: Tensor | None, part: slice) -> Any:
    return None if values is None else values[part]


class Objective:
    """Hard loss, soft loss, features and device adversary, weighted as the recipe says."""

    def __init__(self, recipe: Recipe, class_weights: Tensor | None = None) -> None:
        """Keep the recipe's choices; `class_weights` `(classes,)` act on the hard loss."""
        self._train, self._distill = recipe.train, recipe.distill
        self._class_weights = class_weights

    def __call__(self, heard: Heard, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        logits, spec = heard.logits.float(), self._distill
        loss = self._hard(logits, batch.targets)
        if batch.answer is not None:
            soft = self._soft(logits, batch.answer.probabilities, batch.targets)
            loss = spec.hard_label_weight * loss + spec.soft * soft
            loss = loss + spec.feature_weight * self._matched(heard, batch.answer)
        if heard.device is not None and batch.devices is not None:
            guess = losses.cross_entropy(heard.device.float(), batch.devices)
            loss = loss + self._train.device_adversary * guess
        return loss

    def _hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        spec, weights = self._train, self._class_weights
        if spec.loss == "bce":
            return losses.binary_cross_entropy(logits, targets, spec.label_smoothing, weights)
        if spec.loss == "focal":
            return losses.focal(logits, targets, spec.focal_gamma, spec.label_smoothing, weights)
        return losses.cross_entropy(logits, targets, spec.label_smoothing, weights)

    def _soft(self, logits: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        spec = self._distill
        if self._train.loss == "bce":
            return losses.binary_distillation(logits, teacher, spec.temperature, spec.temperature_squared)
        if spec.loss == "dkd":
            # of a mixture, the label of its larger part
            label = targets.argmax(1)
            return losses.decoupled(logits, teacher, label, spec.temperature, spec.dkd_alpha, spec.dkd_beta)
        return losses.distillation(
            logits, teacher, spec.temperature, spec.normalisation, spec.temperature_squared
        )

    def _matched(self, heard: Heard, answer: Answer) -> Tensor:
        if heard.feature_map is not None and answer.feature_map is not None:
            return losses.attention_transfer(heard.feature_map.float(), answer.feature_map)
        if heard.embedding is not None and answer.embedding is not None:
            return losses.relational(heard.embedding.float(), answer.embedding)
        return heard.logits.new_zeros(())


def squash(logits: Tensor, recipe: Recipe) -> Tensor:
    """Teachers' logits `(batch, classes)` → probabilities at a student's temperature, as its loss wants."""
    soft = logits / recipe.distill.temperature
    return to_scores(soft, several=recipe.train.loss == "bce")


def balanced_weights(targets: Tensor) -> Tensor:
    """Factor of each class `(classes,)`, inverse to its share of `targets` `(windows, classes)`; mean 1.

    The factor of a class without a window is 0.
    """
    counts = targets.sum(0)
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1e-9), 0.0)
    return weights / weights[counts > 0].mean()
