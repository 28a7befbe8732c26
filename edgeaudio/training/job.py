"""A job: all that decides a run's outcome. It is stored in the run, so that any verb can go on with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeaudio.config import DeviceSpec, PruneSpec, Recipe, Target
from edgeaudio.data.clips import Clips
from edgeaudio.data.readers import CsvColumns
from edgeaudio.errors import EdgeAudioError, RecipeError
from edgeaudio.quantization.spec import QuantSpec
from edgeaudio.recipes import from_table, recipe_from_table, recipe_to_table

JOB_FILE, RUN_TABLE = "job.json", "clips.csv"


@dataclass(frozen=True)
class Job:
    """One data set, its teachers and student, the rules and the target."""

    data: Path
    """Folder or CSV of labelled sounds."""
    student: Recipe
    """The model that is shipped."""
    teachers: tuple[Recipe, ...]
    """The models it listens to; none for plain training."""
    target: Target
    """The integers it is quantised to."""
    limits: str | None = "dcase2024"
    """Rule set by name or path; None holds it against nothing."""
    prune: PruneSpec = field(default_factory=PruneSpec)
    """How far the trained student is pruned, and how."""
    devices: DeviceSpec = field(default_factory=DeviceSpec)
    """Whether each device gets a model of its own."""
    alone: bool = False
    """Train the student without its teachers too, to see what they are worth."""
    all_clips: bool = False
    """Learn from the validation clips too; then nothing is chosen by them but layers' integers."""
    fold: str | None = None
    """Fold that is held out as test."""
    seed: int = 0
    """Of every random draw."""
    calibration: int = 256
    """Training windows that the integer ranges are taken from, as many of each class."""
    calibration_list: str | None = None
    """CSV of training clips that are calibrated with instead."""
    quantisation: QuantSpec = field(default_factory=QuantSpec)
    """How the integers are found."""
    max_drop: float = 0.02
    """Loss of accuracy that quantisation may cost, as a share of 1; one clip is always allowed."""
    columns: CsvColumns = field(default_factory=CsvColumns)
    """How the data is read: columns of a CSV that hold the path and the label, and the subset."""
    skip_bad: bool = False
    """Leave unreadable clips out."""
    settings: tuple[str, ...] = ()
    """Changes to the recipes as they were given; kept to tell how to repeat the job."""

    def __post_init__(self) -> None:
        student = self.student
        if self.target.runtime != "onnxruntime":
            raise RecipeError(
                f"a run's own bundle is for ONNX Runtime: use --target x86 or arm here, and afterwards "
                f"edgeaudio export RUN --target {self.target.name}"
            )
        for teacher in self.teachers:
            if teacher.window_seconds < student.window_seconds:
                raise RecipeError(
                    f"teacher {teacher.name} hears {teacher.window_seconds:g} s, student {student.name} "
                    f"{student.window_seconds:g} s; a teacher may hear more, but not less: "
                    f"--set teacher.window_seconds={student.window_seconds:g}"
                )
        for recipe in (student, *self.teachers):
            if recipe.train.freeze and not recipe.weights:
                raise RecipeError(
                    f"{recipe.name}: train.freeze = {recipe.train.freeze!r} keeps what a checkpoint holds; "
                    f"say which one: --from {recipe.name}=CHECKPOINT"
                )
        if self.all_clips:
            self._check_unchosen()
        self._check_answers()

    def _check_unchosen(self) -> None:
        for role, recipe in (("student", self.student), *(("teacher", teacher) for teacher in self.teachers)):
            wrong = {"keep": (recipe.train.keep, "last"), "patience": (recipe.train.patience, 0)}
            for name, (value, needed) in wrong.items():
                if value != needed:
                    raise RecipeError(
                        f"{recipe.name}: train.{name} = {value} goes by validation clips, and --all-clips "
                        f"keeps none apart; --set {role}.train.{name}={needed}"
                    )
        asked = {
            "fusion = learned": self.student.distill.fusion == "learned",
            "--per-device": self.devices.epochs > 0,
            "--prune-to": self.prune.limits is not None,
        }
        for name, given in asked.items():
            if given:
                raise RecipeError(
                    f"{name} goes by validation clips, and --all-clips keeps none apart; leave one out"
                )

    def _check_answers(self) -> None:
        spec, count = self.student.distill, len(self.teachers)
        if self.teachers and spec.fusion == "weighted" and len(spec.teacher_weights) != count:
            raise RecipeError(
                f"distill: {len(spec.teacher_weights)} teacher_weights for {count} teachers; give each one"
            )

    def check_labels(self, clips: Clips) -> None:
        """Hold the losses against the data: clips with several labels want each class's own yes or no.

        Raises:
            RecipeError: a loss knows one label a clip where the data have several.
        """
        if not clips.multi_label:
            return
        roles = [("student", self.student), *(("teacher", teacher) for teacher in self.teachers)]
        wrong = [(role, recipe) for role, recipe in roles if recipe.train.loss != "bce"]
        if wrong:
            names = " and ".join(f"{recipe.name} ({recipe.train.loss})" for _, recipe in wrong)
            settings = dict.fromkeys(f"--set {role}.train.loss=bce" for role, _ in wrong)
            raise RecipeError(
                f"{self.data}: its clips may have several labels, and {names} would learn that one alone is "
                f"right; let each class be its own yes or no: {' '.join(settings)}"
            )
        if self.teachers and self.student.distill.loss == "dkd":
            raise RecipeError(
                f"{self.data}: its clips may have several labels, and {self.student.name} listens by dkd, "
                "which knows one right class; --set student.distill.loss=kl"
            )

    @property
    def learnt_splits(self) -> tuple[str, ...]:
        """The splits whose clips are learnt from."""
        return ("train", "val") if self.all_clips else ("train",)

    @property
    def shipped_stage(self) -> str:
        """Name of the stage whose weights are shipped."""
        return "student" if self.prune.limits is None else "prune"

    @property
    def window(self) -> int:
        """Samples in one inference."""
        return self.student.window_samples

    @property
    def hop(self) -> int:
        """Samples between the windows that a clip is cut into when it is scored."""
        return self.student.hop_samples

    def command(self) -> str:
        """The command line that repeats the job."""
        verb, role = ("distill", "--student") if self.teachers else ("train", "--model")
        words = ["edgeaudio", verb, self.data.as_posix(), role, self.student.name]
        for teacher in self.teachers:
            words += ["--teacher", teacher.name]
        for recipe in self.teachers or (self.student,):
            if recipe.weights:
                words += ["--from", f"{recipe.name}={recipe.weights}"]
        words += ["--limits", self.limits or "none", "--target", self.target.name, "--seed", str(self.seed)]
        if self.prune.limits is not None:
            words += ["--prune-to", self.prune.limits]
        if self.alone:
            words.append("--alone")
        if self.all_clips:
            words.append("--all-clips")
        if self.devices.epochs:
            words.append("--per-device")
        for setting in self.settings:
            words += ["--set", setting]
        if self.fold is not None:
            words += ["--fold", self.fold]
        for option, key in (("--path-column", "path"), ("--label-column", "label"), ("--subset", "subset")):
            if (value := getattr(self.columns, key)) != getattr(CsvColumns(), key):
                words += [option, value]
        if self.skip_bad:
            words.append("--skip-bad")
        return shlex.join(words)

    def save(self, folder: Path) -> None:
        """Write the job into a run's folder."""
        table: dict[str, Any] = {
            **{
                key: value for key, value in vars(self).items() if isinstance(value, str | int | float | None)
            },
            "data": self.data.absolute().as_posix(),
            "student": {"name": self.student.name, **recipe_to_table(self.student)},
            "teachers": [{"name": t.name, **recipe_to_table(t)} for t in self.teachers],
            "target": asdict(self.target),
            "prune": asdict(self.prune),
            "devices": asdict(self.devices),
            "columns": asdict(self.columns),
            "quantisation": asdict(self.quantisation),
            "settings": list(self.settings),
        }
        path = folder / JOB_FILE
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(table, indent=1), encoding="utf-8")
        partial.replace(path)


def load_job(folder: Path) -> Job:
    """Read the job of a run.

    Raises:
        EdgeAudioError: the folder is not a run.
    """
    path = folder / JOB_FILE
    if not path.is_file():
        raise EdgeAudioError(
            f"{folder} is not a run (it has no {JOB_FILE}); edgeaudio distill or train makes one"
        )

    def recipe(part: dict[str, Any]) -> Recipe:
        return recipe_from_table(part, part.pop("name"), path.name)

    try:
        return _job(json.loads(path.read_text(encoding="utf-8")), path, recipe)
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise EdgeAudioError(
            f"{path} is damaged or of another version ({error}); start the run anew"
        ) from error


def _job(table: dict[str, Any], path: Path, recipe: Callable[[dict[str, Any]], Recipe]) -> Job:
    return Job(
        **{
            **table,
            "data": Path(table["data"]),
            "student": recipe(table["student"]),
            "teachers": tuple(recipe(part) for part in table["teachers"]),
            "target": from_table(Target, table["target"], path.name),
            "prune": from_table(PruneSpec, table.get("prune", {}), path.name),
            "devices": from_table(DeviceSpec, table.get("devices", {}), path.name),
            "columns": CsvColumns(**table["columns"]),
            "quantisation": from_table(QuantSpec, table.get("quantisation", {}), path.name),
            "settings": tuple(table["settings"]),
        }
    )
