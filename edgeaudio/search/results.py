"""What a search came to: its trials, the best of them, the front, and what mattered."""

from __future__ import annotations

import json
import shlex
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from edgeaudio import __version__
from edgeaudio.complexity import load_limits, write_recipe
from edgeaudio.recipes import parse_value, settings_for
from edgeaudio.search.ledger import TRIALS, Ledger, settings_of_trial
from edgeaudio.search.objectives import OBJECTIVES, Objective, front, order
from edgeaudio.search.plan import Plan
from edgeaudio.training.chain import RESULT

BEST, FRONT = "best.toml", "front"
ENOUGH = 8  # finished trials before it is said what mattered


@dataclass(frozen=True)
class Row:
    """One trial."""

    number: int
    ended: str
    """``finished``, ``stopped`` (behind the others), ``over`` (the limits), ``failed`` or ``running``."""
    settings: dict[str, Any]
    """What it drew."""
    figures: dict[str, float]
    """What is known of it, by name; costs alone where it wasn't trained to its end."""
    sentence: str = ""
    """Why it didn't finish."""
    drawn: tuple[str, ...] = ()
    """What it drew, as settings."""
    run: int = 0
    """The trial in whose run it was trained: its own, or an earlier one that drew the same."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    plan: Plan
    folder: Path
    rows: tuple[Row, ...]
    """All trials that were begun, by number."""
    front: tuple[int, ...]
    """Trials that no other beats, the best in the first objective first; with one objective the best."""
    importance: dict[str, dict[str, float]] = field(default_factory=dict)
    """Objective → what varied → its share in the spread of that objective; shares sum to 1."""

    @property
    def best(self) -> Row | None:
        """The best in the first objective; None where no trial finished."""
        return next((row for row in self.rows if self.front and row.number == self.front[0]), None)

    def count(self, ended: str) -> int:
        """Number of trials that ended so."""
        return sum(row.ended == ended for row in self.rows)

    @property
    def complaint(self) -> str:
        """Why nothing was found."""
        told = [row for row in self.rows if row.sentence]
        ends = {"over": "over the limits", "failed": "failed", "stopped": "stopped early"}
        parts = [f"{self.count(end)} {words}" for end, words in ends.items() if self.count(end)]
        last = f"; the last one said: {told[-1].sentence}" if told else ""
        return f"none of {len(self.rows)} trials finished ({', '.join(parts)}){last}"

    def recipe_file(self, number: int) -> Path:
        """Where the recipe of a trial of the front stands."""
        return self.folder / (BEST if number == self.front[0] else f"{FRONT}/{number:02d}.toml")

    def run(self, number: int) -> Path:
        """The run of a trial."""
        return self.folder / TRIALS / str(next(row.run for row in self.rows if row.number == number))

    def test(self) -> dict[str, float]:
        """Accuracy and number of the test clips, of the best trial alone: no other is asked about them."""
        [result] = self.run(self.front[0]).glob(f"stages/student-*/{RESULT}")
        figures = json.loads(result.read_text())["test"]
        return {"accuracy": figures["accuracy"], "clips": figures["clips"]}

    def command(self, number: int) -> str:
        """The command that goes on with a trial of the front: to its bundle, its student being trained."""
        plan, row = self.plan, next(row for row in self.rows if row.number == number)
        verb, role = ("distill", "--student") if plan.teachers else ("train", "--model")
        words = ["edgeaudio", verb, str(plan.data), role, str(self.recipe_file(number))]
        for name in plan.teachers:
            words += ["--teacher", name]
        if plan.teachers:  # without them the recipe holds its checkpoint
            words += [word for each in plan.checkpoints for word in ("--from", each)]
        words += ["--limits", plan.limits or "none", "--seed", str(plan.seed)]
        changes = [*plan.settings, *row.drawn]
        for name in plan.teachers:
            for change in settings_for("teacher", changes, Path(name).stem, plan.names):
                words += ["--set", f"{Path(name).stem}.{change}"]
        words += ["--fold", plan.fold] if plan.fold else []
        columns = plan.columns
        for option, value, usual in (
            ("--path-column", columns.path, "path"), ("--label-column", columns.label, "label"),
            ("--subset", columns.subset, ""),
        ):  # fmt: skip
            words += [option, value] if value != usual else []
        words += ["--skip-bad"] if plan.skip_bad else []
        return shlex.join([*words, "-o", str(self.run(number))])

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; also what the page is drawn from."""
        limits = load_limits(self.plan.limits) if self.plan.limits else None
        return {
            "schema": 1,
            "title": f"{Path(self.plan.student).stem} on {self.plan.data.resolve().name}",
            "edgeaudio": __version__,
            "data": str(self.plan.data),
            "objectives": [asdict(each) for each in self.plan.objectives],
            "space": {vary.key: vary.text for vary in self.plan.space},
            "limits": asdict(limits) if limits else None,
            "trials": [
                {key: value for key, value in asdict(row).items() if key != "drawn"} for row in self.rows
            ],
            "front": [
                {"trial": number, "recipe": str(self.recipe_file(number)), "command": self.command(number)}
                for number in self.front
            ],
            "test": self.test() if self.front else None,
            "importance": self.importance,
            "seed": self.plan.seed,
        }


def gather(ledger: Ledger, folder: Path) -> Found:
    """Read the book of a search."""
    plan, trials = ledger.plan, ledger.trials
    rows = tuple(_row(trial) for trial in trials)
    finished = {row.number: row.figures for row in rows if row.ended == "finished"}
    best = sorted(finished, key=lambda number: (*order(finished[number], plan.objectives), number))[:1]
    kept = front(finished, plan.objectives) if len(plan.objectives) > 1 else best
    return Found(plan, folder, rows, tuple(kept), _importance(ledger.study, trials, plan.objectives))


def write_recipes(found: Found) -> None:
    """Write the best trial's recipe, and with several objectives one for each trial of the front."""
    shutil.rmtree(found.folder / FRONT, ignore_errors=True)
    for number in found.front:
        row = next(row for row in found.rows if row.number == number)
        student = found.plan.job(row.drawn).student
        accuracy = 100 * row.figures["accuracy"]
        summary = f"trial {number} of a search from {student.name}: {accuracy:.1f} % of the validation clips"
        written = replace(student, summary=summary)
        if len(found.plan.objectives) > 1:
            write_recipe(written, found.folder / FRONT / f"{number:02d}.toml")
        if number == found.front[0]:
            write_recipe(written, found.folder / BEST)


def _row(trial: FrozenTrial) -> Row:
    facts = trial.user_attrs
    drawn = settings_of_trial(trial)
    pairs = [setting.partition("=") for setting in drawn]
    return Row(
        number=trial.number,
        ended=facts.get("ended", "running"),
        settings={key: parse_value(value) for key, _, value in pairs},
        figures=facts.get("figures", {}),
        sentence=facts.get("sentence", ""),
        drawn=tuple(drawn),
        run=facts.get("run", trial.number),
    )


def _importance(
    study: optuna.Study, trials: Sequence[FrozenTrial], objectives: Sequence[Objective]
) -> dict[str, dict[str, float]]:
    """What the quality hung on; of the costs it is plain.

    Source: Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces", IJCAI 2023, as Optuna computes it.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    found = {}
    for place, objective in enumerate(objectives):
        values = {trial.values[place] for trial in finished}
        if objective.learnt and len(finished) >= ENOUGH and len(values) > 1:
            with warnings.catch_warnings():  # it asks for a target of which less is better; ours is
                warnings.simplefilter("ignore", UserWarning)
                shares = optuna.importance.get_param_importances(study, target=_cost_at(place, objective))
            found[objective.name] = {key: float(share) for key, share in shares.items()}
    return found


def _cost_at(place: int, objective: Objective) -> Callable[[FrozenTrial], float]:
    """What the evaluator takes for good: less."""
    return lambda trial: objective.worse(trial.values[place])


def told(figures: dict[str, float], name: str) -> str:
    """A figure in words."""
    value = figures.get(name)
    if value is None:
        return "–"
    if name == "accuracy":
        return f"{100 * value:.1f} %"
    if name == "log_loss":
        return f"{value:.3f}"
    return f"{value:,.0f}"


def heading(names: Sequence[str]) -> list[str]:
    """Table heads of figures."""
    return [OBJECTIVES[name].title for name in names]
