"""Figures of segments against cases counted by hand, scikit-learn, and sed_eval's own reports."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest

from edgeaudio.errors import EdgeAudioError
from edgeaudio.events import Rules
from edgeaudio.predictor import Prediction
from edgeaudio.segments.figures import ClassCounts, Laid, time_figures
from edgeaudio.segments.grid import Grid, joined, mostly_outside, without
from edgeaudio.segments.reading import Segment
from edgeaudio.segments.scoring import Decision, cell_scores, predicted
from edgeaudio.segments.sound_events import EventFigures, Heard, Judged, event_figures

LABELS = ("dog", "cat", "owl")


def segments(text: str) -> list[Segment]:
    """``0-2 dog, 3-4.5 cat``."""
    rows = [part.split() for part in text.split(",") if part.strip()]
    return [Segment(*map(float, span.split("-")), label) for span, label in rows]


def spans(found: list[Segment]) -> str:
    return ", ".join(f"{s.start:g}-{s.end:g} {s.label}" for s in found)


def random_segments(rng: np.random.Generator, seconds: float = 60.0) -> list[Segment]:
    """Of several classes that overlap, at times of a hundredth of a second."""
    starts = rng.uniform(0, seconds - 6, rng.integers(3, 15)).round(2)
    lengths = rng.uniform(0.3, 6, len(starts)).round(2)
    return joined(
        Segment(start, round(start + length, 2), LABELS[rng.integers(3)])
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    )


def laid(truth: str, guess: str, seconds: float, ignored: str = "") -> Laid:
    grid = Grid(seconds, 0.5)
    cells, apart = grid.draw(segments(truth), LABELS), grid.draw(segments(ignored), ("x",))[:, 0]
    told = cells.any(axis=1)
    return Laid(cells, grid.draw(segments(guess), LABELS), told, apart & ~told)


# ── grid ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_cell_is_what_covers_its_middle() -> None:
    grid = Grid(2.1, 0.5)
    assert grid.middles.tolist() == [0.25, 0.75, 1.25, 1.75]
    assert grid.edges.tolist() == [0, 0.5, 1, 1.5, 2.1]
    cells = grid.draw(segments("0.3-1.25 dog, 1.2-2 cat, 0-2 fox"), LABELS)
    assert cells[:, 0].tolist() == [False, True, False, False]
    assert cells[:, 1].tolist() == [False, False, True, True]
    assert spans(grid.trace(cells, LABELS)) == "0.5-1 dog, 1-2.1 cat"


def test_times_of_the_grid_are_not_sums_of_floats() -> None:
    assert Grid(100.0, 0.1).edges[30] == 3.0  # 30 * 0.1 isn't, and sed_eval would open a further segment
    assert Grid(0.01, 0.1).cells == 1


def test_what_is_drawn_is_traced() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        cells = rng.random((50, 3)) < 0.4
        grid = Grid(5.0, 0.1)
        assert (grid.draw(grid.trace(cells, LABELS), LABELS) == cells).all()


def test_joining_and_cutting() -> None:
    assert spans(joined(segments("1-2 dog, 0-1 dog, 1-3 cat, 2.5-4 dog, 1.5-2 cat"))) == (
        "0-2 dog, 1-3 cat, 2.5-4 dog"
    )
    holes = segments("1-2 x, 1.5-3 y")
    assert spans(without(segments("0-5 dog, 2-3 cat, 2-4 owl"), holes)) == "0-1 dog, 3-5 dog, 3-4 owl"
    assert spans(mostly_outside(segments("0-5 dog, 2-3 cat, 2-4 owl"), holes)) == "0-5 dog"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def test_time_counted_by_hand() -> None:
    part = laid("0-4 dog, 4-6 cat, 8-10 cat", "0-3 dog, 3-5 cat, 5-7 owl, 7-9 cat", 10.0)
    figures = time_figures(part, LABELS, 0.5, several=False, silent=False)
    assert (figures.seconds, figures.told, figures.counted) == (10, 0.8, 8)
    assert figures.accuracy == (3 + 1 + 1) / 8
    dog, cat, owl = (figures.per_class[label] for label in LABELS)
    assert (dog.precision, dog.recall) == (1, 3 / 4)
    assert (cat.precision, cat.recall, cat.f1) == (2 / 3, 2 / 4, 4 / 7)
    assert (owl.precision, owl.recall, owl.f1) == (0, None, 0)
    assert figures.macro_recall == (3 / 4 + 2 / 4) / 2  # no owl sounds
    assert figures.to_json()["confusion"] == {
        "truth": ["dog", "cat"],
        "predicted": ["dog", "cat", "owl", "(nothing)"],
        "seconds": [[3, 1, 0, 0], [0, 2, 1, 1]],
    }


def test_time_without_truth_is_unknown_or_silent() -> None:
    part = laid("0-4 dog", "0-5 dog", 10.0)
    assert time_figures(part, LABELS, 0.5, several=False, silent=False).accuracy == 1
    silent = time_figures(part, LABELS, 0.5, several=False, silent=True)
    assert silent.accuracy == 9 / 10
    assert silent.per_class["dog"].precision == 4 / 5
    assert silent.to_json()["confusion"]["truth"] == ["dog", "(nothing)"]


def test_ignored_time_is_neither_right_nor_wrong() -> None:
    part = laid("0-4 dog", "0-6 dog", 10.0, ignored="3-7 x")
    figures = time_figures(part, LABELS, 0.5, several=False, silent=True)
    assert (figures.ignored, figures.counted, figures.accuracy) == (0.3, 7, 1)


def test_several_labels_at_a_time() -> None:
    part = laid("0-4 dog, 2-6 cat", "0-4 dog, 2-4 cat, 8-9 owl", 10.0)
    figures = time_figures(part, LABELS, 0.5, several=True, silent=True)
    assert figures.accuracy == 7 / 10
    assert figures.overall == ClassCounts(8, 7, 6)
    assert figures.confusion is None


def test_against_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(1)
    truth, guess = rng.integers(0, 3, 400), rng.integers(0, 3, 400)
    guess[:200] = truth[:200]
    part = Laid(
        np.eye(3, dtype=bool)[truth], np.eye(3, dtype=bool)[guess], np.ones(400, bool), np.zeros(400, bool)
    )
    figures = time_figures(part, LABELS, 0.5, several=False, silent=False)
    ours = [(c.precision, c.recall, c.f1) for c in figures.per_class.values()]
    theirs = precision_recall_fscore_support(truth, guess)[:3]
    np.testing.assert_allclose(np.array(ours).T, theirs)
    assert figures.confusion is not None
    np.testing.assert_array_equal(figures.confusion[:3, :3], confusion_matrix(truth, guess) * 0.5)


# ── sound events ─────────────────────────────────────────────────────────────────────────────────


def judged(truth: list[Segment], guess: list[Segment], seconds: float) -> tuple[EventFigures, EventFigures]:
    return event_figures([Heard(truth, guess, guess, seconds)], LABELS, Judged())


def test_a_perfect_prediction() -> None:
    truth = segments("0-4 dog, 3-6 cat, 7-9.5 owl")
    for figures in judged(truth, truth, 10.0):
        assert (figures.overall.f1, figures.macro_f1, figures.error_rate) == (1, 1, 0)


def test_a_prediction_that_comes_late() -> None:
    truth = segments("0-4 dog, 6-10 cat")
    by_segment, by_event = judged(truth, segments("1-5 dog, 7-10 cat"), 10.0)
    # in seconds: dog 1, 2, 3 are hits, 0 is missed, 4 is new; cat 7, 8, 9 are hits, 6 is missed
    assert by_segment.overall == ClassCounts(8, 7, 6)
    assert by_segment.overall.f1 == pytest.approx(2 * 6 / (8 + 7))
    assert (by_segment.substitutions, by_segment.deletions, by_segment.insertions) == (0, 2, 1)
    assert by_segment.error_rate == 3 / 8
    assert by_event.overall.f1 == 0  # both onsets are late by more than the collar
    assert by_event.error_rate == 4 / 2
    assert judged(truth, segments("0.25-4 dog, 6-8 cat"), 10.0)[1].overall.f1 == 1  # just within
    assert judged(truth, segments("0.375-4 dog, 6-7.5 cat"), 10.0)[1].overall.f1 == 0


def test_a_wrong_class_is_a_substitution() -> None:
    by_segment, by_event = judged(segments("0-4 dog"), segments("0-4 cat"), 4.0)
    assert (by_segment.substitutions, by_segment.error_rate) == (4, 1)
    assert (by_event.substitutions, by_event.error_rate) == (1, 1)


def test_a_class_that_is_never_predicted_lowers_the_mean() -> None:
    by_segment, by_event = judged(segments("0-4 dog, 4-8 cat"), segments("0-4 dog"), 8.0)
    assert by_segment.macro_f1 == by_event.macro_f1 == 0.5
    assert by_segment.per_class["owl"].f1 is None


def test_against_the_reports_of_sed_eval() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics
    rng = np.random.default_rng(2)
    lists = [(random_segments(rng), random_segments(rng)) for _ in range(4)]
    lists = [(truth, [*guess, *truth[::2]]) for truth, guess in lists]
    ours = event_figures([Heard(t, g, g, 60.0) for t, g in lists], LABELS, Judged(2.0, 0.4, 0.3))
    theirs = (
        SegmentBasedMetrics(sorted(LABELS), time_resolution=2.0),
        EventBasedMetrics(sorted(LABELS), t_collar=0.4, percentage_of_length=0.3),
    )
    for truth, guess in lists:
        pair = [
            [{"onset": s.start, "offset": s.end, "event_label": s.label} for s in part]
            for part in (truth, guess)
        ]
        theirs[0].evaluate(*pair, evaluated_length_seconds=60.0)
        theirs[1].evaluate(*pair)
    for mine, reference in zip(ours, theirs, strict=True):
        overall, classes = reference.results_overall_metrics(), reference.results_class_wise_metrics()
        assert mine.overall.f1 == pytest.approx(overall["f_measure"]["f_measure"])
        assert mine.error_rate == pytest.approx(overall["error_rate"]["error_rate"])
        for label in LABELS:
            f1 = classes[label]["f_measure"]["f_measure"]
            assert mine.per_class[label].f1 == pytest.approx(0.0 if math.isnan(f1) else f1)


def test_how_a_segment_is_cut_says_nothing() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        truth, guess = random_segments(rng), random_segments(rng)
        pieces = []
        for one in truth:
            at = round(float(rng.uniform(one.start, one.end)), 3)
            cuts = sorted({one.start, at, one.end})
            pieces += [Segment(a, b, one.label) for a, b in pairwise(cuts)]
        raw, whole = judged(pieces, guess, 60.0)[0], judged(truth, guess, 60.0)[0]
        assert raw.overall == whole.overall  # segment-based ones don't mind
        assert judged(joined(pieces), guess, 60.0) == judged(truth, guess, 60.0)
        grid = Grid(60.0, 0.1)
        assert (grid.draw(pieces, LABELS) == grid.draw(truth, LABELS)).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"segment": 0.0}, "segment length is 0 s; it must be above 0"),
        ({"collar": -1.0}, "collar is -1 s"),
        ({"offset_share": 2.0}, "lies between 0 and 1"),
    ],
)
def test_impossible_judging(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(EdgeAudioError, match=sentence):
        Judged(**settings)


# ── scores ───────────────────────────────────────────────────────────────────────────────────────


def prediction(scores: list[list[float]], hop: float, length: float) -> Prediction:
    rows = np.array(scores, np.float32)
    starts = np.arange(len(rows)) * hop
    none = np.zeros(len(rows))
    return Prediction(LABELS, rows[0], starts, starts + length, none.astype(bool), none, rows)


def test_cells_take_the_mean_of_the_windows_over_them() -> None:
    rng = np.random.default_rng(4)
    for hop, length in ((0.5, 1.0), (0.3, 1.0), (1.0, 1.0), (1.5, 1.0)):
        windows = prediction(rng.random((12, 3)).tolist(), hop, length)
        grid = Grid(float(windows.ends[-1]), 0.1)
        found = cell_scores(windows, grid)
        for middle, row in zip(grid.middles, found, strict=True):
            over = (windows.starts <= middle) & (middle < windows.ends)
            wanted = windows.window_scores[over].mean(axis=0) if over.any() else np.full(3, np.nan)
            np.testing.assert_allclose(row, wanted, rtol=1e-6)


def test_smoothing_is_a_mean_about_each_cell() -> None:
    windows = prediction([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]], 1.0, 1.0)
    grid = Grid(4.0, 1.0)
    np.testing.assert_allclose(cell_scores(windows, grid, smooth=3.0)[:, 0], [1 / 2, 2 / 3, 2 / 3, 1])
    found = predicted(cell_scores(windows, grid, 3.0), grid, LABELS, False, Decision(smooth=3.0))
    assert spans(found) == "0-4 dog"


def test_decisions() -> None:
    grid = Grid(5.0, 1.0)
    scores = np.array(
        [[0.6, 0.4, 0], [0.4, 0.6, 0], [0.45, 0.3, 0.25], [np.nan] * 3, [0, 0.1, 0.9]], np.float32
    )

    def decided(several: bool = False, **settings: float) -> str:
        thresholded = "threshold" in settings
        return spans(predicted(scores, grid, LABELS, several, Decision(Rules(**settings), thresholded)))

    assert decided() == "0-1 dog, 1-2 cat, 2-3 dog, 4-5 owl"
    assert decided(min_duration=1.5) == ""
    assert (
        decided(max_gap=1.0) == "0-1 dog, 1-2 cat, 2-3 dog, 4-5 owl"
    )  # a bridged cell goes to the better one
    assert decided(threshold=0.5) == "0-1 dog, 1-2 cat, 4-5 owl"
    assert decided(threshold=0.35) == "0-1 dog, 1-2 cat, 2-3 dog, 4-5 owl"
    assert decided(several=True, threshold=0.35) == "0-2 cat, 0-3 dog, 4-5 owl"
    assert decided(several=True) == "0-1 dog, 1-2 cat, 4-5 owl"
    with pytest.raises(EdgeAudioError, match="add --threshold"):
        Decision(Rules(low=0.2))
    with pytest.raises(EdgeAudioError, match="can't be negative"):
        Decision(smooth=-1.0)
