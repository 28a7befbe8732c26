"""From the options of a command line to a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeaudio.errors import EdgeAudioError

if TYPE_CHECKING:
    from edgeaudio.config import PruneSpec, Recipe
    from edgeaudio.training.job import Job

T = TypeVar("T")

PER_DEVICE_EPOCHS = 10
"""Of `--per-device`, unless `--set devices.epochs` says otherwise."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as it stands on the command line."""

    data: Path
    student: str
    teachers: Sequence[str] = ()
    checkpoints: Sequence[str] = ()
    limits: str = "none"
    prune_to: str | None = None
    target: str = "x86"
    fold: str | None = None
    seed: int = 0
    settings: Sequence[str] = ()
    skip_bad: bool = False
    path_column: str = "path"
    label_column: str = "label"
    subset: str = ""
    alone: bool = False
    per_device: bool = False
    all_clips: bool = False


def build_job(wanted: Wanted) -> Job:
    """The job that was asked for.

    Raises:
        EdgeAudioError: a recipe, a setting or a name is not as it should be.
    """
    from edgeaudio.config import DeviceSpec
    from edgeaudio.data.readers import CsvColumns
    from edgeaudio.recipes import chosen_recipes, load_target
    from edgeaudio.training.job import Job

    pruning, others = _apart(wanted.settings, "prune.")
    tuning, of_recipes = _apart(others, "devices.")
    if tuning and not wanted.per_device:
        raise EdgeAudioError(f"--set {tuning[0]} goes with --per-device; add it")

    learner, listened = chosen_recipes(wanted.student, wanted.teachers, of_recipes, wanted.checkpoints)
    if wanted.all_clips:  # no best epoch can be told
        learner, listened = _last_kept(learner), tuple(map(_last_kept, listened))
    default = {"epochs": PER_DEVICE_EPOCHS} if wanted.per_device else {}
    return Job(
        data=wanted.data,
        student=learner,
        teachers=listened,
        target=load_target(wanted.target),
        limits=findable(wanted.limits),
        prune=_prune_spec(wanted.prune_to, pruning),
        devices=_section(DeviceSpec, default, tuning, "devices"),
        alone=wanted.alone,
        all_clips=wanted.all_clips,
        fold=wanted.fold,
        seed=wanted.seed,
        skip_bad=wanted.skip_bad,
        settings=tuple(wanted.settings),
        columns=CsvColumns(wanted.path_column, wanted.label_column, wanted.subset),
    )


def _last_kept(recipe: Recipe) -> Recipe:
    kept = "last" if recipe.train.keep == "best" else recipe.train.keep
    return replace(recipe, train=replace(recipe.train, keep=kept))


def findable(limits: str) -> str | None:
    """A rule set's name, or its file so that it is found when the run is taken up from elsewhere."""
    if limits == "none":
        return None
    return str(Path(limits).resolve()) if limits.endswith(".toml") else limits


def name_of(data: Path) -> str:
    """What a data set is called: its folder, or its file without the ending."""
    path = data.resolve()
    return path.stem if path.is_file() else path.name


def _apart(settings: Sequence[str], prefix: str) -> tuple[list[str], list[str]]:
    inside = [setting for setting in settings if setting.startswith(prefix)]
    return inside, [setting for setting in settings if setting not in inside]


def _prune_spec(prune_to: str | None, settings: list[str]) -> PruneSpec:
    from edgeaudio.complexity import load_limits
    from edgeaudio.config import PruneSpec

    if prune_to is None:
        if settings:
            raise EdgeAudioError(f"--set {settings[0]} goes with --prune-to; name the rule set to prune to")
        return PruneSpec()
    load_limits(prune_to)  # said now, not after the teacher's training
    return _section(PruneSpec, {"limits": findable(prune_to)}, settings, "prune")


def _section(cls: type[T], given: dict[str, Any], settings: Sequence[str], name: str) -> T:
    from edgeaudio.recipes import from_table, parse_value

    pairs = [setting.removeprefix(f"{name}.").partition("=") for setting in settings]
    return from_table(cls, {**given, **{key: parse_value(value) for key, _, value in pairs}}, f"--set {name}")
