"""Evaluations as tables, as JSON, and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeaudio.files import write_whole
from edgeaudio.shallow.evaluating import Evaluation, difference
from edgeaudio.shallow.intervals import Interval
from edgeaudio.shallow.pictures import draw_confusion

RESULTS, PREDICTIONS = "results.json", "predictions.csv"


INTERVALS = {
    "interval": "95 % of the mean over the folds, by Student's t, cut to 0 … 1",
    "accuracy_interval": "95 % of the accuracy of all answers, Wilson's; n is the number of sounds",
    "uar_interval": "95 % of the recall of all answers, by a bootstrap over the sounds of each class",
}
"""What the intervals in the JSON are."""
Table = tuple[str, list[str], list[list[str]]]


def to_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """All figures, and how each further set does against the first."""
    gains = [
        {"first": evaluations[0].name, "other": name, "accuracy": gain, "interval": ends and list(ends)}
        for name, gain, ends in _gains(evaluations)
    ]
    return {
        "intervals": INTERVALS,
        "sets": [each.to_json() for each in evaluations],
        "differences": gains,
    }


def tables(evaluations: Sequence[Evaluation], learner: str) -> list[Table]:
    """What a terminal shows: `(title, header, rows)`."""
    first = evaluations[0]
    several = len(first.parts) > 1
    over = f"mean of {len(first.parts)} folds" if several else first.parts[0]
    again = f", {first.repeats} repeats" if first.repeats > 1 else ""
    mean = ["95 % (Student's t)"] if several else []
    shown = [
        (
            f"{learner}, {over}{again}",
            ["set", "features", "accuracy", *mean, "UAR", *mean],
            [[each.name, str(each.features), *_means(each, several)] for each in evaluations],
        ),
        (
            "all answers together",
            ["set", "sounds", "accuracy", "95 % (Wilson)", "UAR", "95 % (bootstrap)"],
            [[each.name, *_pooled(each)] for each in evaluations],
        ),
    ]
    if len(evaluations) == 1 and several:
        shown.append(_by_part(first))
    if gains := _gains(evaluations):
        rows = [[name, f"{100 * gain:+.2f} points", _ends(ends)] for name, gain, ends in gains]
        shown.append((f"accuracy against {first.name}, fold by fold", ["set", "gain", "95 %"], rows))
    return shown


def write_evaluations(folder: Path, evaluations: Sequence[Evaluation], answer: dict[str, Any]) -> None:
    """Write ``results.json``, ``predictions.csv`` and a picture of each confusion matrix.

    Args:
        folder: is made where missing; files of other names stay.
        evaluations: one a set, each with a name of its own.
        answer: all figures, as ``--json`` shows them.
    """
    for each in evaluations:
        name = "confusion.png" if len(evaluations) == 1 else f"confusion-{each.name}.png"
        write_whole(folder / name, draw_confusion(each.confusion, each.classes, _title(each)))
    write_whole(folder / PREDICTIONS, _predictions(evaluations).encode())
    write_whole(folder / RESULTS, (json.dumps(answer, indent=1, ensure_ascii=False) + "\n").encode())


def _title(each: Evaluation) -> str:
    of = f"{len(each.parts)} folds" if len(each.parts) > 1 else each.parts[0]
    again = f", {each.repeats} repeats" if each.repeats > 1 else ""
    return (
        f"{each.name}: accuracy {100 * each.mean('accuracy'):.1f} %, UAR {100 * each.mean('recall'):.1f} %, "
        f"{of}{again}"
    )


def _predictions(evaluations: Sequence[Evaluation]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["set", "part", "repeat", "filename", "chunk", "label", "predicted", "score"])
    for each in evaluations:
        for some in each.answers:
            chunks = some.chunks or [""] * len(some.filenames)
            columns = (some.filenames, chunks, some.truth, some.predicted, some.scores)
            for sound, chunk, truth, predicted, score in zip(*columns, strict=True):
                names = [each.classes[truth], each.classes[predicted]]
                table.writerow([each.name, some.part, some.repeat, sound, chunk, *names, f"{score:.6f}"])
    return out.getvalue()


def _gains(evaluations: Sequence[Evaluation]) -> list[tuple[str, float, Interval | None]]:
    found = [(other.name, difference(evaluations[0], other)) for other in evaluations[1:]]
    return [(name, *gain) for name, gain in found if gain is not None]


def _means(each: Evaluation, several: bool) -> list[str]:
    cells = []
    for figure in ("accuracy", "recall"):
        cells.append(f"{100 * each.mean(figure):.2f} %")
        if several:
            cells.append(_ends(each.interval(figure)))
    return cells


def _pooled(each: Evaluation) -> list[str]:
    pooled = each.pooled
    cells = [str(pooled["sounds"])]
    for figure in ("accuracy", "uar"):
        cells += [f"{100 * pooled[figure]:.2f} %", _ends(pooled[f"{figure}_interval"])]
    return cells


def _by_part(each: Evaluation) -> Table:
    counts = {answers.part: len(answers.truth) for answers in each.answers}
    columns = (each.parts, each.by_part("accuracy"), each.by_part("recall"))
    rows = [
        [part, str(counts[part]), f"{100 * accuracy:.2f} %", f"{100 * recall:.2f} %"]
        for part, accuracy, recall in zip(*columns, strict=True)
    ]
    return "by fold", ["fold", "answers", "accuracy", "UAR"], rows


def _ends(interval: Sequence[float] | None) -> str:
    return "–" if interval is None else f"{100 * interval[0]:.2f} – {100 * interval[1]:.2f} %"
