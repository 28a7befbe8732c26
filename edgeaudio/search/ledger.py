"""The book of trials: an Optuna study, from which each worker takes the next trial that nobody works at.

A worker holds a lock on the file of its trial; the system lets go of it when the process ends, however it
ends. So a trial that runs in the book and whose lock is free was interrupted, and is taken up again. What a
trial draws comes from (seed, its number, the trials before it) alone: one worker that was interrupted makes
the same trials as one that wasn't.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeaudio.errors import EdgeAudioError
from edgeaudio.search.plan import Plan
from edgeaudio.search.space import settings_of

DATABASE, TRIALS, STUDY = "search.db", "trials", "search"
STARTUP = 5  # trials before any is stopped early: a median of fewer says little
PATIENCE = 60.0  # seconds for another process to let go of the database

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Claim:
    """A trial that this process works at."""

    trial: Trial
    folder: Path
    """Of its run."""
    lock: IO[str]
    """Held until it is told."""


class Ledger:
    """The trials of a search.

    Args:
        plan: what is searched.
        folder: of the search; its `trials/NUMBER` are the trials' runs.
        data: a hash of the clips, their splits and their sounds.
        storage: an Optuna storage URL; a SQLite file in the folder where empty.

    Raises:
        EdgeAudioError: the storage holds a search with another plan, or can't be opened.
    """

    def __init__(self, plan: Plan, folder: Path, data: str, storage: str = "") -> None:
        self.plan, self.folder, self.shared = plan, folder, bool(storage)
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        with self._alone():
            self.study = self._open(storage or f"sqlite:///{folder / DATABASE}")
            self._compare(plan.parts(data))
            if plan.space and not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(plan.start())  # the recipe as it is: what is found is no worse

    def _open(self, url: str) -> optuna.Study:
        options = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {}
        watched = self.plan.watched
        epochs = self.plan.job().student.train.epochs
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            return optuna.create_study(
                storage=storage,
                study_name=self.folder.resolve().name if self.shared else STUDY,
                directions=[StudyDirection[each.direction.upper()] for each in self.plan.objectives],
                pruner=optuna.pruners.MedianPruner(STARTUP, max(1, epochs // 4)) if watched else None,
                load_if_exists=True,
            )
        except ImportError as error:
            raise EdgeAudioError(f"--storage {url}: its driver is missing ({error}); install it") from error
        except Exception as error:  # SQLAlchemy's own tree of errors, one for each kind of database
            if not type(error).__module__.startswith(("sqlalchemy", "optuna", "sqlite3")):
                raise
            reason = str(error).splitlines()[0]
            raise EdgeAudioError(f"the storage {url} can't be opened: {reason}") from error

    def _compare(self, mine: dict[str, str]) -> None:
        theirs = self.study.user_attrs.get("plan")
        if theirs is None:
            self.study.set_user_attr("plan", mine)
            return
        changed = [what for what in mine if theirs.get(what) != mine[what]]
        if changed:
            raise EdgeAudioError(
                f"{self.folder} holds a search that differs in its {' and '.join(changed)}; choose another "
                "-o, or start it anew with --force"
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that were begun, by number."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def claim(self, wanted: int) -> Claim | None:
        """The next trial to work at, interrupted ones first; None where `wanted` trials have been begun."""
        with self._alone():
            begun = self.trials
            for trial in begun:
                if trial.state == TrialState.RUNNING and (lock := self._interrupted(trial)):
                    return self._claim(trial._trial_id, trial.number, lock)
            if len(begun) >= wanted:
                return None
            self.study.sampler = optuna.samplers.RandomSampler()  # draws nothing yet: the number isn't known
            fresh = self.study.ask()
            lock = _try_lock(self._lock_file(fresh.number))
            assert lock is not None, f"trial {fresh.number} is new and locked"
            return self._claim(fresh._trial_id, fresh.number, lock)

    def _claim(self, identity: int, number: int, lock: IO[str]) -> Claim:
        self.study.sampler = self._sampler(number, 0)
        trial = Trial(self.study, identity)
        _ = trial.relative_params  # what is drawn together is drawn now, by this sampler; else by a later one
        return Claim(trial, self.folder / TRIALS / str(number), lock)

    def draw(self, claim: Claim) -> list[str]:
        """What a trial varies, as settings; what an interrupted one had drawn, it draws again."""
        drawn = []
        for place, vary in enumerate(self.plan.space, start=1):
            # a sampler of its own for each: which were drawn before the interruption must not matter
            self.study.sampler = self._sampler(claim.trial.number, place)
            drawn += settings_of(vary, vary.draw(claim.trial))
        return drawn

    def known(self, drawn: list[str]) -> FrozenTrial | None:
        """A finished trial that drew the very same: to train it again would only repeat it."""
        finished = (trial for trial in self.trials if trial.state == TrialState.COMPLETE)
        return next((trial for trial in finished if settings_of_trial(trial) == drawn), None)

    def _sampler(self, number: int, place: int) -> optuna.samplers.BaseSampler:
        seed = np.random.SeedSequence([self.plan.seed, number, place]).generate_state(1)[0]
        return _Sampler(seed=int(seed))

    def _interrupted(self, trial: FrozenTrial) -> IO[str] | None:
        """The lock of a trial that nobody works at any more."""
        path = self._lock_file(trial.number)
        if self.shared and not path.exists():
            return None  # another machine's
        return _try_lock(path)

    def tell(self, claim: Claim, state: TrialState, values: list[float] | None, **facts: Any) -> None:
        """Close a trial, with what is known of it."""
        for key, value in facts.items():
            claim.trial.set_user_attr(key, value)
        with self._alone():  # nobody may take its lock for that of an interrupted one
            self.study.tell(claim.trial, values, state)
            claim.lock.close()
            self._lock_file(claim.trial.number).unlink(missing_ok=True)

    def _lock_file(self, number: int) -> Path:
        return self.folder / TRIALS / f"{number}.lock"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / TRIALS / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class _Sampler(optuna.samplers.TPESampler):
    """Knows the space from finished trials alone: an interrupted one may not have drawn all of it."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        if len(study.directions) > 1:
            return {}  # with several objectives each value is drawn by itself
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        space = optuna.search_space.intersection_search_space(finished, include_pruned=True)
        return {name: each for name, each in sorted(space.items()) if not each.single()}


def forget(folder: Path, storage: str = "") -> None:
    """Delete the trials of a search; teachers that were trained for it stay."""
    for name in (DATABASE, f"{DATABASE}-journal", "best.toml", "search.html", "search.json"):
        (folder / name).unlink(missing_ok=True)
    for name in (TRIALS, "front"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if storage:
        with contextlib.suppress(KeyError):  # there was none
            optuna.delete_study(study_name=folder.resolve().name, storage=storage)


def settings_of_trial(trial: FrozenTrial) -> list[str]:
    """What a trial drew, as settings."""
    return [str(setting) for setting in json.loads(trial.user_attrs.get("settings", "[]"))]


def _try_lock(path: Path) -> IO[str] | None:
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
