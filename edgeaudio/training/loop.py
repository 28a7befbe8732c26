"""The training loop, visible from top to bottom: data, forward, loss, backward, step, log.

Every random draw of an epoch comes from (seed, epoch) alone. So a job that was killed continues from its
last checkpoint to the very weights that an undisturbed one ends with: bit for bit on the same CPU. An
accelerator's kernels may add in another order from run to run. Several processes share each batch: together
they see what one process sees, and take the same steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgeaudio.config import Recipe
from edgeaudio.console import Console
from edgeaudio.errors import RecipeError
from edgeaudio.training.averaging import StepAverage
from edgeaudio.training.draws import check_devices
from edgeaudio.training.epochs import Hearing, hearings, seed_of
from edgeaudio.training.learner import Learner
from edgeaudio.training.metrics import clip_metrics
from edgeaudio.training.objective import Batch, Objective, balanced_weights
from edgeaudio.training.optimizers import build_optimizer
from edgeaudio.training.prefetch import AHEAD, Prefetched
from edgeaudio.training.processes import average_buffers, match_momentum, rows_of, total_of
from edgeaudio.training.progress import resume, save
from edgeaudio.training.schedule import learning_rate
from edgeaudio.training.teaching import Teacher
from edgeaudio.training.views import labels, view
from edgeaudio.training.windows import MelSource, WindowSet, clip_scores, window_logits

Log = Callable[[dict[str, Any]], None]


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
    """Train a model and leave it with the weights that the recipe keeps, by default of its best epoch.

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
    console = console or Console(quiet=True)
    spec = recipe.train
    check_devices(recipe.augment, train.device_names, train.device_names)
    learner = Learner(model, recipe, len(train.device_names))
    learner = learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(learner, spec)
    wrapped, optimizer = fabric.setup(learner, optimizer)
    source = train.mel_source(recipe.frontend, fabric.device)
    truth = train.label_matrix(classes)
    microphones = train.device_matrix if spec.device_adversary else None
    weights = balanced_weights(truth[torch.from_numpy(train.grid.clip)]) if spec.class_weights else None
    objective = Objective(recipe, None if weights is None else weights.to(fabric.device))

    def make(hearing: Hearing) -> Batch:
        return _make_batch(recipe, train, source, truth, microphones, teacher, hearing, fabric)

    ahead = 0 if fabric.device.type == "cpu" else AHEAD
    restore = match_momentum(model, fabric.world_size)
    averaged = StepAverage(model, spec.ema_decay)
    progress = resume(folder, learner, averaged, optimizer)
    for epoch in console.track(range(progress.epoch, spec.epochs), name, spec.epochs - progress.epoch):
        if progress.waited(spec.patience):
            break
        began = time.perf_counter()
        torch.manual_seed(seed_of(seed, epoch))  # dropout
        wrapped.train()
        total, heard = 0.0, 0
        batches = Prefetched(hearings(recipe, train, seed, epoch), make, ahead)
        for hearing, batch in batches:
            rate = learning_rate(spec, epoch + hearing.at)
            for group in optimizer.param_groups:
                group["lr"] = rate
            for share, last, micro in _micro_batches(batch, spec.micro_batch, hearing, fabric):
                with fabric.no_backward_sync(wrapped, enabled=not last):
                    loss = objective(wrapped(micro.mel), micro)
                    fabric.backward(loss * share * fabric.world_size)
                total += float(loss.detach()) * share * len(hearing.index)
            if spec.gradient_clip:
                fabric.clip_gradients(wrapped, optimizer, max_norm=spec.gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            averaged.update(model)
            heard += len(hearing.index)
        trained = time.perf_counter() - began
        average_buffers(averaged.model, fabric)
        row = {
            "epoch": epoch,
            "train_loss": total_of(total, fabric) / heard,
            **_validate(averaged.model, val, recipe, fabric),
            "learning_rate": rate,
            "seconds": round(time.perf_counter() - began, 3),
            "clips_per_second": round(heard / trained, 1),
            "waited": round(batches.waited / trained, 3),
        }
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise RecipeError(f"{name}: the loss of epoch {epoch} is not finite; lower train.learning_rate")
        progress.take(row, averaged.model, spec)
        if fabric.is_global_zero:
            save(folder, progress, learner, averaged, optimizer)
        for log in logs:
            log(row)
    model.load_state_dict(progress.kept(spec))
    learner.close()
    restore()
    model.eval()
    return progress.history


# ── what the loop calls, in its order ────────────────────────────────────────────────────────────


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


def _micro_batches(
    batch: Batch, size: int, hearing: Hearing, fabric: Fabric
) -> Iterator[tuple[float, bool, Batch]]:
    """Pieces that fit the processor's cache: the share of the whole batch that each holds, whether it is the
    last, and the piece."""
    rows, total = len(batch.mel), len(hearing.index)
    # a process without a row of its own goes along with one that counts nothing
    counts = rows if total >= fabric.world_size or fabric.global_rank < total else 0
    for start in range(0, rows, size):
        part = batch.rows(slice(start, start + size))
        yield min(counts, len(part.mel)) / total, start + size >= rows, part


def _validate(model: nn.Module, val: WindowSet, recipe: Recipe, fabric: Fabric) -> dict[str, float]:
    logits = window_logits(model, val, recipe.frontend, fabric.device)
    return val_figures(logits, val)


def val_figures(logits: Tensor, val: WindowSet) -> dict[str, float]:
    """Log loss of the clips, and accuracy (mAP with several labels), from logits `(windows, classes)`."""
    metrics = clip_metrics(clip_scores(logits, val), val.truth)
    return {"val_loss": metrics.log_loss, f"val_{metrics.figure}": metrics.value}
