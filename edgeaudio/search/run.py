"""The search: check, share, let workers take trials until there are enough, and gather what they came to."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import torch

from edgeaudio.config import content_hash
from edgeaudio.console import Console
from edgeaudio.data import readers, splits, waveforms
from edgeaudio.errors import DataError, EdgeAudioError
from edgeaudio.search.defaults import default_space
from edgeaudio.search.ledger import Ledger, forget
from edgeaudio.search.plan import Plan
from edgeaudio.search.progress import Progress
from edgeaudio.search.results import Found, gather, write_recipes
from edgeaudio.search.teachers import Teachers
from edgeaudio.search.trial import perform
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.chain import locked

LOOK = 0.5  # seconds between two looks at what the workers have done


def search(
    plan: Plan,
    folder: Path,
    trials: int,
    workers: int = 1,
    device: str = "auto",
    console: Console | None = None,
    storage: str = "",
    force: bool = False,
) -> Found:
    """Search, or go on with a search that was interrupted.

    Args:
        plan: what is searched; without a space, the usual things vary.
        folder: of the search; a search found there goes on where it was.
        trials: number of trials in all, those that are over the limits included.
        workers: processes that train at the same time.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
        storage: an Optuna storage URL instead of the SQLite file in the folder.
        force: forget the trials that are there.

    Raises:
        EdgeAudioError: the data, a recipe or the space is not as it should be, or another search lies there.
    """
    console = console or Console(quiet=True)
    _refuse_inside(folder, plan.data)
    make_fabric(device, "32")  # an unknown device is said now
    job = plan.job()
    classes, data = _read(plan, console)
    plan = plan if plan.space else replace(plan, space=default_space(job, classes))
    plan.check(classes)
    with locked(folder):
        if force:
            forget(folder, storage)
        ledger = Ledger(plan, folder, data, storage)
        for vary in plan.space:
            console.stage("varies", f"{vary.key} {vary.text}")
        if len(ledger.trials) < trials or any(trial.state.name == "RUNNING" for trial in ledger.trials):
            if not any(_before_student(vary.key) for vary in plan.space):
                Teachers(folder, device, console).finish(replace(job, limits=None))
            with Progress(ledger, trials, console) as progress:
                if workers == 1:
                    work(plan, folder, data, storage, trials, classes, device, 0, progress.look)
                else:
                    _together(plan, folder, data, storage, trials, classes, device, workers, progress.look)
        found = gather(ledger, folder)
        write_recipes(found)
    return found


def work(
    plan: Plan, folder: Path, data: str, storage: str, trials: int, classes: int, device: str, threads: int,
    beat: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Take trials until enough have been begun: what each worker does.

    Args:
        plan: what is searched.
        folder: of the search.
        data: a hash of the clips, their splits and their sounds.
        storage: an Optuna storage URL, or empty.
        trials: number of trials in all.
        classes: number of classes.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of this worker; 0 leaves them as they are.
        beat: called with every epoch and every trial.
    """
    if threads:
        torch.set_num_threads(threads)
    beat = beat or (lambda: None)
    ledger = Ledger(plan, folder, data, storage)
    teachers = Teachers(folder, device, Console(quiet=True))
    while (claim := ledger.claim(trials)) is not None:
        perform(claim, ledger, teachers, classes, device, beat)
        beat()


def _together(
    plan: Plan, folder: Path, data: str, storage: str, trials: int, classes: int, device: str, workers: int,
    beat: Callable[[], None],
) -> None:  # fmt: skip
    """Let several processes work; the first error of one is raised when the others have been stopped."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1
    context = multiprocessing.get_context("spawn")  # torch's threads don't survive a fork
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: set[Future[None]] = {
            pool.submit(work, plan, folder, data, storage, trials, classes, device, threads)
            for _ in range(workers)
        }
        while waiting:
            done, waiting = wait(waiting, timeout=LOOK, return_when=FIRST_EXCEPTION)
            beat()
            for future in done:
                try:
                    future.result()
                except BrokenProcessPool as error:
                    raise EdgeAudioError(
                        "a worker was killed, perhaps for want of memory; run the same command again, with "
                        "fewer --workers: it goes on"
                    ) from error


def _read(plan: Plan, console: Console) -> tuple[int, str]:
    """Number of classes, and a hash of the clips, their splits and their sounds."""
    job = plan.job()
    table = readers.read(plan.data, plan.columns)
    if len(table.classes) < 2:
        raise DataError(
            f"{plan.data} holds the one class {table.classes[0]!r}; a classifier needs at least two"
        )
    if table.multi_label:
        raise DataError(
            f"{plan.data}: its clips may have several labels, and a search judges its trials by one label a "
            "clip; compare recipes with: edgeaudio train DATA -m RECIPE --set student.train.loss=bce"
        )
    rate = job.student.frontend.sample_rate
    clips, waves = waveforms.prepare(table, rate, console, plan.skip_bad)
    rows = [[c.label, c.split, c.device, c.group] for c in splits.split(clips, plan.seed, plan.fold)]
    return len(table.classes), content_hash([waves.key, rows])


def _before_student(key: str) -> bool:
    """Whether a setting changes a stage before the student's: trials then share none with the recipe."""
    role, _, rest = key.partition(".")
    return role != "student" or rest.startswith(("frontend", "window_seconds", "distill"))


def _refuse_inside(folder: Path, data: Path) -> None:
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise EdgeAudioError(f"the search {folder} lies inside the data {data}; choose another place with -o")
