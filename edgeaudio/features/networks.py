"""A network by name: a run, a bundle, a recipe with its checkpoint, or published weights.

What comes out embeds windows: `Network.embed` takes waveforms and gives what one layer knows of them, maps
averaged over all their positions.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeaudio import models, weights
from edgeaudio.bundle import MANIFEST, Bundle, read_bundle
from edgeaudio.checkpoints import read_checkpoint
from edgeaudio.config import Recipe, file_hash, require
from edgeaudio.console import Console
from edgeaudio.data import readers
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.features.graph_layers import GraphLayers
from edgeaudio.features.layers import Layer, TorchLayers
from edgeaudio.frontend import build_front_end
from edgeaudio.recipes import load_recipe, recipe_from_table, recipe_names
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.job import JOB_FILE, RUN_TABLE, load_job
from edgeaudio.training.stored import WEIGHTS, load_network, shipped_weights

POOLS = ("mean", "mean+std", "none")
AUDIOSET_SECONDS = 10.0
"""What published weights without a recipe hear: the length of AudioSet's clips, which they learnt from."""


@dataclass(frozen=True)
class EmbeddingSpec:
    """Which network's embeddings, of which layer, and how the windows of a sound are brought together."""

    network: str
    """A run, a bundle, a recipe by name or path, or a name of published weights."""
    weights: str = ""
    """Checkpoint of a recipe: a path or a name of published weights; empty for those of the recipe's name."""
    role: str = "student"
    """Of a run: ``student``, ``teacher.1``, ``teacher.2`` …, ``alone``."""
    layer: str = ""
    """A layer by its name; empty goes by `drop_layers`."""
    drop_layers: int = 1
    """Layers that are left out at the end: 0 leaves the logits, 1 the embedding before the classifier."""
    pool: str = "mean"
    """``mean`` or ``mean+std`` over the windows of a sound, or ``none``: a row for each window."""
    window_seconds: float = 0.0
    """Length of a window; 0 is the network's own."""
    hop_seconds: float = 0.0
    """From one window to the next; 0 is half a window, or a bundle's own."""

    def __post_init__(self) -> None:
        require(bool(self.network), "network is empty; name a run, a bundle, a recipe or published weights")
        if self.pool not in POOLS:
            raise RecipeError(f"unknown pool {self.pool!r}; {did_you_mean(self.pool, POOLS)}")
        require(self.drop_layers >= 0, f"drop_layers is {self.drop_layers}; it must be 0 or more")
        for name in ("window_seconds", "hop_seconds"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name):g}; it must be positive")


class Layers(Protocol):
    """A network whose layers can be listened to."""

    def table(self) -> list[Layer]:
        """The layers, the first one first."""

    def choose(self, name: str, drop: int) -> Layer:
        """The layer of a name, or the one that is left when `drop` are left out."""

    def embed(self, waveforms: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
        """Waveforms `(windows, samples)` → `(windows, features)`."""


@dataclass(frozen=True)
class Network:
    """What embeds windows."""

    spec: EmbeddingSpec
    """What was asked for, with absolute paths."""
    layers: Layers
    """The network itself."""
    layer: Layer
    """The layer that is listened to."""
    sample_rate: int
    """Hz."""
    window: int
    """Samples in a window."""
    hop: int
    """Samples between windows."""
    sha256: str
    """Of the weights."""

    def embed(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Waveforms `(windows, window)` → `(windows, features)`."""
        return self.layers.embed(waveforms, self.layer)

    @property
    def attributes(self) -> dict[str, Any]:
        """What a feature set says of where it comes from."""
        spec = self.spec
        said: dict[str, Any] = {
            "source": "network", "network": spec.network, "weights": spec.weights, "role": spec.role,
            "layer": self.layer.name, "drop_layers": self.layer.drop, "pool": spec.pool,
            "window_samples": self.window, "hop_samples": self.hop, "sample_rate": self.sample_rate,
            "sha256": self.sha256,
        }  # fmt: skip
        if self.layer.tensor:
            said["tensor"] = self.layer.tensor
        return said


def open_network(spec: EmbeddingSpec, device: str = "auto", console: Console | None = None) -> Network:
    """Open what embeds.

    Args:
        spec: which network, and which layer of it.
        device: ``auto``, ``cpu`` or ``cuda``; bundles run on the CPU.
        console: shows progress, where weights are fetched.

    Raises:
        RecipeError: nothing is called like that, or there is no such layer or role.
        CheckpointError: a checkpoint can't be fetched or read.
    """
    console = console or Console(quiet=True)
    path = Path(spec.network).expanduser()
    if (path / JOB_FILE).is_file():
        return _from_run(replace(spec, network=path.resolve().as_posix()), path, device)
    if (path / MANIFEST).is_file() or (path / "bundle" / MANIFEST).is_file():
        return _from_bundle(spec, read_bundle(path))
    if path.is_dir():
        raise RecipeError(f"{path} is neither a run (it has no {JOB_FILE}) nor a bundle (no {MANIFEST})")
    return _from_recipe(spec, device, console)


def _from_run(spec: EmbeddingSpec, run: Path, device: str) -> Network:
    job = load_job(run)
    roles: dict[str, Recipe] = {"student": job.student}
    roles |= {f"teacher.{i}": recipe for i, recipe in enumerate(job.teachers, start=1)}
    if job.alone:
        roles["alone"] = job.student
    if spec.role not in roles:
        raise RecipeError(f"{run} has no role {spec.role!r}; {did_you_mean(spec.role, roles)}")
    if spec.role == "student":
        found = shipped_weights(run, job)
    else:
        stages = (run / "stages").glob(f"{spec.role}-*/{WEIGHTS}")
        found = sorted(stages, key=lambda path: (path.stat().st_mtime, path))
    if not found:
        raise RecipeError(f"{run} has no trained {spec.role} yet; run its job to the end first")
    table = run / RUN_TABLE
    # the table appears with the bundle; `train` leaves only that of its data stage
    tables = [table] if table.is_file() else sorted((run / "stages").glob(f"data-*/{RUN_TABLE}"))
    if not tables:
        raise RecipeError(f"{run} holds no table of its clips; run its job again")
    recipe, classes = roles[spec.role], len(readers.read(tables[-1]).classes)
    network = load_network(recipe.model, classes, found[-1])
    return _heard(spec, network, recipe, file_hash(found[-1]), device)


def _from_recipe(spec: EmbeddingSpec, device: str, console: Console) -> Network:
    recipe, checkpoint = _recipe(spec)
    path = weights.resolve(checkpoint, console)
    entries = read_checkpoint(path)
    architecture: Any = models.MODELS[recipe.model.name]
    scores = any(key.startswith(architecture.head) for key in architecture.renamed(entries))
    network = models.load_published(recipe.model.name, entries, None if scores else 1, **recipe.model.options)
    place = path.resolve().as_posix() if Path(checkpoint).expanduser().is_file() else checkpoint
    name = Path(spec.network)
    named = name.resolve().as_posix() if name.suffix == ".toml" and name.is_file() else spec.network
    spec = replace(spec, network=named, weights=place, role="student")
    return _heard(spec, network, recipe, file_hash(path), device, scores)


def _recipe(spec: EmbeddingSpec) -> tuple[Recipe, str]:
    """The recipe of a name, and the checkpoint that goes with it."""
    names = {*recipe_names("students"), *recipe_names("teachers")}
    known = weights.catalogue()
    if spec.network in names or Path(spec.network).suffix == ".toml":
        recipe = load_recipe(spec.network, "students")
        checkpoint = spec.weights or recipe.weights or (spec.network if spec.network in known else "")
        if not checkpoint:
            raise RecipeError(
                f"{spec.network} is a recipe, and an untrained network's embeddings mean nothing; say which "
                "checkpoint it has: --from CHECKPOINT (a file, or a name of 'edgeaudio weights list')"
            )
        return recipe, checkpoint
    if spec.network in known:
        entry = known[spec.network]
        table = {
            "model": {"name": entry.model, **entry.options}, "frontend": dict(entry.frontend),
            "window_seconds": AUDIOSET_SECONDS,
        }  # fmt: skip
        return recipe_from_table(table, entry.name, entry.name), spec.weights or entry.name
    if "/" in spec.network:
        raise RecipeError(f"{spec.network}: no such run or bundle, nor a recipe (.toml)")
    near = difflib.get_close_matches(spec.network, {*names, *known}, n=1)
    hint = did_you_mean(spec.network, near) if near else "edgeaudio weights list names some"
    raise RecipeError(
        f"{spec.network!r} is no run, no bundle, no recipe and no name of published weights; {hint}"
    )


def _heard(
    spec: EmbeddingSpec, network: models.Model, recipe: Recipe, sha256: str, device: str, scores: bool = True
) -> Network:
    """The network with its front end and windows."""
    rate = recipe.frontend.sample_rate
    window = round((spec.window_seconds or recipe.window_seconds) * rate)
    hop = round(spec.hop_seconds * rate) or max(1, window // 2)
    torch_device = make_fabric(device, "32").device
    front_end = build_front_end(recipe.frontend)
    layers = TorchLayers(network.to(torch_device), front_end.to(torch_device), window, scores)
    return Network(spec, layers, layers.choose(spec.layer, spec.drop_layers), rate, window, hop, sha256)


def _from_bundle(spec: EmbeddingSpec, bundle: Bundle) -> Network:
    if spec.weights or spec.role != "student":
        raise RecipeError(
            f"{bundle.folder} is a bundle: it has one network with its own weights; leave --from out"
        )
    rate, window = bundle.sample_rate, bundle.window_samples
    if spec.window_seconds and round(spec.window_seconds * rate) != window:
        raise RecipeError(
            f"{bundle.folder} hears windows of {window / rate:g} s, not {spec.window_seconds:g} s; "
            "its graph is fixed"
        )
    layers = GraphLayers(bundle)
    hop = round(spec.hop_seconds * rate) or bundle.hop_samples
    named = replace(spec, network=bundle.folder.resolve().as_posix())
    return Network(
        named, layers, layers.choose(spec.layer, spec.drop_layers), rate, window, hop, layers.sha256
    )


def spec_of(attributes: dict[str, Any]) -> EmbeddingSpec | None:
    """What made a feature set, from its attributes; None where no network did, or several (of fused sets)."""
    if attributes.get("source") != "network" or any(
        isinstance(value, list) for key, value in attributes.items() if key != "data"
    ):
        return None
    rate = int(attributes["sample_rate"])
    return EmbeddingSpec(
        network=attributes["network"], weights=attributes.get("weights") or "",
        role=attributes.get("role") or "student", layer=attributes.get("layer") or "",
        drop_layers=int(attributes.get("drop_layers", 1)), pool=attributes.get("pool", "mean"),
        window_seconds=int(attributes["window_samples"]) / rate,
        hop_seconds=int(attributes["hop_samples"]) / rate,
    )  # fmt: skip
