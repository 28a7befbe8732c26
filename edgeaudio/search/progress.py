"""How far a search has come: a line for each trial that ended, and a bar with the best so far."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial

from edgeaudio.console import Console
from edgeaudio.search.ledger import Ledger
from edgeaudio.search.objectives import order
from edgeaudio.search.results import told

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

QUALITY = ("accuracy", "log_loss")


class Progress:
    """Shows the trials of a search as they end, whichever process makes them.

    Args:
        ledger: the book they are entered into.
        wanted: number of trials in all.
        console: says it.
    """

    def __init__(self, ledger: Ledger, wanted: int, console: Console) -> None:
        self.ledger, self.wanted, self.console = ledger, wanted, console
        self._seen = {trial.number for trial in ledger.trials if trial.state.is_finished()}
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if self.console.shows_bars:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            parts = (
                "      search ",
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*parts, console=RichConsole(stderr=True), transient=True)
            self._bar.start()
            self._bar.add_task("", total=self.wanted)
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
        if self._bar is not None:
            self._bar.stop()

    def look(self) -> None:
        """Say what has ended since the last look."""
        ended = [trial for trial in self.ledger.trials if trial.state.is_finished()]
        for trial in ended:
            if trial.number not in self._seen:
                self._seen.add(trial.number)
                self.console.stage(f"trial {trial.number}", self._line(trial))
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=len(ended), description=self._best(ended))

    def _line(self, trial: FrozenTrial) -> str:
        facts = trial.user_attrs
        if facts.get("ended") != "finished":
            return f"{facts.get('ended', 'ended')}: {facts.get('sentence', '')}"
        return self._figures(trial)

    def _best(self, ended: list[FrozenTrial]) -> str:
        objectives = self.ledger.plan.objectives
        finished = [trial for trial in ended if trial.user_attrs.get("ended") == "finished"]
        if not finished:
            return "nothing finished yet"
        best = min(finished, key=lambda t: (*order(t.user_attrs["figures"], objectives), t.number))
        return f"best {self._figures(best)} (trial {best.number})"

    def _figures(self, trial: FrozenTrial) -> str:
        figures = trial.user_attrs["figures"]
        names = [each.name for each in self.ledger.plan.objectives]
        shown = [*names, *(name for name in ("accuracy", "macs") if name not in names)]
        return " · ".join(f"{told(figures, name)} {name.replace('_', ' ')}" for name in shown)
