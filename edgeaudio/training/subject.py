"""What `edgeaudio complexity` is asked about: a recipe, a run, or an architecture with options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgeaudio.bundle import CARD, MANIFEST
from edgeaudio.config import Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.models import MODELS, build
from edgeaudio.recipes import find_recipe, load_recipe, parse_value
from edgeaudio.training.job import JOB_FILE, load_job


@dataclass(frozen=True)
class Subject:
    """A model to count and the input to count it at."""

    name: str
    model: nn.Module
    input_shape: tuple[int, int, int, int]
    """`(1, 1, mels, frames)`."""


def resolve(text: str, classes: int) -> Subject:
    """Build what a text names.

    Args:
        text: a recipe's name or path, a run's folder or its bundle's, or ``cp_mobile:grn=false,…``.
        classes: number of classes, where the text doesn't tell.

    Raises:
        RecipeError: the text names nothing of the kind.
    """
    folder = Path(text)
    if folder.is_dir():
        return _from_run(folder)
    name, colon, options = text.partition(":")
    if colon or (name in MODELS and not _is_recipe(name)):
        settings = dict(_option(part) for part in options.split(",") if part)
        default = load_recipe("dcase2024_baseline")  # its front end gives the input
        return Subject(text, build(name, classes, **settings), default.input_shape)
    return _from_recipe(load_recipe(text, "students"), classes)


def _from_recipe(recipe: Recipe, classes: int) -> Subject:
    return Subject(
        recipe.name, build(recipe.model.name, classes, **recipe.model.options), recipe.counted_shape
    )


def _from_run(folder: Path) -> Subject:
    run = folder if (folder / JOB_FILE).is_file() else folder.parent
    manifest = run / "bundle" / MANIFEST
    if not (run / JOB_FILE).is_file() and (folder / MANIFEST).is_file():
        raise RecipeError(f"{folder} is a bundle without its run; its verdict stands in {folder / CARD}")
    job = load_job(run)
    if not manifest.is_file():
        raise RecipeError(f"{run} has no bundle yet; finish it, or ask about the recipe {job.student.name}")
    return _from_recipe(job.student, len(json.loads(manifest.read_text(encoding="utf-8"))["labels"]))


def _is_recipe(name: str) -> bool:
    try:
        return find_recipe(name, "students").is_file()
    except RecipeError:
        return False


def _option(part: str) -> tuple[str, object]:
    key, equals, value = part.partition("=")
    if not equals:
        raise RecipeError(f"{part!r} is not of the form option=value")
    return key.strip(), parse_value(value)
