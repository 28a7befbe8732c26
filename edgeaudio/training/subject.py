"""What `edgeaudio complexity` is asked about: a recipe, a run, or an architecture with options."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from edgeaudio.bundle import MANIFEST, read_bundle
from edgeaudio.complexity import (
    Count,
    Memory,
    count_onnx,
    count_tflite,
    onnx_graph,
    peak_memory,
    tflite_graph,
)
from edgeaudio.config import Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.models import MODELS, build
from edgeaudio.recipes import find_recipe, load_recipe, parse_value
from edgeaudio.training.job import JOB_FILE, load_job
from edgeaudio.training.stored import load_network, shipped_weights


@dataclass(frozen=True)
class Subject:
    """A model to count and the input to count it at."""

    name: str
    model: nn.Module
    input_shape: tuple[int, ...]
    """`(1, 1, mels, frames)`."""


@dataclass(frozen=True)
class GraphFile:
    """A graph to count: an ONNX or a TFLite file."""

    path: Path
    input_shape: tuple[int, ...] | None
    """Where the file leaves sizes open."""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    def count(self) -> Count:
        """Multiply-accumulates and bytes, as they stand in the file."""
        return count_tflite(self.path) if self._is_tflite else count_onnx(self.path, self.input_shape)

    def memory(self) -> tuple[Memory, Memory]:
        """Activations and flash: of the network alone, and with its front end."""
        graph = tflite_graph(self.path) if self._is_tflite else onnx_graph(self.path, self.input_shape)
        return peak_memory(graph.without_front_end()), peak_memory(graph)

    @property
    def _is_tflite(self) -> bool:
        return self.path.suffix == ".tflite"


def resolve(text: str, classes: int, input_shape: tuple[int, ...] | None = None) -> Subject | GraphFile:
    """Build what a text names.

    Args:
        text: a recipe's name or path, a run's folder, a bundle's, an ONNX or TFLite file, or
            ``cp_mobile:grn=false,…``.
        classes: number of classes, where the text doesn't tell.
        input_shape: of one inference, where it isn't the one that the text tells.

    Raises:
        RecipeError: the text names nothing of the kind.
    """
    subject = _subject(text, classes, input_shape)
    if input_shape is None or isinstance(subject, GraphFile):
        return subject
    return replace(subject, input_shape=input_shape)


def _subject(text: str, classes: int, input_shape: tuple[int, ...] | None) -> Subject | GraphFile:
    path = Path(text)
    if path.suffix in (".onnx", ".tflite"):
        if not path.is_file():
            raise RecipeError(f"{path}: no such file")
        return GraphFile(path, input_shape)
    if path.is_dir():
        return _from_run(path)
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


def _from_run(folder: Path) -> Subject | GraphFile:
    run = folder if (folder / JOB_FILE).is_file() else folder.parent
    manifest = run / "bundle" / MANIFEST
    if not (run / JOB_FILE).is_file() and (folder / MANIFEST).is_file():
        bundle = read_bundle(folder)  # without its run: the graph that is shipped
        return GraphFile(bundle.graph_path(), None)
    job = load_job(run)
    if not manifest.is_file():
        raise RecipeError(f"{run} has no bundle yet; finish it, or ask about the recipe {job.student.name}")
    classes = len(json.loads(manifest.read_text(encoding="utf-8"))["labels"])
    if job.prune.limits is None:
        return _from_recipe(job.student, classes)
    network = load_network(job.student.model, classes, shipped_weights(run, job)[-1])
    return Subject(job.student.name, network, job.student.counted_shape)


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
