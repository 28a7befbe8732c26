"""Losses against published systems' numbers, identities, and sums written out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from edgeaudio import losses
from edgeaudio.config import DistillSpec, ModelSpec, Recipe, TrainSpec
from edgeaudio.errors import RecipeError
from edgeaudio.training.learner import Heard
from edgeaudio.training.objective import Answer, Batch, Objective, balanced_weights, squash

ROW = torch.linspace(-2, 2, 10, dtype=torch.float64)
STUDENT = torch.stack([ROW, ROW.flip(0)])
TEACHER = 2 * torch.sin(torch.arange(20, dtype=torch.float64)).reshape(2, 10)
LABEL = torch.tensor([3, 7])
TARGETS = F.one_hot(LABEL, 10).double()
T = 2.0
SOFT = (TEACHER / T).softmax(1)

FEW_S = torch.tensor([[1, 2, 0.5, -1], [0, -0.5, 3, 1]], dtype=torch.float64)
FEW_T = torch.tensor([[0.5, 3, 0, -2], [1, 0, 2, 2.5]], dtype=torch.float64)
FEW_LABEL = torch.tensor([1, 2])


def recipe(train: TrainSpec | None = None, **distill: object) -> Recipe:
    return Recipe("r", ModelSpec("cp_mobile"), train=train or TrainSpec(), distill=DistillSpec(**distill))  # type: ignore[arg-type]


def near(value: torch.Tensor, expected: float) -> None:
    assert float(value) == pytest.approx(expected, abs=4e-6)


def test_kl_in_both_published_normalisations() -> None:
    near(losses.cross_entropy(STUDENT, TARGETS), 3.902011)
    near(losses.distillation(STUDENT, SOFT, T, temperature_squared=False), 0.386200)
    near(losses.distillation(STUDENT, SOFT, T, "elements"), 0.154480)
    assert float(losses.distillation(STUDENT, SOFT, T)) == pytest.approx(4 * 0.386200, abs=4e-6)


def test_decoupled_distillation() -> None:
    near(losses.target_class_distillation(STUDENT, SOFT, LABEL, T), 0.008888)
    near(losses.other_classes_distillation(STUDENT, SOFT, LABEL, T), 1.625200)
    near(losses.decoupled(STUDENT, SOFT, LABEL, T, 1, 8), 13.010489)
    near(losses.cross_entropy(FEW_S, F.one_hot(FEW_LABEL, 4).double()), 0.345095)
    for temperature, expected in ((2.0, 0.786874), (4.0, 0.808460)):
        near(losses.decoupled(FEW_S, (FEW_T / temperature).softmax(1), FEW_LABEL, temperature), expected)


def test_the_two_parts_make_up_the_whole() -> None:
    whole = losses.distillation(STUDENT, SOFT, T)
    own = SOFT.gather(1, LABEL[:, None])[:, 0]
    each = [losses.other_classes_distillation(STUDENT[[i]], SOFT[[i]], LABEL[[i]], T) for i in (0, 1)]
    parts = losses.target_class_distillation(STUDENT, SOFT, LABEL, T)
    parts = parts + sum((1 - p) * part for p, part in zip(own, each, strict=True)) / 2
    torch.testing.assert_close(parts, whole)


def test_a_teacher_that_is_wholly_sure_breaks_nothing() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    sure = F.one_hot(torch.tensor([1, 2]), 4).float()
    loss = losses.decoupled(logits, sure, torch.tensor([1, 2]), 1.0)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_focal_is_cross_entropy_at_0_and_written_out_at_2() -> None:
    torch.testing.assert_close(losses.focal(STUDENT, TARGETS, 0.0), losses.cross_entropy(STUDENT, TARGETS))
    p = STUDENT.softmax(1).gather(1, LABEL[:, None])
    torch.testing.assert_close(losses.focal(STUDENT, TARGETS, 2.0), (-((1 - p) ** 2) * p.log()).mean())


def test_binary_losses_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    by_hand = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    near(losses.binary_cross_entropy(logits, labels), by_hand)
    smooth = losses.binary_cross_entropy(logits, labels, label_smoothing=0.2)
    near(smooth, by_hand + 0.1 * 2 / 2 + 0.1 * 1 / 2)  # ε/2 of the logit's way to the other answer
    at_4 = losses.binary_distillation(logits, (logits / 4).sigmoid(), 4.0)
    p = (logits / 4).sigmoid()
    torch.testing.assert_close(at_4, 16 * -(p * p.log() + (1 - p) * (1 - p).log()).mean())


def test_class_weights_scale_each_class() -> None:
    targets = F.one_hot(torch.tensor([0, 0, 0, 1]), 3).float()
    weights = balanced_weights(targets)
    assert weights[2] == 0
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[:2].mean() == pytest.approx(1)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, targets.argmax(1), weight=weights)
    hard = losses.cross_entropy(logits, targets, class_weights=weights)
    # torch divides by the weights of the batch for indices, by its size for distributions
    torch.testing.assert_close(hard * 4 / weights[targets.argmax(1)].sum(), expected)


def test_attention_knows_places_and_not_strength() -> None:
    x = torch.rand(2, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    assert float(losses.attention_transfer(x, 3 * x)) == pytest.approx(0, abs=1e-7)
    assert float(losses.attention_transfer(x, x.flip(3))) > 1e-4
    assert losses.attention_transfer(x, torch.rand(2, 9, 12, 8)).dim() == 0  # other channels and sizes


def test_relations_know_neither_turning_nor_size() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    assert float(losses.relational(x, 4 * x @ turn)) == pytest.approx(0, abs=1e-9)
    other = torch.randn(5, 7, generator=generator, dtype=torch.float64)

    def distances(points: torch.Tensor) -> torch.Tensor:
        table = torch.cdist(points, points)
        return table / table.sum() * 20

    def angles(points: torch.Tensor) -> torch.Tensor:
        table = torch.zeros(5, 5, 5, dtype=torch.float64)
        for i, j, k in itertools.product(range(5), repeat=3):
            if i not in (j, k):
                table[i, j, k] = F.cosine_similarity(points[j] - points[i], points[k] - points[i], dim=0)
        return table

    by_hand = F.smooth_l1_loss(distances(x), distances(other)) + 2 * F.smooth_l1_loss(
        angles(x), angles(other)
    )
    torch.testing.assert_close(losses.relational(x, other), by_hand, rtol=1e-4, atol=1e-6)


def test_relations_of_equal_clips_have_a_gradient() -> None:
    x = torch.ones(3, 4, requires_grad=True)
    torch.autograd.backward(losses.relational(x, torch.randn(3, 4)))
    assert x.grad is not None
    assert x.grad.isfinite().all()


# ── how a recipe puts them together ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"normalisation": "elements", "hard_label_weight": 0.02}, 0.229431),  # CP-JKU
        ({"hard_label_weight": 1.0, "soft_weight": 1.0, "temperature_squared": False}, 3.902011 + 0.386200),
        ({"loss": "dkd", "hard_label_weight": 1.0, "soft_weight": 1.0}, 3.902011 + 13.010489),
        ({"hard_label_weight": 0.25}, 0.25 * 3.902011 + 0.75 * 4 * 0.386200),
    ],
)
def test_a_recipe_weighs_its_losses(settings: dict[str, object], expected: float) -> None:
    # in double precision, as the published figures
    objective = Objective(recipe(temperature=T, **settings))
    batch = Batch(torch.zeros(2), TARGETS.float(), Answer(SOFT.float()))
    value = objective(Heard(STUDENT.float()), batch)
    assert float(value) == pytest.approx(expected, abs=2e-5)


def test_several_labels_are_answered_class_by_class() -> None:
    several = recipe(TrainSpec(loss="bce"), temperature=1.0, hard_label_weight=0.0)
    torch.testing.assert_close(squash(TEACHER, several), TEACHER.sigmoid())
    batch = Batch(torch.zeros(2), TARGETS.float(), Answer(TEACHER.float().sigmoid()))
    expected = F.binary_cross_entropy_with_logits(STUDENT.float(), TEACHER.float().sigmoid())
    torch.testing.assert_close(Objective(several)(Heard(STUDENT.float()), batch), expected)


def test_the_adversary_is_weighed() -> None:
    batch = Batch(torch.zeros(2), TARGETS.float(), devices=torch.eye(2))
    plain, with_device = (
        Objective(recipe(TrainSpec(device_adversary=w)))(
            Heard(STUDENT.float(), device=torch.zeros(2, 2)), batch
        )
        for w in (0.0, 0.5)
    )
    assert float(with_device - plain) == pytest.approx(0.5 * math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": "attention"}, 'teacher_mode = "live"'),
        ({"views": 3, "teacher_mode": "live"}, "views is 3"),
        ({"fusion": "weighted"}, "teacher_weights"),
        ({"fusion": "weighted", "teacher_weights": (0.0, 0.0)}, "nor all zero"),
        ({"loss": "dkt"}, "dkd"),
        ({"soft_weight": -1.0}, "must not be negative"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(**settings)
