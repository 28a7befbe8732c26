"""Recipes: TOML files under `teachers/`, `students/` and `export/`, read into the specs of `config.py`.

Found by name or by path, in a source checkout and in an installed wheel alike. Unknown keys raise with
the closest known one, so a typo never runs silently.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgeaudio.config import (
    AugmentSpec,
    DistillSpec,
    FrontEndSpec,
    ModelSpec,
    Recipe,
    Target,
    TrainSpec,
    require,
)
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.presets import PRESETS

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the predictor supports 3.10, where the standard library has no TOML reader
    import tomli as tomllib

T = TypeVar("T")


def load_recipe(
    name_or_path: str | Path, kind: str = "students", overrides: list[str] | None = None
) -> Recipe:
    """Read a recipe by name (`dcase2024_baseline`) or by path.

    Args:
        name_or_path: a name under `teachers/` or `students/`, or a TOML file.
        kind: where a bare name is looked up first.
        overrides: `section.key=value` settings, e.g. ``train.epochs=5``; values are TOML.

    Raises:
        RecipeError: the file is missing or malformed, or a key or value is not known.
    """
    path = find_recipe(name_or_path, kind)
    table = read_toml(path)
    for setting in overrides or []:
        _override(table, setting)
    return recipe_from_table(table, path.stem, str(path.name))


def recipe_from_table(table: dict[str, Any], name: str, where: str) -> Recipe:
    """Check a parsed recipe and make it a `Recipe`; errors name the file `where` it stands."""
    table = dict(table)
    model = dict(_section(table, "model", where))
    if not isinstance(model.get("name"), str):
        raise RecipeError(f'{where}: [model] needs a name, e.g. name = "cp_mobile"')
    table["model"] = ModelSpec(name=model.pop("name"), options=model)
    table["frontend"] = _frontend(_section(table, "frontend", where), where)
    for key, cls in (("train", TrainSpec), ("augment", AugmentSpec), ("distill", DistillSpec)):
        table[key] = from_table(cls, _section(table, key, where), f"{where} [{key}]")
    return from_table(Recipe, {**table, "name": name}, where)


def recipe_to_table(recipe: Recipe) -> dict[str, Any]:
    """The table that `recipe_from_table` reads as this recipe; the name stands apart."""
    table = dataclasses.asdict(recipe)
    del table["name"]
    table["model"] = {"name": recipe.model.name, **recipe.model.options}
    return table


def _section(table: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    section = table.get(key, {})
    require(isinstance(section, dict), f"{where}: {key} must be a table, written as [{key}]")
    return dict(section)


def _frontend(table: dict[str, Any], where: str) -> FrontEndSpec:
    preset = table.pop("preset", "dcase2024")
    if preset not in PRESETS:
        raise RecipeError(
            f"{where} [frontend]: unknown preset {preset!r}; {did_you_mean(str(preset), PRESETS)}"
        )
    return from_table(FrontEndSpec, {**dataclasses.asdict(PRESETS[preset]), **table}, f"{where} [frontend]")


def find_recipe(name_or_path: str | Path, kind: str) -> Path:
    """The file behind a recipe's name or path; looks into a checkout and an installed wheel alike."""
    text = str(name_or_path)
    path = Path(text)
    if path.suffix == ".toml" and path.is_file():
        return path
    folders = recipe_folders(kind)
    stem = path.name.removesuffix(".toml")
    for folder in folders:
        candidate = folder / f"{stem}.toml"
        # a path like students/x.toml means our own x too, from wherever the command is run
        if candidate.is_file() and path.parent.name in ("", folder.name):
            return candidate
    known = recipe_names(kind)
    raise RecipeError(f"no recipe {text!r} among {kind}; {did_you_mean(stem, known)}")


def recipe_names(kind: str) -> list[str]:
    """Names of all recipes of one kind: `teachers`, `students` or `export`."""
    return sorted({file.stem for folder in recipe_folders(kind) for file in folder.glob("*.toml")})


def recipe_folders(kind: str) -> list[Path]:
    """Folders that hold recipes; for models the other role's folder too: a role is not an architecture."""
    package = Path(__file__).resolve().parent
    base = package / "_recipes"  # an installed wheel
    if not base.is_dir():
        base = package.parent  # a source checkout
    kinds = {"students": ("students", "teachers"), "teachers": ("teachers", "students")}.get(kind, (kind,))
    return [base / k for k in kinds if (base / k).is_dir()]


def load_target(name_or_path: str | Path) -> Target:
    """Read a target by name (`x86`) or by path."""
    path = find_recipe(name_or_path, "export")
    return from_table(Target, {**read_toml(path), "name": path.stem}, path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; a syntax error names the file and the line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error


def preset(name: str) -> FrontEndSpec:
    """A front end by name."""
    if name not in PRESETS:
        raise RecipeError(f"unknown front end preset {name!r}; {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def settings_for(
    role: str, settings: list[str] | None, name: str = "", names: Sequence[str] = ()
) -> list[str]:
    """The settings of one recipe, without their prefix: `teacher.train.epochs=5` → `train.epochs=5`.

    Args:
        role: ``student`` or ``teacher``.
        settings: as given.
        name: the recipe's own name; a setting may begin with it instead, to mean one teacher of several.
        names: of all recipes of the job.

    Raises:
        RecipeError: a setting names no role and no recipe of the job.
    """
    for setting in settings or []:
        if setting.partition(".")[0] not in ("student", "teacher", *names):
            raise RecipeError(
                f"--set {setting!r} must begin with student., teacher. or a recipe of the job, "
                "e.g. student.train.epochs=5"
            )
    return [s.partition(".")[2] for s in settings or [] if s.startswith((f"{role}.", f"{name or role}."))]


def start_from(recipes: Sequence[Recipe], given: Sequence[str] | None) -> tuple[Recipe, ...]:
    """Give recipes the checkpoints they start from.

    Args:
        recipes: the models that may start from one.
        given: ``CHECKPOINT`` where there is one recipe, ``RECIPE=CHECKPOINT`` where there are several; a
            checkpoint is a name of the catalogue, a file, or a run, which stands for the network it ships.

    Raises:
        RecipeError: it isn't clear whose checkpoint it is, or a folder holds no trained network.
    """
    weights = {recipe.name: recipe.weights for recipe in recipes}
    for text in given or ():
        name, equals, checkpoint = text.partition("=")
        if not (equals and name in weights):
            if len(recipes) != 1:
                known = ", ".join(weights) or "none"
                raise RecipeError(
                    f"--from {text!r}: say which model starts from it, as RECIPE=CHECKPOINT; known: {known}"
                )
            name, checkpoint = recipes[0].name, text
        path = Path(checkpoint)
        weights[name] = _file_of(path).resolve().as_posix() if path.exists() else checkpoint
    return tuple(dataclasses.replace(recipe, weights=weights[recipe.name]) for recipe in recipes)


def _file_of(path: Path) -> Path:
    """A file of weights: itself, or that of the network that a run ships."""
    if not path.is_dir():
        return path
    for stage in ("prune", "student"):
        if found := sorted(path.glob(f"stages/{stage}-*/model.safetensors"), key=lambda p: p.stat().st_mtime):
            return found[-1]
    raise RecipeError(
        f"--from {path}: the folder holds no trained network; name a run that distill or train finished, or "
        "a file of weights"
    )


def chosen_recipes(
    student: str, teachers: Sequence[str], settings: Sequence[str], checkpoints: Sequence[str]
) -> tuple[Recipe, tuple[Recipe, ...]]:
    """The student and the teachers of a job, by name or path, with their settings and checkpoints.

    A checkpoint is a teacher's, or the student's where there is no teacher.

    Raises:
        RecipeError: a recipe or a setting is unknown, or it isn't clear whose it is.
    """
    names = [Path(name).stem for name in (student, *teachers)]

    def load(name: str, role: str) -> Recipe:
        changes = settings_for(role, list(settings), Path(name).stem, names)
        return load_recipe(name, f"{role}s", changes)

    learner, listened = load(student, "student"), tuple(load(name, "teacher") for name in teachers)
    if listened:
        return learner, start_from(listened, checkpoints)
    return start_from([learner], checkpoints)[0], ()


def parse_value(text: str) -> Any:
    """A TOML value; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _override(table: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {setting!r} is not of the form section.key=value, e.g. train.epochs=5")
    value = parse_value(text)
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        require(isinstance(table, dict), f"--set {setting!r}: {part!r} is not a section")
    table[parts[-1]] = value


def from_table(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Make a dataclass from a table; unknown keys, missing keys and wrong types are sentences."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise RecipeError(f"{where}: unknown key {key!r}; {did_you_mean(key, fields)}")
    missing = [
        name
        for name, f in fields.items()
        if name not in table and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f"{where}: the key {missing[0]!r} is missing")
    values = {key: _typed(value, hints[key], f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}" if where not in str(error) else str(error)) from error


def _typed(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return value
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
        return _typed(value, hint, where)
    expected = typing.get_origin(hint) or hint
    if expected is tuple and isinstance(value, list):
        return tuple(value)
    if isinstance(expected, type) and (
        not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool)
    ):
        raise RecipeError(f"{where} is {value!r}; it must be of type {expected.__name__}")
    return value
