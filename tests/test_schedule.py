"""Learning rates against published schedules and by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgeaudio.config import TrainSpec
from edgeaudio.errors import RecipeError
from edgeaudio.training.schedule import curve, learning_rate


def rate(epoch: float, **settings: Any) -> float:
    return learning_rate(TrainSpec(**{"learning_rate": 1.0, **settings}), epoch)


PUBLISHED = {"schedule": "linear", "warmup": "exponential", "rate_per_epoch": True}


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 0.009569), (1, 0.013417), (5, 0.126650), (13, 0.974812), (14, 1), (50, 1), (51, 0.988155),
        (92, 0.5025), (133, 0.016845), (134, 0.005), (149, 0.005),
    ],
)  # fmt: skip
def test_ramp_and_linear_fall_of_the_cp_mobile_student(epoch: int, expected: float) -> None:
    settings = {"warmup_epochs": 14, "decay_epochs": 84, "hold_epochs": 50, "final_lr_ratio": 0.005}
    assert rate(epoch, epochs=150, **PUBLISHED, **settings) == pytest.approx(expected, abs=1e-6)
    assert rate(epoch + 0.9, epochs=150, **PUBLISHED, **settings) == pytest.approx(expected, abs=1e-6)


def test_ramp_of_system_d() -> None:
    settings = {"warmup_epochs": 30, "decay_epochs": 400, "hold_epochs": 30, "final_lr_ratio": 0.01}
    for epoch, expected in ((0, 0.007949), (15, 0.286505), (429, 0.012475)):
        assert rate(epoch, epochs=600, **PUBLISHED, **settings) == pytest.approx(expected, abs=1e-6)


def test_steps_and_constant_warm_up_of_acdnet() -> None:
    acdnet = {"epochs": 2000, "schedule": "steps", "warmup": "constant", "warmup_epochs": 10}
    rates = [rate(epoch, **acdnet) for epoch in (0, 9, 10, 599, 600, 1200, 1800, 1999)]
    assert rates == pytest.approx([0.1, 0.1, 1, 1, 0.1, 0.01, 0.001, 0.001])


def test_cosine_exponential_and_restarts() -> None:
    common = {"epochs": 12, "warmup_epochs": 0.0, "final_lr_ratio": 0.01}
    assert rate(6, schedule="cosine", **common) == pytest.approx(0.505)
    assert rate(6, schedule="exponential", **common) == pytest.approx(math.sqrt(0.01))
    assert rate(6, schedule="constant", **common) == 1
    waves = [rate(e, schedule="restarts", restarts=3, **common) for e in (0, 2, 3.999, 4, 8, 12)]
    assert waves == pytest.approx([1, 0.505, 0.01, 1, 1, 0.01], abs=1e-4)


def test_the_curve_covers_the_training() -> None:
    epochs, rates = curve(TrainSpec(epochs=10), 50)
    assert len(epochs) == len(rates) == 50
    assert epochs[0] == 0
    assert epochs[-1] < 10


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosin"}, "cosine"),
        ({"optimizer": "adamx"}, "adam"),
        ({"steps": (0.5, 1.5)}, "between 0 and 1"),
        ({"freeze": "some"}, "convs"),
        ({"restarts": 0}, "must be positive"),
        ({"patience": -1}, "must not be negative"),
        ({"loss": "mse"}, "cross_entropy"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        TrainSpec(**settings)
