"""Cross-validation: the main job once for each official fold, and one summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeaudio import __version__
from edgeaudio.console import Console
from edgeaudio.data import readers
from edgeaudio.errors import DataError
from edgeaudio.training.distill import Outcome, run
from edgeaudio.training.job import Job
from edgeaudio.training.metrics import ACCURACY
from edgeaudio.training.world import leads
from edgeaudio.training.worth import worth

FILLED = "int8, silence filled"
"""The integer student on clips whose digital silence is filled with faint noise."""

ROLES = ("teacher", "student alone", "student", "student int8", FILLED)


def run_folds(
    job: Job,
    folder: Path,
    device: str,
    console: Console,
    force: str | None,
    finish: Callable[[Outcome], Path],
    loggers: Sequence[str] = (),
) -> dict[str, Any]:
    """Do the job once for each fold, in `folder/fold-<name>`; a killed one goes on where it was.

    Args:
        job: its `fold` is replaced.
        folder: where the folds' runs lie.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
        force: a stage to redo in every fold.
        loggers: told each epoch's figures.
        finish: called with each fold's outcome; writes its report and returns its path.

    Returns:
        A report of all folds: accuracy (mAP with several labels) of each, mean and spread (standard deviation
        over the folds), and with one label a clip the confusions of all folds together. ``broken`` names the
        folds in which a parity bound broke.
    """
    names = readers.read(job.data, job.columns).folds
    if len(names) < 2:
        raise DataError(f"{job.data} has no folds; leave --folds out, or add a fold column")
    rows, broken = list[dict[str, Any]](), list[str]()
    confusion: NDArray[np.int64] | None = None
    for name in names:
        console.stage("fold", f"{name} of {', '.join(names)}")
        fold_job = replace(job, fold=name)
        outcome = run(
            fold_job, folder / f"fold-{name}", device, console, force=force, strict=False, loggers=loggers
        )
        if not leads():
            continue
        # one fold's broken bound must not cost the others; it is told at the end
        broken += [f"fold {name}: {sentence}" for sentence in outcome.broken]
        for sentence in outcome.broken:
            console.warn(f"fold {name}: {sentence}; no bundle")
        report = None if outcome.broken else finish(outcome)
        tested = outcome.measured["test"]
        share = {row["role"]: row[tested["figure"]] for row in outcome.measured["models"]}
        # where no clip of the fold has any, nothing was filled and the figure is the plain one
        share[FILLED] = tested.get("filled", share)["student int8"]
        rows.append(
            {
                "fold": name,
                "clips": tested["clips"],
                **{role: share[role] for role in ROLES if role in share},
                **({"report": report.relative_to(folder).as_posix()} if report else {}),
            }
        )
        if "confusion" in tested:  # with several labels a clip there is none
            table = np.asarray(tested["confusion"])
            confusion = table if confusion is None else confusion + table
    if not leads():
        return {}
    summary = _summary(rows)
    test = {"classes": tested["classes"], "figure": tested["figure"], "shown": "student int8"}
    if confusion is not None:
        test["confusion"] = confusion.tolist()
    return {
        "schema": 1,
        "title": f"{job.student.name} on {job.data.name}, {len(names)} folds",
        "edgeaudio": __version__,
        "folds": rows,
        "broken": broken,
        "folds_summary": summary,
        **_teaching(rows, summary, share=tested["figure"] == ACCURACY),
        "test": test,
        "reproduce": {"command": f"{job.command()} --folds all", "seed": job.seed},
    }


def _teaching(
    rows: list[dict[str, Any]], summary: dict[str, dict[str, float]], share: bool
) -> dict[str, Any]:
    if "student alone" not in summary:
        return {}
    mean = {role: figures["mean"] for role, figures in summary.items()}
    clips = sum(row["clips"] for row in rows)
    return {"teaching": worth(mean["student alone"], mean["student"], mean["teacher"], clips, share)}


def _summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        role: {
            "mean": float(np.mean([row[role] for row in rows])),
            "spread": float(np.std([row[role] for row in rows], ddof=1)),
        }
        for role in ROLES
        if role in rows[0]
    }
