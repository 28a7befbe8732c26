"""What is said of the teachers' worth."""

from __future__ import annotations

import pytest

from edgeaudio.training.worth import worth


@pytest.mark.parametrize(
    ("alone", "student", "teacher", "said"),
    [
        (0.90, 0.93, 0.95, "+3.00 points on 400 clips"),
        (0.90, 0.895, 0.903, "only +0.30 points from the student alone"),
        (0.99, 0.99, 1.0, "at 99.0 % already"),
        (0.90, 0.903, 0.96, "doesn't take it over"),
    ],
)
def test_a_small_gain_is_explained(alone: float, student: float, teacher: float, said: str) -> None:
    told = worth(alone, student, teacher, 400)
    assert said in told["sentence"]
    assert told["gain"] == pytest.approx(student - alone)
    assert (", less than one: " in told["sentence"]) == (0 <= student - alone < 0.01)
    assert ("cost 0.50 points" in told["sentence"]) == (student < alone)


def test_a_point_counts_as_one_however_the_means_round() -> None:
    folds = [(0.8875, 0.9625), (0.95, 0.9625), (0.95, 0.925), (0.9625, 0.9375), (0.875, 0.8875)]
    alone, student = (sum(shares) / 5 for shares in zip(*folds, strict=True))
    assert 0 < 0.01 - (student - alone) < 1e-9
    assert worth(alone, student, 0.9575, 400)["sentence"] == "The teachers bring +1.00 points on 400 clips"
