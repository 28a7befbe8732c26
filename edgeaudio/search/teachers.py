"""What trials share (the data, the teachers, their stored answers), done once in a run of its own and lent.

The main job is done here up to the teachers' answers, and whatever was finished by then is linked into each
trial's run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from edgeaudio.config import content_hash
from edgeaudio.console import Console
from edgeaudio.search.watch import die_with_parent
from edgeaudio.training import distill
from edgeaudio.training.job import Job

T = TypeVar("T")
FOLDER = "teachers"


class Teachers:
    """The run of what trials share, for whichever trial needs which part.

    Args:
        folder: of the search.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
    """

    def __init__(self, folder: Path, device: str, console: Console) -> None:
        self.folder, self.device = folder / FOLDER, device
        self.console = _Attended(console)
        self._ready: set[str] = set()

    def lend(self, job: Job, run: Path) -> None:
        """Have all that stands before a job's student finished, and link it into the job's run.

        Stages are keyed by content, so one that isn't the job's own is never taken.
        """
        self.finish(job)
        target = run / "stages"
        target.mkdir(parents=True, exist_ok=True)
        for stage in (self.folder / "stages").iterdir():
            link = target / stage.name
            if stage.suffix != ".partial" and not link.exists():
                link.unlink(missing_ok=True)  # of a stage that was deleted meanwhile
                link.symlink_to(os.path.relpath(stage.resolve(), target.resolve()))

    def finish(self, job: Job) -> None:
        """Do the main job until it is the student's turn; workers wait for the one that does."""
        key = _needed(job)
        if key in self._ready:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".queue").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            distill.run(job, self.folder, self.device, self.console, until="answers", keep_job=False)
        self._ready.add(key)


class _Attended(Console):
    """A console that ends the job when the search that wants it has ended."""

    def __init__(self, console: Console) -> None:
        super().__init__(console.quiet)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        for item in super().track(items, description, total):
            die_with_parent()
            yield item


def _needed(job: Job) -> str:
    """A hash of what decides the stages before the student's."""
    student = job.student
    needed: list[Any] = [job.teachers, student.frontend, student.window_seconds, student.distill]
    if student.distill.views:  # answers to the very views that the student hears
        needed += [student.augment, student.train]
    return content_hash(needed)
