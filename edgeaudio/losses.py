"""Losses as functions of tensors: labels, teachers' answers, teachers' features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def cross_entropy(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of `logits` against label distributions `targets`, both `(batch, classes)`.

    Args:
        logits: `(batch, classes)`.
        targets: `(batch, classes)`, each row a distribution.
        label_smoothing: share of the target spread over all classes.
        class_weights: `(classes,)` factor of each class's part.
    """
    return F.cross_entropy(logits, targets, weight=class_weights, label_smoothing=label_smoothing)


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Each class's own yes or no, averaged over batch and classes: for clips with several labels.

    Args:
        logits: `(batch, classes)`.
        targets: `(batch, classes)` in [0, 1].
        label_smoothing: ε; targets become (1 − ε)·y + ε/2.
        class_weights: `(classes,)` factor of each class's part.
    """
    smooth = targets * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smooth, weight=class_weights)


def focal(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy in which what is already right counts less: each class's part times (1 − p)^γ.

    Args:
        logits: `(batch, classes)`.
        targets: `(batch, classes)`, each row a distribution.
        gamma: γ; 0 is the cross-entropy.
        label_smoothing: share of the target spread over all classes.
        class_weights: `(classes,)` factor of each class's part.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    """
    log_p = F.log_softmax(logits, dim=1)
    smooth = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    parts = -smooth * (1 - log_p.exp()).clamp_min(0) ** gamma * log_p
    if class_weights is not None:
        parts = parts * class_weights
    return parts.sum(1).mean()


# ── teachers' answers ────────────────────────────────────────────────────────────────────────────


def distillation(
    logits: Tensor,
    teacher: Tensor,
    temperature: float,
    normalisation: str = "batch",
    temperature_squared: bool = True,
) -> Tensor:
    """T²·KL(teacher ‖ student).

    Args:
        logits: the student's, `(batch, classes)`.
        teacher: the teacher's probabilities **at the same temperature**, `(batch, classes)`. Probabilities,
            not logits, because those of mixed clips are the mixture of those of the clips.
        temperature: T; the factor T² keeps the gradient's size when T changes.
        normalisation: ``batch`` sums over the classes and averages over the batch; ``elements`` averages
            over both, which is smaller by the number of classes. Both are found in publications.
        temperature_squared: whether the factor is there; some publications leave it out.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    parts = logits.shape[0] if normalisation == "batch" else logits.numel()
    factor = temperature**2 if temperature_squared else 1.0
    return factor * F.kl_div(student, teacher, reduction="sum") / parts


def binary_distillation(
    logits: Tensor, teacher: Tensor, temperature: float, temperature_squared: bool = True
) -> Tensor:
    """T²·cross-entropy of each class's own yes or no, averaged over batch and classes.

    Args:
        logits: the student's, `(batch, classes)`.
        teacher: the teacher's probability of each class at the same temperature, `(batch, classes)`.
        temperature: T.
        temperature_squared: whether the factor is there.

    Source: Schmid et al., "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge
    Distillation", ICASSP 2023, with T = 1.
    """
    factor = temperature**2 if temperature_squared else 1.0
    return factor * F.binary_cross_entropy_with_logits(logits / temperature, teacher)


def target_class_distillation(logits: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> Tensor:
    """T²·KL of the two-way question "the labelled class, or any other?", averaged over the batch.

    Args:
        logits: the student's, `(batch, classes)`.
        teacher: probabilities at the same temperature, `(batch, classes)`.
        label: `(batch,)` index of the labelled class.
        temperature: T.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022.
    """
    log_student = F.log_softmax(logits / temperature, dim=1)
    own_log = log_student.gather(1, label[:, None])
    rest_log = _others(log_student, label).logsumexp(1, keepdim=True)
    own = teacher.gather(1, label[:, None])
    two_way = torch.cat([own, 1 - own], 1)
    return temperature**2 * F.kl_div(torch.cat([own_log, rest_log], 1), two_way, reduction="batchmean")


def other_classes_distillation(logits: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> Tensor:
    """T²·KL of the distributions over all classes but the labelled one, averaged over the batch.

    Args:
        logits: the student's, `(batch, classes)`.
        teacher: probabilities at the same temperature, `(batch, classes)`.
        label: `(batch,)` index of the labelled class.
        temperature: T.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022.
    """
    student = F.log_softmax(_others(logits, label) / temperature, dim=1)
    rest = _others(teacher, label)
    # a teacher that is wholly sure leaves nothing for the others: then they are told nothing
    rest = rest / rest.sum(1, keepdim=True).clamp_min(1e-12)
    return temperature**2 * F.kl_div(student, rest, reduction="batchmean")


def decoupled(
    logits: Tensor, teacher: Tensor, label: Tensor, temperature: float, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """α·target-class + β·other-classes distillation: the other classes count however sure the teacher is.

    With β = 1 − p of the labelled class, sample by sample, and α = 1 the sum is the plain T²·KL.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022.
    """
    target = target_class_distillation(logits, teacher, label, temperature)
    others = other_classes_distillation(logits, teacher, label, temperature)
    return alpha * target + beta * others


def _others(values: Tensor, label: Tensor) -> Tensor:
    """`(batch, classes)` without each row's labelled class, `(batch, classes − 1)`."""
    keep = torch.ones_like(values, dtype=torch.bool).scatter_(1, label[:, None], False)
    return values[keep].view(len(values), -1)


# ── teachers' features ───────────────────────────────────────────────────────────────────────────


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of two maps of where the features are strong; averaged over batch and places.

    Args:
        student: feature map `(batch, channels, frequency, time)`.
        teacher: likewise, with channels and sizes of its own; its map is resized to the student's.

    Source: Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017.
    """
    mine, theirs = (x.square().mean(1, keepdim=True) for x in (student, teacher))
    if theirs.shape[2:] != mine.shape[2:]:
        theirs = F.interpolate(theirs, mine.shape[2:], mode="bilinear", align_corners=False)
    return (F.normalize(mine.flatten(1)) - F.normalize(theirs.flatten(1))).square().mean()


def relational(student: Tensor, teacher: Tensor, angle_weight: float = 2.0) -> Tensor:
    """How clips lie to each other: distances between pairs and angles within triples, by a smooth L1 loss.

    Args:
        student: embeddings `(batch, features)`.
        teacher: embeddings `(batch, features)`, with features of their own.
        angle_weight: weight of the angles beside the distances.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019.
    """
    distance = F.smooth_l1_loss(_distances(student), _distances(teacher))
    angle = F.smooth_l1_loss(_angles(student), _angles(teacher))
    return distance + angle_weight * angle


def _distances(x: Tensor) -> Tensor:
    """Distances of all pairs `(batch, batch)`, over their mean."""
    squared = (x[:, None] - x[None]).square().sum(2)
    distance = (squared + 1e-12).sqrt() - 1e-6  # the root's slope at 0 has no bound
    others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    return distance / distance[others].mean().clamp_min(1e-12) if len(x) > 1 else distance


def _angles(x: Tensor) -> Tensor:
    """Cosines of the angles at every clip between all pairs of others, `(batch, batch, batch)`."""
    directions = F.normalize(x[None] - x[:, None], dim=2)
    return directions @ directions.transpose(1, 2)
