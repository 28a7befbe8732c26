"""A bundle on labelled sounds: the shipped graph, run by the shipped predictor, against the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeaudio.bundle import read_bundle
from edgeaudio.console import Console
from edgeaudio.data.clips import SPLITS, Clips
from edgeaudio.data.readers import CsvColumns, read
from edgeaudio.errors import AudioError, DataError, did_you_mean
from edgeaudio.predictor import Predictor
from edgeaudio.training.job import RUN_TABLE
from edgeaudio.training.metrics import TITLES, Metrics, SeveralMetrics, clip_metrics, quality_by


@dataclass(frozen=True)
class Evaluation:
    """How well a bundle does on some clips."""

    labels: tuple[str, ...]
    metrics: Metrics | SeveralMetrics
    devices: dict[str, tuple[int, float]]
    """Device → number of clips and accuracy, or mAP with several labels; empty where the data names none."""
    folds: dict[str, tuple[int, float]]

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON values."""
        figure = self.metrics.figure
        return {
            **self.metrics.to_json(),
            "per_class": dict(zip(self.labels, self.metrics.per_class, strict=True)),
            "per_device": {name: {"clips": n, figure: value} for name, (n, value) in self.devices.items()},
            "per_fold": {name: {"clips": n, figure: value} for name, (n, value) in self.folds.items()},
        }

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """What a terminal shows: `(title, header, rows)`."""
        m = self.metrics
        figures = [
            ["clips", str(m.clips)],
            *([TITLES[name], _told(name, value)] for name, value in m.summary.items()),
        ]
        classes = [
            [label, str(n), "–" if share is None else f"{100 * share:.1f} %"]
            for label, n, share in zip(self.labels, m.counts, m.per_class, strict=True)
        ]
        header = ["class", "clips", m.class_figure]
        tables = [(m.figure, ["", ""], figures), ("by class", header, classes)]
        for title, groups in (("device", self.devices), ("fold", self.folds)):
            rows = [[name, str(n), f"{100 * share:.1f} %"] for name, (n, share) in groups.items()]
            if len(rows) > 1:
                tables.append((f"by {title}", [title, "clips", m.figure], rows))
        return tables


def choose_clips(
    bundle: Path, data: Path | None, split: str | None, fold: str | None, columns: CsvColumns
) -> Clips:
    """The clips to evaluate on, with the bundle's classes.

    Without `data` they are the held-out clips of the run that the bundle lies in.

    Raises:
        DataError: no such split or fold, nothing left, or a label that the bundle doesn't know.
    """
    labels = read_bundle(bundle).labels
    if split is not None and split not in SPLITS:
        raise DataError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    if data is None:
        data, split = _held_out(bundle), split or "test"
    clips = read(data, columns)
    chosen = clips.indices(lambda c: (split is None or c.split == split) and (fold is None or c.fold == fold))
    if not chosen:
        what = " and ".join([*([f"split {split!r}"] if split else []), *([f"fold {fold!r}"] if fold else [])])
        hint = f"; {did_you_mean(fold, clips.folds)}" if fold else ""
        raise DataError(f"{data}: no clip has {what}{hint}")
    return replace(clips.take(chosen), classes=labels)


def evaluate(predictor: Predictor, clips: Clips, console: Console, skip_bad: bool = False) -> Evaluation:
    """Score every clip from its file, as `edgeaudio predict` does.

    The bundle decides what is asked: one that answers with several labels is held against all labels of each
    clip, one that answers with a single one against the first.

    Raises:
        AudioError: a clip can't be read; with `skip_bad` it is warned of and left out.
    """
    several = predictor.bundle.several
    if clips.multi_label and not several:
        console.warn("the bundle answers with one label a clip, so only the first label of each clip counts")
    rows, read = [], []
    for i, clip in enumerate(console.track(clips.items, "evaluating", len(clips))):
        try:
            rows.append(predictor.predict_clip(clip.path, clip.start, clip.duration).scores)
            read.append(i)
        except AudioError as error:
            if not skip_bad:
                raise
            console.warn(f"skipped: {error}")
    if not rows:
        raise DataError(f"{clips.root}: none of the {len(clips)} clips can be read")
    scores, clips = np.stack(rows), clips.take(read)
    truth = clips.label_matrix if several else np.asarray(clips.targets)

    def by(names: list[str]) -> dict[str, tuple[int, float]]:
        return quality_by(names, scores, truth) if any(names) else {}

    return Evaluation(
        labels=clips.classes,
        metrics=clip_metrics(scores, truth),
        devices=by([clip.device for clip in clips]),
        folds=by([clip.fold for clip in clips]),
    )


def _told(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "log_loss" else f"{100 * value:.2f} %"


def _held_out(bundle: Path) -> Path:
    """The clips table of the run around a bundle, as it was when the bundle was published."""
    for folder in (bundle, bundle.parent):
        if (folder / RUN_TABLE).is_file() and (folder / "bundle").is_dir():
            return folder / RUN_TABLE
    raise DataError(f"{bundle} lies in no run; name the data to evaluate on")
