"""Fit an autoencoder to spectrograms, and get its features.

A run's folder holds ``autoencoder.json`` (all that rebuilds the network), ``model.safetensors`` (the weights
that are kept), ``metrics.jsonl``, ``checkpoint.pt`` (what goes on after an interruption), ``epochs/``
(weights of chosen epochs), ``fit.json`` (what it came to) and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from edgeaudio.config import ModelSpec, TrainSpec
from edgeaudio.console import Console
from edgeaudio.errors import DataError, EdgeAudioError, RecipeError
from edgeaudio.features import reconstructions
from edgeaudio.features.autoencoders import BOUNDED, KEEPS_TIME, build, complete
from edgeaudio.features.featureset import FeatureSet
from edgeaudio.features.fit_data import AXES, Material, check_bounds, gather
from edgeaudio.features.fit_run import (
    KeepEpochs,
    RunSettings,
    epoch_file,
    kept_epochs,
    open_run,
    read_settings,
    write_json,
)
from edgeaudio.models.layers import Autoencoder
from edgeaudio.training import reconstruction
from edgeaudio.training.accelerators import make_fabric
from edgeaudio.training.epochs import seed_of
from edgeaudio.training.stored import WEIGHTS, save_tensors
from edgeaudio.training.world import processes

RESULT = "fit.json"
ENCODED, ENCODED_FRAMES = 500, 64
"""Spectrograms in one forward pass when features are wanted; fewer where each frame is a sequence."""


@dataclass(frozen=True)
class FitJob:
    """All that decides how an autoencoder turns out, but the spectrograms themselves."""

    model: ModelSpec
    """A name of `autoencoders.AUTOENCODERS`, with options."""
    train: TrainSpec
    """How long, how fast, by which optimiser; which weights are kept."""
    mask_silence: bool = False
    """Bins that are silent in the target don't count."""
    validation: str = "auto"
    """What is held out; see `fit_data.gather`."""
    partitions: tuple[str, ...] = ()
    """Partitions to learn from; none for all that isn't held out."""
    seed: int = 0
    """Of every random draw."""


@dataclass(frozen=True)
class Fitted:
    """What a fit came to."""

    folder: Path
    """Of the run."""
    history: list[dict[str, Any]]
    """One dictionary an epoch, as in `metrics.jsonl`."""
    summary: dict[str, Any]
    """As in `fit.json`."""
    examples: tuple[reconstructions.Example, ...]
    """A few sounds and what the kept weights make of them."""


def fit(
    job: FitJob,
    sets: Sequence[FeatureSet],
    paths: Sequence[Path],
    folder: Path,
    device: str = "auto",
    console: Console | None = None,
    keep_epochs: KeepEpochs | None = None,
) -> Fitted:
    """Fit an autoencoder, or go on with one.

    Args:
        job: the network and its training.
        sets: of spectrograms of one shape.
        paths: where they lie.
        folder: of the run; one that is there is continued where the job and the sets are the same, also to
            more epochs where the learning rate is constant.
        device: ``auto``, ``cpu`` or ``cuda``.
        console: shows progress.
        keep_epochs: epochs whose weights are kept beside those that the training leaves.

    Raises:
        DataError: the sets hold no such spectrograms.
        RecipeError: a setting is impossible, or the folder is of another job.
    """
    console = console or Console(quiet=True)
    if processes()[1] > 1:
        raise RecipeError("features fit trains in one process; start it without torchrun")
    job = replace(job, model=complete(job.model))
    material = gather(sets, paths, job.partitions, job.validation, job.seed)
    if job.model.name in BOUNDED:
        check_bounds(material, paths[0])
    if not material.held_out:
        job = replace(job, train=replace(job.train, keep="last"))  # the best by what was learnt is the last
    # the network starts from the seed alone, whatever was drawn before
    torch.manual_seed(seed_of(job.seed, 2**20))
    model = build(job.model, material.frames, material.bands)
    fabric = make_fabric(device, job.train.precision)
    settings = RunSettings(
        job.model, job.train, job.mask_silence, job.validation, job.partitions, job.seed,
        material.frames, material.bands, material.hashes,
    )  # fmt: skip
    open_run(folder, settings, paths, material.attributes)
    watch = _Watch(folder, material, job, fabric.device, keep_epochs or KeepEpochs())
    history = reconstruction.fit(
        model, job.train, material.spectrograms, material.train, material.val, folder,
        fabric, job.seed, job.mask_silence, console, job.model.name, snapshot=watch,
    )  # fmt: skip
    save_whole(model, folder / WEIGHTS)
    return _finish(model, job, material, folder, history, fabric.device, console)


def _finish(
    model: Autoencoder,
    job: FitJob,
    material: Material,
    folder: Path,
    history: list[dict[str, Any]],
    device: torch.device,
    console: Console,
) -> Fitted:
    examples = reconstructions.examples(model, material, device)
    reconstructions.draw(examples, folder / "reconstructions.png", f"{job.model.name}, kept weights")
    reconstructions.draw_losses(history, folder / "loss.png", material.held_out)
    kept = kept_epoch(history, job.train)
    with torch.no_grad():
        code = model.encode(torch.from_numpy(material.spectrograms[:1]).to(device))
    summary = {
        "model": job.model.name,
        "options": job.model.options,
        "parameters": sum(p.numel() for p in model.parameters()),
        "features": list(code.shape[1:]),
        "instances": {
            "train": len(material.train),
            "validation": len(material.val) if material.held_out else 0,
        },
        "epochs": len(history),
        "kept_epoch": kept,
        "val_loss": history[kept - 1]["val_loss"],
        "constant_rmse": _constant_rmse(material),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "kept_epochs": kept_epochs(folder),
    }
    write_json(summary, folder / RESULT)
    console.stage(
        "autoencoder", f"{len(history)} epochs; epoch {kept} is kept, RMSE {summary['val_loss']:.4f}"
    )
    return Fitted(folder, history, summary, examples)


def _constant_rmse(material: Material) -> float:
    """RMSE of a predictor that knows each band's mean over the training part and nothing else."""
    heard = material.spectrograms
    mean = np.mean([heard[row].mean(axis=0, dtype=np.float64) for row in material.train], axis=0)
    return float(np.sqrt(np.mean([np.square(heard[row] - mean).mean() for row in material.val])))


def kept_epoch(history: Sequence[dict[str, Any]], train: TrainSpec) -> int:
    """Number of the epoch, from 1 on, whose weights a training leaves; the best of several averaged ones."""
    if train.keep == "last":
        return len(history)
    losses = [row["val_loss"] for row in history]
    return losses.index(min(losses)) + 1


class _Watch:
    """After each epoch: weights that are to be kept, and now and then a picture."""

    def __init__(
        self, folder: Path, material: Material, job: FitJob, device: torch.device, keep: KeepEpochs
    ) -> None:
        self.folder, self.material, self.device, self.keep = folder, material, device, keep
        self.name = job.model.name
        self.pictures = reconstructions.picture_epochs(job.train.epochs)

    def __call__(self, epoch: int, model: nn.Module) -> None:
        assert isinstance(model, Autoencoder)
        if self.keep.wants(epoch):
            save_whole(model, epoch_file(self.folder, epoch))
        for stale in self.keep.stale(kept_epochs(self.folder), epoch):
            epoch_file(self.folder, stale).unlink(missing_ok=True)
        if epoch in self.pictures:
            examples = reconstructions.examples(model, self.material, self.device)
            path = self.folder / "pictures" / f"epoch_{epoch:04}.png"
            reconstructions.draw(examples, path, f"{self.name}, epoch {epoch}")


def save_whole(model: nn.Module, path: Path) -> None:
    """Write a network's weights; the file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_tensors(model.state_dict(), partial)
    partial.replace(path)


# ── features ─────────────────────────────────────────────────────────────────────────────────────


def load_autoencoder(run: Path, epoch: int | None = None) -> tuple[Autoencoder, RunSettings]:
    """The network of a run, in eval mode on the CPU, and its settings.

    Args:
        run: folder of `edgeaudio features fit`.
        epoch: whose weights, from 1 on; those that the training leaves if not given.

    Returns:
        The network, whose `encode` takes spectrograms `(batch, time, bands)`, and what it was made from.

    Raises:
        EdgeAudioError: the folder is no such run, the run isn't finished, or that epoch wasn't kept.
    """
    settings = read_settings(run)
    path = run / WEIGHTS if epoch is None else epoch_file(run, epoch)
    # the weights come first: without the result they are those of a fit that was cut off there
    if not path.is_file() or (epoch is None and not (run / RESULT).is_file()):
        raise EdgeAudioError(_missing(run, epoch))
    model = build(settings.model, settings.frames, settings.bands)
    model.load_state_dict(load_file(path))
    return model.eval(), settings


def _missing(run: Path, epoch: int | None) -> str:
    there = kept_epochs(run)
    if epoch is None:
        return f"{run} isn't finished; run its edgeaudio features fit command again: it goes on"
    known = f"kept: {', '.join(map(str, there))}" if there else "no epoch was kept"
    return f"{run} has no weights of epoch {epoch}; {known}; features fit --keep-epochs says which are kept"


def encode_set(
    run: Path,
    features: FeatureSet,
    epoch: int | None = None,
    batch_size: int | None = None,
    console: Console | None = None,
) -> FeatureSet:
    """The features that a run's encoder makes of spectrograms.

    Args:
        run: folder of `edgeaudio features fit`.
        features: spectrograms `(instances, time, freq)` of the shape that the run learnt from.
        epoch: whose weights, from 1 on; those that the training leaves if not given.
        batch_size: spectrograms in one forward pass; 500, or 64 with f-rae, if not given.
        console: shows progress.

    Returns:
        A set with the axis `generated`, or the axes `time` and `generated` of an encoder that keeps the time;
        labels, folds and partitions are those of the spectrograms.

    Raises:
        DataError: the set doesn't hold spectrograms of that shape.
        EdgeAudioError: as from `load_autoencoder`.
    """
    console = console or Console(quiet=True)
    model, settings = load_autoencoder(run, epoch)
    _check_shape(features, settings, run)
    _warn_of_differences(features, settings, console)
    keeps_time = settings.model.name in KEEPS_TIME
    size = batch_size or (ENCODED_FRAMES if keeps_time else ENCODED)
    starts = range(0, len(features), size)
    with torch.no_grad():
        codes = [
            model.encode(torch.from_numpy(_rows(features, start, size))).numpy()
            for start in console.track(starts, "encoding")
        ]
    dims = ("time", "generated") if keeps_time else ("generated",)
    attributes = {
        "source": "autoencoder",
        "run": run.as_posix(),
        "model": settings.model.name,
        "epoch": epoch or _kept_in(run),
        "spectrograms": features.attributes,
    }
    return replace(features, features=np.concatenate(codes), dims=dims, attributes=attributes)


def _rows(features: FeatureSet, start: int, size: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(features.features[start : start + size], np.float32)


def _check_shape(features: FeatureSet, settings: RunSettings, run: Path) -> None:
    wanted = (settings.frames, settings.bands)
    if features.dims != AXES or features.features.shape[1:] != wanted or not len(features):
        axes = " × ".join(
            f"{n} {name}" for n, name in zip(features.features.shape[1:], features.dims, strict=True)
        )
        raise DataError(
            f"{run} learnt from spectrograms of {wanted[0]} time × {wanted[1]} freq, and the set holds "
            f"{len(features)} instances of {axes}; make it with the settings of the set that "
            "the run learnt from"
        )


def _warn_of_differences(features: FeatureSet, settings: RunSettings, console: Console) -> None:
    """Spectrograms of another making have the same shape and mean something else."""
    for key, value in settings.attributes.items():
        other = features.attributes.get(key, value)
        if other != value and isinstance(value, int | float | str):
            console.warn(f"the run learnt from spectrograms with {key} {value}, these have {other}")


def _kept_in(run: Path) -> int:
    found: int = json.loads((run / RESULT).read_text(encoding="utf-8"))["kept_epoch"]
    return found
