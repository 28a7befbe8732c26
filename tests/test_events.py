"""Windows become events by thresholds, hysteresis, gaps and durations, as counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeaudio.errors import EdgeAudioError
from edgeaudio.events import Event, Rules, follow, merge
from edgeaudio.predictor import WindowScore


def windows(*scores: float | tuple[float, ...], hop: float = 1.0, length: float = 1.0) -> list[WindowScore]:
    """Windows of one class `bell`, or of several."""
    rows = [np.atleast_1d(np.array(row, np.float32)) for row in scores]
    labels = ("bell", "rain", "siren")[: len(rows[0])]
    return [WindowScore(i * hop, i * hop + length, False, row, labels, 1.0) for i, row in enumerate(rows)]


def spans(events: list[Event]) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in events]


def test_an_event_with_its_peak_and_mean() -> None:
    (event,) = merge(windows(0.1, 0.75, 1.0, 0.5, 0.25))
    assert event == Event("bell", 1.0, 4.0, peak=1.0, mean=0.75)


def test_hysteresis() -> None:
    wavering = windows(0.4, 0.6, 0.4, 0.6, 0.2, 0.4)
    assert spans(merge(wavering)) == [(1, 2), (3, 4)]
    assert spans(merge(wavering, Rules(low=0.3))) == [(1, 4)]  # 0.4 begins none, but keeps one
    assert spans(merge(wavering, Rules(low=0.1))) == [(1, 6)]


def test_gaps_are_bridged_before_durations_are_held() -> None:
    torn = windows(0.9, 0.1, 0.9, 0.1, 0.1, 0.9)
    assert spans(merge(torn, Rules(max_gap=1.0))) == [(0, 3), (5, 6)]
    assert spans(merge(torn, Rules(max_gap=2.0))) == [(0, 6)]
    assert spans(merge(torn, Rules(max_gap=1.0, min_duration=2.0))) == [(0, 3)]
    assert merge(torn, Rules(min_duration=2.0)) == []
    (bridged,) = merge(windows(0.9, 0.1, 0.5), Rules(max_gap=1))
    assert bridged.mean == pytest.approx(0.7)  # the window in the gap doesn't count


def test_overlapping_windows_make_one_event() -> None:
    overlapping = windows(0.9, 0.1, 0.9, 0.1, 0.1, 0.9, hop=0.5)
    assert spans(merge(overlapping)) == [(0, 2), (2.5, 3.5)]


def test_windows_with_gaps_between_them_are_events_of_their_own() -> None:
    sparse = windows(0.9, 0.9, 0.4, hop=10.0)
    assert spans(merge(sparse, Rules(low=0.3))) == [(0, 1), (10, 11)]
    assert spans(merge(sparse, Rules(low=0.3, max_gap=9.0))) == [(0, 21)]


def test_each_class_has_its_own_events_and_threshold() -> None:
    both = windows((0.6, 0.3), (0.6, 0.4), (0.1, 0.4))
    assert [e.label for e in merge(both, Rules(thresholds={"rain": 0.35}))] == ["bell", "rain"]
    assert spans(merge(both, Rules(thresholds={"rain": 0.35, "bell": 0.7}))) == [(1, 3)]


def test_an_event_is_told_as_soon_as_it_cannot_grow() -> None:
    fed: list[float] = []

    def live() -> list[WindowScore]:
        for window in windows(0.9, 0.1, 0.1, 0.9):
            fed.append(window.start)
            yield window

    first = next(follow(live(), Rules(max_gap=0.5)))
    assert (first.start, first.end) == (0, 1)
    assert fed == [0, 1, 2]


def test_random_scores_against_a_slow_reading_of_the_rules() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.uniform(0, 1, 40).astype(np.float32)
        high, low, gap, least = 0.7, 0.5, float(rng.integers(0, 4)), float(rng.integers(0, 4))
        heard, inside = np.zeros(40, bool), False
        for i, score in enumerate(scores):
            # an event that is over begins again only at the upper threshold
            inside = bool(score >= (low if inside else high))
            heard[i] = inside
        edges = np.flatnonzero(np.diff(np.concatenate([[0], heard, [0]])))
        expected: list[list[float]] = []
        for start, end in edges.reshape(-1, 2).tolist():
            if expected and start - expected[-1][1] <= gap:
                expected[-1][1] = end
            else:
                expected.append([start, end])
        expected = [e for e in expected if e[1] - e[0] >= least]
        found = merge(windows(*scores.tolist()), Rules(high, low, least, gap))
        assert [list(span) for span in spans(found)] == expected


def test_rules_from_words() -> None:
    rules = Rules.parse(["0.4", "bell=0.7", "a=b=0.9"], low=0.2, min_duration=1, max_gap=2)
    assert rules == Rules(0.4, 0.2, 1, 2, {"bell": 0.7, "a=b": 0.9})
    assert Rules.parse([]) == Rules()


@pytest.mark.parametrize(
    ("words", "low", "sentence"),
    [
        (["loud"], None, "threshold 'loud' is no number; write 0.5, or bell=0.7"),
        (["bell=loud"], None, "'bell=loud' is no number"),
        (["1.5"], None, "threshold is 1.5; scores lie between 0 and 1"),
        (["nan"], None, "threshold is nan"),
        (["bell=-1"], None, "threshold of 'bell' is -1"),
        (["0.2"], 0.3, "lower threshold 0.3 is above the threshold 0.2"),
        (["bell=0.2"], 0.3, "above the threshold 0.2 of 'bell'"),
        ([], -0.1, "lower threshold is -0.1"),
    ],
)
def test_rules_that_cannot_be(words: list[str], low: float | None, sentence: str) -> None:
    with pytest.raises(EdgeAudioError, match=sentence):
        Rules.parse(words, low)


def test_times_and_classes_that_cannot_be() -> None:
    with pytest.raises(EdgeAudioError, match="the gap of events is -1 s"):
        Rules(max_gap=-1)
    with pytest.raises(EdgeAudioError, match="the duration of events is -2 s"):
        Rules(min_duration=-2)
    with pytest.raises(EdgeAudioError, match="unknown class 'bel'; did you mean 'bell'"):
        merge(windows(0.9), Rules(thresholds={"bel": 0.3}))
    assert merge([]) == []
