"""A job is a chain of stages keyed by content: a finished stage is never redone, a killed one goes on.

A stage works in `stages/<name>-<key>.partial/` and appears as `stages/<name>-<key>/` by one rename when it is
whole. The key is a hash of the stage's settings, of the keys of the stages it builds on, and of our own code,
so a changed setting, data set or version leads to another folder and nothing stale is ever taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeaudio.config import content_hash
from edgeaudio.errors import EdgeAudioError, did_you_mean

RESULT = "result.json"
_NO_EFFECT = (
    "cli/", "console.py", "__init__.py", "answers.py", "latency.py", "evaluation.py", "report/",
    "data/preview.py", "data/durations.py", "complexity/", "export/challenge/", "weights/",
    "training/subject.py", "training/preview.py", "bench/", "browser/", "service/", "verify.py", "events.py",
    "streaming.py", "recordings.py", "microphone.py", "host_frontend.py", "onnx_split.py", "search/",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    key: str
    folder: Path
    """Its files."""
    result: dict[str, Any]
    """What it returned."""
    cached: bool
    """Whether it had been finished before."""


class Chain:
    """Runs stages inside a run's folder.

    Args:
        folder: the run.
        force: a stage to redo, with all that follow it.
        names: the stages of the job, in order; `force` must be one of them.
        rank: number of this process among those that do the job together.
        processes: how many those are.
        meet: called where they wait for each other.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...],
        force: str | None = None,
        rank: int = 0,
        processes: int = 1,
        meet: Callable[[], object] = lambda: None,
    ) -> None:
        self.rank, self.processes, self._meet = rank, processes, meet
        self.leads = rank == 0
        """Whether this is the process that writes."""
        if force is not None and force not in names:
            raise EdgeAudioError(f"--force: no stage {force!r}; {did_you_mean(force, names)}")
        self.folder = folder
        for name in names[names.index(force) :] if force and self.leads else ():
            for stage in (folder / "stages").glob(f"{name}[-.]*"):
                _remove(stage)  # all of them at once: a kill must not leave old ones behind a new one

    def part(self) -> None:
        """From here on the first process goes on alone."""
        self._meet = lambda: None

    def run(
        self,
        name: str,
        settings: Any,
        inputs: list[Stage],
        make: Callable[[Path], dict[str, Any]],
        resumable: bool = False,
        together: bool = False,
    ) -> Stage:
        """Run a stage, or take it from where it lies finished.

        Args:
            name: of the stage; a teacher's may carry a suffix after a dot.
            settings: all that decides its outcome, made of dataclasses, dicts, lists and plain values.
            inputs: the stages whose files it reads.
            make: writes its files into the folder it is given and returns plain JSON values.
            resumable: leave in that folder what an interrupted attempt at the very same stage wrote.
            together: all processes make it; else the first does, and the others take it when it is there.
        """
        key = content_hash([name, settings, [stage.key for stage in inputs], code_version()])[:16]
        final = self.folder / "stages" / f"{name}-{key}"
        self._meet()
        if (final / RESULT).is_file():
            self._meet()  # nobody begins the next stage while another still looks
            return Stage(name, key, final, json.loads((final / RESULT).read_text()), cached=True)
        partial = final.with_name(final.name + ".partial")
        self._meet()
        if self.leads:
            _remove(final)
            if not resumable:
                shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, exist_ok=True)
        self._meet()
        result = make(partial) if self.leads or together else {}
        self._meet()
        if self.leads:
            (partial / RESULT).write_text(json.dumps(result, indent=1))
            partial.rename(final)
        self._meet()
        return Stage(name, key, final, json.loads((final / RESULT).read_text()), cached=False)


def _remove(stage: Path) -> None:
    """Delete a stage's folder; from the first moment on it no longer counts as finished."""
    (stage / RESULT).unlink(missing_ok=True)
    shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process; two jobs in one folder would tread on each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EdgeAudioError(
                f"{folder} is in use by another edgeaudio; wait for it or choose another -o"
            ) from error
        yield


def publish(source: Path, target: Path) -> None:
    """Copy a stage's folder to its public place; a kill leaves the old one, none, or the new one, whole."""
    fresh, old = (target.with_name(f".{target.name}.{word}") for word in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(RESULT))
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@functools.cache
def code_version() -> str:
    """Hash of our sources that decide a stage's outcome, and of the versions of the libraries that do."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(_NO_EFFECT):
            digest.update(name.encode() + path.read_bytes())
    for library in ("torch", "onnx", "onnxscript", "onnxruntime", "soxr"):
        digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()
