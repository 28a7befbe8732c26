"""What an evaluation of long recordings comes to: JSON, tables for the terminal, and stretches as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from edgeaudio.files import write_whole
from edgeaudio.segments.evaluate import Evaluation, Result
from edgeaudio.segments.figures import NOTHING, ClassCounts
from edgeaudio.segments.stretches import clock, percent, stretches
from edgeaudio.segments.timeline import Palette, draw

FIGURES, STRETCHES, PICTURE, PICTURES = "figures.json", "segments.csv", "timeline.png", "timelines"
"""Names in the output folder; several recordings have a folder of pictures."""
COLUMNS = ("recording", "start", "end", "truth", "predicted", "verdict")
"""Header of the stretches."""
MOST = 12
"""Classes of a confusion matrix that a terminal still has room for."""

Table = tuple[str, list[str], list[list[str]]]
"""Title, header and rows."""


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """All figures as plain JSON values."""
    options = evaluation.options
    return {
        "labels_at_a_time": "several" if evaluation.several else "one",
        "resolution": options.resolution,
        "segment_length": options.judged.segment,
        "collar": options.judged.collar,
        "offset_share": options.judged.offset_share,
        "gaps": "silent" if evaluation.silent else "unknown",
        "background": options.naming.background,
        **_result(evaluation.whole),
        "recordings": {
            track.name: _result(part) for track, part in zip(evaluation.tracks, evaluation.parts, strict=True)
        },
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "time": result.time.to_json(),
        "segment_based": result.segment_based.to_json(),
        "event_based": result.event_based.to_json(),
    }


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def tables(evaluation: Evaluation) -> list[Table]:
    """What a terminal shows."""
    found = [_overview(evaluation), _classes(evaluation)]
    if evaluation.whole.time.confusion is not None and (confusion := _confusion(evaluation)):
        found.append(confusion)
    if len(evaluation.tracks) > 1:
        found.append(_recordings(evaluation))
    return found


def _overview(evaluation: Evaluation) -> Table:
    whole, judged = evaluation.whole, evaluation.options.judged
    time, by_segment, by_event = whole.time, whole.segment_based, whole.event_based
    right = "accuracy, of all time" if evaluation.silent else "accuracy, of the time with truth"
    rows = [
        ["recordings", f"{len(evaluation.tracks)} ({clock(time.seconds)})"],
        ["time without truth", percent(1 - time.told - time.ignored)],
        *([["time ignored", percent(time.ignored)]] if time.ignored else []),
        [right, percent(time.accuracy)],
        ["mean recall of the classes", percent(time.macro_recall)],
        ["mean F1 of the classes", percent(time.macro_f1)],
        [f"segment-based F1, {judged.segment:g} s", percent(by_segment.overall.f1)],
        ["segment-based error rate", _ratio(by_segment.error_rate)],
        [f"event-based F1, collar {judged.collar:g} s", percent(by_event.overall.f1)],
        ["event-based error rate", _ratio(by_event.error_rate)],
    ]
    return "Segments", ["", ""], rows


def _classes(evaluation: Evaluation) -> Table:
    header = ["class", "truth", "predicted", "recall", "precision", "F1", "segment F1", "events", "event F1"]
    whole = evaluation.whole
    rows = []
    for label, counts in whole.time.per_class.items():
        by_segment = whole.segment_based.per_class.get(label, ClassCounts(0, 0, 0))
        by_event = whole.event_based.per_class.get(label, ClassCounts(0, 0, 0))
        if not any((counts.truth, counts.predicted, by_event.truth, by_event.predicted)):
            continue
        rows.append([
            label, clock(counts.truth), clock(counts.predicted), percent(counts.recall),
            percent(counts.precision), percent(counts.f1), percent(by_segment.f1),
            f"{by_event.truth:.0f}", percent(by_event.f1),
        ])  # fmt: skip
    return "By class", header, rows


def _confusion(evaluation: Evaluation) -> Table | None:
    told = evaluation.whole.time.to_json()["confusion"]
    if len(told["predicted"]) > MOST:
        return None
    used = [
        j for j, name in enumerate(told["predicted"]) if name != NOTHING or any(r[j] for r in told["seconds"])
    ]
    header = ["truth ↓  predicted →", *(told["predicted"][j] for j in used)]
    rows = [
        [label, *(f"{row[j]:.1f}" if row[j] else "" for j in used)]
        for label, row in zip(told["truth"], told["seconds"], strict=True)
    ]
    return "Confusion (seconds)", header, rows


def _recordings(evaluation: Evaluation) -> Table:
    header = ["recording", "length", "accuracy", "segment F1", "segment ER", "event F1", "event ER"]
    rows = []
    for track, part in zip(evaluation.tracks, evaluation.parts, strict=True):
        rows.append([
            track.name, clock(part.time.seconds), percent(part.time.accuracy),
            percent(part.segment_based.overall.f1), _ratio(part.segment_based.error_rate),
            percent(part.event_based.overall.f1), _ratio(part.event_based.error_rate),
        ])  # fmt: skip
    return "By recording", header, rows


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def write(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write figures, stretches and pictures into a folder; each file appears whole.

    Returns:
        What was written.
    """

    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(stretches(evaluation))
    files: dict[str, bytes] = {
        FIGURES: (json.dumps(to_json(evaluation), indent=1, ensure_ascii=False) + "\n").encode(),
        STRETCHES: table.getvalue().encode(),
    }
    palette = Palette.of(evaluation)
    written = [write_whole(folder / name, content) for name, content in files.items()]
    alone = len(evaluation.tracks) == 1
    for track, laid in zip(evaluation.tracks, evaluation.laid, strict=True):
        name = PICTURE if alone else f"{PICTURES}/{_file_name(track.name)}.png"
        written.append(write_whole(folder / name, draw(track, laid, evaluation, palette)))
    return written


def _file_name(name: str) -> str:
    """A recording's name as a file's: recordings of one name in several folders keep apart."""
    return name.strip("/\\").replace("/", "_").replace("\\", "_")
