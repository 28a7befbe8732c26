"""The plan of a search: all that decides which trials are made. It makes a job of a trial's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeaudio import models
from edgeaudio.complexity import load_limits
from edgeaudio.config import Recipe, canonical_json
from edgeaudio.data.readers import CsvColumns
from edgeaudio.errors import RecipeError
from edgeaudio.recipes import chosen_recipes, load_target, recipe_to_table
from edgeaudio.search.objectives import Objective
from edgeaudio.search.space import Vary, settings_of, spelled
from edgeaudio.training.job import Job

COMPANY = 24  # draws of the other settings before a value is called impossible


@dataclass(frozen=True)
class Plan:
    """What is searched, in which data, for what."""

    data: Path
    """Folder or CSV of labelled sounds."""
    student: str
    """Recipe by name or path."""
    teachers: tuple[str, ...]
    """Recipes by name or path; none for plain training."""
    objectives: tuple[Objective, ...]
    """What is wanted."""
    space: tuple[Vary, ...] = ()
    """What varies."""
    settings: tuple[str, ...] = ()
    """Changes that hold for all trials."""
    checkpoints: tuple[str, ...] = ()
    """What the recipes start from, as given."""
    limits: str | None = "dcase2024"
    """Rule set by name or path that every trial must keep; None for none."""
    fold: str | None = None
    """Fold that is held out as test."""
    seed: int = 0
    """Of the search and of every training."""
    columns: CsvColumns = field(default_factory=CsvColumns)
    """How the data is read."""
    skip_bad: bool = False
    """Leave unreadable clips out."""
    early_stop: bool = True
    """Stop trials that lie behind the others; with one objective only."""

    @property
    def names(self) -> list[str]:
        """Of the recipes, student first."""
        return [Path(name).stem for name in (self.student, *self.teachers)]

    @property
    def watched(self) -> Objective | None:
        """The objective by which trials are stopped early; None where none may be.

        Trials of different lengths can't be compared by the epoch.
        """
        lengths = any(vary.key.endswith(".train.epochs") for vary in self.space)
        alone = len(self.objectives) == 1 and self.early_stop and not lengths
        return self.objectives[0] if alone else None

    def job(self, drawn: Sequence[str] = ()) -> Job:
        """The job of a trial.

        Args:
            drawn: its settings, ``student.train.epochs=5``; they pass the checks that ``--set`` passes.

        Raises:
            RecipeError: a setting is unknown or its value impossible.
        """
        changes = [*self.settings, *drawn]
        learner, listened = chosen_recipes(self.student, self.teachers, changes, self.checkpoints)
        return Job(
            data=self.data, student=learner, teachers=listened, target=load_target("x86"),
            limits=self.limits, fold=self.fold, seed=self.seed, skip_bad=self.skip_bad,
            settings=tuple(changes), columns=self.columns,
        )  # fmt: skip

    def check(self, classes: int) -> None:
        """Try every choice and both ends of every range, before the first trial.

        A value that is impossible by itself may still be right beside others (a share of noise needs its
        folder), so it is refused only where no draw of the others makes it possible.

        Raises:
            RecipeError: a value can't be trained with, or it would change nothing.
        """
        rng = np.random.default_rng(self.seed)
        for vary in self.space:
            if vary.key.partition(".")[0] == "teacher" and not self.teachers:
                raise RecipeError(
                    f"{vary.key} varies, but the search has no teacher; name one with --teacher"
                )
            for value in vary.ends:
                self._check(vary, value, classes, rng)

    def _check(self, vary: Vary, value: Any, classes: int, rng: np.random.Generator) -> None:
        own = settings_of(vary, value)
        try:
            self._build(own, classes)
            return
        except RecipeError as error:
            refused = error
        others = [each for each in self.space if each.key != vary.key]
        for _ in range(COMPANY if others else 0):
            beside = [
                s for each in others for s in settings_of(each, each.ends[rng.integers(len(each.ends))])
            ]
            try:
                self._build([*beside, *own], classes)
                return
            except RecipeError:
                continue
        raise RecipeError(f"{vary.key} = {spelled(value)} is impossible: {refused}") from refused

    def _build(self, drawn: list[str], classes: int) -> None:
        job = self.job(drawn)
        for recipe in (job.student, *job.teachers):
            models.build(recipe.model.name, classes, **recipe.model.options)

    def start(self) -> dict[str, Any]:
        """The recipes' own values of what varies, as a storage holds them, where they lie in the space."""
        job, found = self.job(), {}
        for vary in self.space:
            role, _, rest = vary.key.partition(".")
            value = vary.stored(_value(self._of_role(job, role), rest))
            if value is not None:
                found[vary.key] = value
        return found

    def _of_role(self, job: Job, role: str) -> Recipe:
        """The recipe that a key's first word means: a role, or a recipe's own name."""
        if role == "teacher":
            return job.teachers[0]
        return next((recipe for recipe in job.teachers if recipe.name == role), job.student)

    def parts(self, data: str) -> dict[str, str]:
        """What a search can't change on the way, by what it is called in a sentence.

        Args:
            data: a hash of the clips, their splits and their sounds.
        """
        job = self.job()
        rules = None if self.limits is None else asdict(load_limits(self.limits))
        return {
            "data set": data,
            "space": canonical_json([asdict(vary) for vary in self.space]),
            "objectives": canonical_json([each.name for each in self.objectives]),
            "student": canonical_json(recipe_to_table(job.student)),
            "teachers": canonical_json([recipe_to_table(recipe) for recipe in job.teachers]),
            "limits": canonical_json(rules),
            "seed": str(self.seed),
            "way of stopping early": str(self.watched is not None),
        }

    def with_space(self, space: tuple[Vary, ...]) -> Plan:
        """The same with another space."""
        return replace(self, space=space)


def _value(recipe: Recipe, key: str) -> Any:
    """A recipe's own value; the architecture's where the recipe leaves it open."""
    table = recipe_to_table(recipe)
    value: Any = {**table, "model": {**models.model_options(recipe.model.name), **table["model"]}}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return list(value) if isinstance(value, tuple) else value
