"""Learning from labels, and from teachers where there are some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgeaudio.config import Recipe
from edgeaudio.console import Console
from edgeaudio.training.draws import check_devices
from edgeaudio.training.epochs import Hearing, hearings
from edgeaudio.training.learner import Learner
from edgeaudio.training.loop import Log, Task, learn
from edgeaudio.training.metrics import clip_metrics
from edgeaudio.training.objective import Batch, Objective, balanced_weights
from edgeaudio.training.processes import rows_of
from edgeaudio.training.teaching import Teacher
from edgeaudio.training.views import labels, view
from edgeaudio.training.windows import MelSource, WindowSet, clip_scores, window_logits


def fit(
    model: nn.Module,
    recipe: Recipe,
    train: WindowSet,
    val: WindowSet,
    classes: int,
    folder: Path,
    fabric: Fabric,
    seed: int,
    teacher: Teacher | None = None,
    console: Console | None = None,
    name: str = "training",
    logs: Sequence[Log] = (),
) -> list[dict[str, Any]]:
    """Train a classifier and leave it with the weights that the recipe keeps, by default of its best epoch.

    Args:
        model: log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`.
        recipe: its front end, augmentation, schedule, losses.
        train: windows to learn from.
        val: windows that choose the epoch: the one with the lowest log loss of the clips.
        classes: number of classes.
        folder: where the checkpoint and `metrics.jsonl` are kept; a checkpoint found there is continued.
        fabric: device, precision, processes.
        seed: of every draw.
        teacher: answers for training windows; without it the loss is that of the labels alone.
        console: shows progress.
        name: what the progress bar says.
        logs: called with each epoch's figures.

    Returns:
        One dictionary an epoch, as in `metrics.jsonl`.

    Raises:
        RecipeError: the loss isn't finite, or the recipe asks for what the model or the data lack.
    """
    spec = recipe.train
    check_devices(recipe.augment, train.device_names, train.device_names)
    full = fabric.device.type == "cpu" and spec.precision != "bf16"
    learner = Learner(model, recipe, len(train.device_names), full)
    learner = learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = train.mel_source(recipe.frontend, fabric.device)
    truth = train.label_matrix(classes)
    microphones = train.device_matrix if spec.device_adversary else None
    weights = balanced_weights(truth[torch.from_numpy(train.grid.clip)]) if spec.class_weights else None
    objective = Objective(recipe, None if weights is None else weights.to(fabric.device))

    def epoch_of(epoch: int) -> Iterator[Hearing]:
        return hearings(recipe, train, seed, epoch)

    def make(hearing: Hearing) -> Batch:
        return _make_batch(recipe, train, source, truth, microphones, teacher, hearing, fabric)

    def loss(learner: nn.Module, batch: Batch) -> Tensor:
        return objective(learner(batch.mel), batch)

    def validate(model: nn.Module) -> dict[str, float]:
        return val_figures(window_logits(model, val, recipe.frontend, fabric.device), val)

    task = Task(model, learner, epoch_of, make, loss, validate)
    try:
        return learn(task, spec, folder, fabric, seed, console, name, logs)
    finally:
        learner.close()


def _make_batch(
    recipe: Recipe,
    train: WindowSet,
    source: MelSource,
    truth: Tensor,
    microphones: Tensor | None,
    teacher: Teacher | None,
    hearing: Hearing,
    fabric: Fabric,
) -> Batch:
    """This process' rows of a batch; mixing needs the others' sounds, so the view is made of all of it."""
    rows = rows_of(len(hearing.index), fabric)
    mel = view(source(hearing.index, hearing.draws), hearing.draws, recipe.frontend)[rows]
    clip = torch.from_numpy(train.grid.clip[hearing.index])
    targets = labels(truth[clip].to(mel.device), hearing.draws)[rows]
    devices = None
    if microphones is not None:
        devices = labels(microphones[clip].to(mel.device), hearing.draws)[rows]
    answer = None if teacher is None else teacher(hearing, rows)
    return Batch(mel, targets, answer, devices)


def val_figures(logits: Tensor, val: WindowSet) -> dict[str, float]:
    """Log loss of the clips, and accuracy (mAP with several labels), from logits `(windows, classes)`."""
    metrics = clip_metrics(clip_scores(logits, val), val.truth)
    return {"val_loss": metrics.log_loss, f"val_{metrics.figure}": metrics.value}
