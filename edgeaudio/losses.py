"""Losses as functions of tensors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of `logits` against label distributions `targets`, both `(batch, classes)`."""
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student), summed over classes and averaged over the batch.

    Args:
        logits: the student's, `(batch, classes)`.
        teacher: the teacher's probabilities **at the same temperature**, `(batch, classes)`. Probabilities,
            not logits, because those of mixed clips are the mixture of those of the clips.
        temperature: T; the factor T² keeps the gradient's size when T changes.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")


def hard_and_soft(
    logits: Tensor, targets: Tensor, teacher: Tensor, temperature: float, hard_label_weight: float
) -> Tensor:
    """λ·cross-entropy + (1 − λ)·T²·KL, with λ = `hard_label_weight`; shapes as in its two parts."""
    soft = distillation(logits, teacher, temperature)
    return hard_label_weight * cross_entropy(logits, targets) + (1 - hard_label_weight) * soft
