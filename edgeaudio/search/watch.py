"""A trial's training, watched: it is silent, stops where it lies behind, and ends with the search."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.trial import Trial

from edgeaudio.console import Console
from edgeaudio.search.objectives import Objective
from edgeaudio.training.progress import METRICS

T = TypeVar("T")
STUDENT = "student"


class Watch(Console):
    """The console of a trial: it prints nothing, and reports every epoch to the pruner.

    A progress bar is told of each epoch when its figures have been written; that is all it takes to follow
    a training from outside.

    Args:
        trial: whose training it is.
        run: its folder.
        epochs: of its training.
        objective: what the pruner compares; None stops nothing.
        beat: called with every epoch.
    """

    def __init__(
        self, trial: Trial, run: Path, epochs: int, objective: Objective | None, beat: Callable[[], None]
    ) -> None:
        super().__init__(quiet=True)
        self.trial, self.run, self.epochs, self.objective, self.beat = trial, run, epochs, objective, beat
        self._told: set[int] = set(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def warn(self, text: str) -> None:
        """Nothing: the search has said it once for all trials."""

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield the items; between two of them look at what the last epoch came to."""
        for item in items:
            self._between(description)
            yield item
        self._between(description)

    def _between(self, description: str) -> None:
        die_with_parent()
        self.beat()
        if description == STUDENT:
            found = list((self.run / "stages").glob(f"{STUDENT}-*.partial/{METRICS}"))
            if found:
                self.report(max(found, key=lambda path: path.stat().st_mtime))

    def report(self, metrics: Path) -> None:
        """Report the epochs of a training that haven't been reported yet.

        Raises:
            optuna.TrialPruned: it lies behind the others; never at its last epoch.
        """
        if self.objective is None:
            return
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
        for row in rows:
            epoch = int(row["epoch"])
            fresh = epoch not in self._told
            if fresh:
                self._told.add(epoch)
                self.trial.report(row[self.objective.learnt], epoch)
            # an interrupted trial may have reported its last epoch and not have been judged by it
            judged = (fresh or row is rows[-1]) and epoch + 1 < self.epochs
            if judged and self.trial.should_prune():
                raise optuna.TrialPruned(
                    f"stopped after epoch {epoch + 1} of {self.epochs}: below the median of the others"
                )


def die_with_parent() -> None:
    """End this worker if the search that started it is gone; its trial is taken up again with the search."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # an executor would catch any exception and wait for work for ever
