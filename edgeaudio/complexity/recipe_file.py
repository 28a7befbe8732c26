"""Recipes written back as TOML: what stands at its default is left out, and the nearest preset is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from edgeaudio.config import AugmentSpec, DistillSpec, FrontEndSpec, Recipe, TrainSpec, require
from edgeaudio.presets import PRESETS

TEXTS = ("summary", "source", "licence", "window_seconds", "hop_seconds", "weights")
DEFAULTS = {"train": TrainSpec(), "augment": AugmentSpec(), "distill": DistillSpec()}


def write_recipe(recipe: Recipe, path: str | Path) -> Path:
    """Write a recipe so that `load_recipe` reads it back equal, but for its name, which is the file's.

    Args:
        recipe: what to write; options that are None are left out, since TOML has no word for it.
        path: a file ending in ``.toml``; its folder is made where it is missing.

    Returns:
        The file.

    Raises:
        RecipeError: the path ends otherwise.
    """
    path = Path(path)
    require(path.suffix == ".toml", f"{path}: a recipe's file ends in .toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe_to_toml(recipe), encoding="utf-8")
    return path


def recipe_to_toml(recipe: Recipe) -> str:
    """The recipe as TOML text, without its name."""
    fields = {field.name: field.default for field in dataclasses.fields(Recipe)}
    head = {key: getattr(recipe, key) for key in TEXTS if getattr(recipe, key) != fields[key]}
    sections: dict[str, dict[str, Any]] = {
        "model": {"name": recipe.model.name, **recipe.model.options},
        "frontend": _front_end(recipe.frontend),
        **{key: _changed(getattr(recipe, key), default) for key, default in DEFAULTS.items()},
    }
    blocks = [_lines(head)] + [f"[{name}]\n{_lines(table)}" for name, table in sections.items() if table]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _front_end(spec: FrontEndSpec) -> dict[str, Any]:
    """The preset that differs in the fewest fields, and those fields."""
    changes = {name: _changed(spec, preset) for name, preset in PRESETS.items()}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return {"preset": nearest, **changes[nearest]}


def _changed(spec: Any, default: Any) -> dict[str, Any]:
    told = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return {key: value for key, value in told.items() if value != getattr(default, key)}


def _lines(table: dict[str, Any]) -> str:
    return "\n".join(f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    assert isinstance(value, (int, float)), f"{value!r} has no place in a recipe"
    return repr(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
