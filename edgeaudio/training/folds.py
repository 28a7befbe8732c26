"""Cross-validation: the main job once for each official fold, and one summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeaudio import __version__
from edgeaudio.console import Console
from edgeaudio.data import readers
from edgeaudio.errors import DataError
from edgeaudio.training.distill import Outcome, run
from edgeaudio.training.job import Job

ROLES = ("teacher", "student", "student int8")


def run_folds(
    job: Job,
    folder: Path,
    device: str,
    console: Console,
    force: str | None,
    finish: Callable[[Outcome], Path],
) -> dict[str, Any]:
    """Do the job once for each fold, in `folder/fold-<name>`; a killed one goes on where it was.

    Args:
        job: its `fold` is replaced.
        folder: where the folds' runs lie.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
        force: a stage to redo in every fold.
        finish: called with each fold's outcome; writes its report and returns its path.

    Returns:
        A report of all folds: accuracy of each, mean and spread (standard deviation over the folds), and
        the confusions of all folds together. ``broken`` names the folds in which a parity bound broke.
    """
    names = readers.read(job.data, job.columns).folds
    if len(names) < 2:
        raise DataError(f"{job.data} has no folds; leave --folds out, or add a fold column")
    rows, confusion, broken = [], None, list[str]()
    for name in names:
        console.stage("fold", f"{name} of {', '.join(names)}")
        fold_job = replace(job, fold=name)
        outcome = run(fold_job, folder / f"fold-{name}", device, console, force=force, strict=False)
        # one fold's broken bound must not cost the others; it is told at the end
        broken += [f"fold {name}: {sentence}" for sentence in outcome.broken]
        for sentence in outcome.broken:
            console.warn(f"fold {name}: {sentence}; no bundle")
        report = None if outcome.broken else finish(outcome)
        tested = outcome.measured["test"]
        accuracy = {row["role"]: row["accuracy"] for row in outcome.measured["models"]}
        rows.append(
            {
                "fold": name,
                "clips": int(np.sum(tested["confusion"])),
                **{role: accuracy[role] for role in ROLES if role in accuracy},
                **({"report": report.relative_to(folder).as_posix()} if report else {}),
            }
        )
        table = np.asarray(tested["confusion"])
        confusion = table if confusion is None else confusion + table
    assert confusion is not None
    return {
        "schema": 1,
        "title": f"{job.student.name} on {job.data.name}, {len(names)} folds",
        "edgeaudio": __version__,
        "folds": rows,
        "broken": broken,
        "folds_summary": _summary(rows),
        "test": {"classes": tested["classes"], "shown": "student int8", "confusion": confusion.tolist()},
        "reproduce": {"command": f"{job.command()} --folds all", "seed": job.seed},
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        role: {
            "mean": float(np.mean([row[role] for row in rows])),
            "spread": float(np.std([row[role] for row in rows], ddof=1)),
        }
        for role in ROLES
        if role in rows[0]
    }
