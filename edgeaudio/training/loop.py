"""The training loop, visible from top to bottom: data, forward, loss, backward, step, log.

Every random draw of an epoch comes from (seed, epoch) alone. So a job that was killed continues from its
last checkpoint to the very weights that an undisturbed one ends with: bit for bit on the same CPU. An
accelerator's kernels may add in another order from run to run.
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio import losses
from edgeaudio.config import Recipe, TrainSpec
from edgeaudio.console import Console
from edgeaudio.errors import RecipeError
from edgeaudio.training.metrics import clip_metrics
from edgeaudio.training.teaching import Teacher
from edgeaudio.training.views import draw, mixed, view
from edgeaudio.training.windows import WindowSet, vote, window_logits

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Batch:
    """What one optimiser step sees."""

    mel: Tensor
    """`(batch, 1, mels, frames)`."""
    targets: Tensor
    """`(batch, classes)` label distributions."""
    teacher: Tensor | None
    """`(batch, classes)` teacher probabilities at the distillation temperature."""


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
) -> list[dict[str, Any]]:
    """Train a model and leave it with the weights of its best epoch by validation.

    Args:
        model: log-mel `(batch, 1, mels, frames)` → logits `(batch, classes)`.
        recipe: its front end, augmentation, schedule and distillation weights.
        train: windows to learn from.
        val: windows that choose the epoch: the one with the lowest log loss of the clips.
        classes: number of classes.
        folder: where the checkpoint and `metrics.jsonl` are kept; a checkpoint found there is continued.
        fabric: device and precision.
        seed: of every draw.
        teacher: answers for training windows; without it the loss is plain cross-entropy.
        console: shows progress.
        name: what the progress bar says.

    Returns:
        One dictionary an epoch, as in `metrics.jsonl`.
    """
    console = console or Console(quiet=True)
    spec = recipe.train
    optimizer = torch.optim.AdamW(_parameter_groups(model, spec.weight_decay), lr=spec.learning_rate)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(model, optimizer)
    source = train.mel_source(recipe.frontend, fabric.device)

    averaged = _Average(model, spec.ema_decay)
    state = _resume(folder, model, averaged, optimizer)
    for epoch in console.track(range(state.epoch, spec.epochs), name, spec.epochs - state.epoch):
        began = time.perf_counter()
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(int(rng.integers(2**31)))  # dropout
        order = _draw_windows(train, spec, rng)
        steps = math.ceil(len(order) / spec.batch_size)
        wrapped.train()
        total = 0.0
        for step in range(steps):
            index = order[step * spec.batch_size : (step + 1) * spec.batch_size]
            rate = learning_rate(spec, epoch + step / steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = _make_batch(recipe, train, source, teacher, index, classes, rng)
            for share, micro in _micro_batches(batch, spec.micro_batch):
                loss = _loss(wrapped(micro.mel), micro, recipe)
                fabric.backward(loss * share)
                total += float(loss.detach()) * share * len(index)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            averaged.update(model)
        trained = time.perf_counter() - began
        metrics = _validate(averaged.model, val, recipe, fabric)
        if not math.isfinite(total + metrics["val_loss"]):
            raise RecipeError(f"{name}: the loss of epoch {epoch} is not finite; lower train.learning_rate")
        state.history.append(
            {
                "epoch": epoch,
                "train_loss": total / len(order),
                **metrics,
                "learning_rate": rate,
                "seconds": round(time.perf_counter() - began, 3),
                "clips_per_second": round(len(order) / trained, 1),
            }
        )
        state.remember_best(averaged.model, metrics)
        state.epoch = epoch + 1
        _save(folder, state, model, averaged, optimizer)
    model.load_state_dict(state.best)
    model.eval()
    return state.history


# ── what the loop calls, in its order ────────────────────────────────────────────────────────────


def _parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    weights = [p for p in model.parameters() if p.dim() > 1]
    # decaying scales and biases pulls normalisation towards zero for no gain
    rest = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def _draw_windows(train: WindowSet, spec: TrainSpec, rng: np.random.Generator) -> NDArray[np.int64]:
    """Windows of one epoch in random order: some of every clip's, without repeats while they last."""
    chosen = []
    for windows, position in zip(train.grid.of_clip(), train.positions, strict=True):
        wanted = spec.windows_per_clip or max(1, round(len(train.waveforms[position]) / train.window))
        # a grid finer than the windows: take no more than the clip's audible part holds side by side
        wanted = min(wanted, len(windows)) if not spec.windows_per_clip else wanted
        rounds = [rng.permutation(windows) for _ in range(-(-wanted // len(windows)))]
        chosen.append(np.concatenate(rounds)[:wanted])
    return rng.permutation(np.concatenate(chosen))


def learning_rate(spec: TrainSpec, epoch: float) -> float:
    """Linear warm-up, then cosine decay to `final_lr_ratio`; `epoch` counts fractions."""
    if epoch < spec.warmup_epochs:
        # never quite zero, so that the very first step already learns
        return spec.learning_rate * max(epoch / spec.warmup_epochs, 0.02)
    done = (epoch - spec.warmup_epochs) / max(spec.epochs - spec.warmup_epochs, 1e-9)
    cosine = (1 + math.cos(math.pi * min(done, 1.0))) / 2
    return spec.learning_rate * (spec.final_lr_ratio + (1 - spec.final_lr_ratio) * cosine)


def _make_batch(
    recipe: Recipe,
    train: WindowSet,
    source: Callable[[NDArray[np.int64]], Tensor],
    teacher: Teacher | None,
    index: NDArray[np.int64],
    classes: int,
    rng: np.random.Generator,
) -> Batch:
    draws = draw(recipe, len(index), rng)
    mel = view(source(index), draws, recipe.frontend)
    clip = torch.from_numpy(train.grid.clip[index])
    targets = nn.functional.one_hot(train.targets[clip], classes).float().to(mel.device)
    answer = None if teacher is None else teacher(index, draws)
    return Batch(mel, mixed(targets, draws.mixup), answer)


def _micro_batches(batch: Batch, size: int) -> Iterator[tuple[float, Batch]]:
    """Pieces that fit the processor's cache, with the share of the batch that each holds."""
    total = len(batch.mel)
    for start in range(0, total, size):
        part = slice(start, start + size)
        teacher = None if batch.teacher is None else batch.teacher[part]
        micro = Batch(batch.mel[part], batch.targets[part], teacher)
        yield len(micro.mel) / total, micro


def _loss(logits: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    logits = logits.float()
    if batch.teacher is None:
        return losses.cross_entropy(logits, batch.targets, recipe.train.label_smoothing)
    return losses.hard_and_soft(
        logits, batch.targets, batch.teacher, recipe.distill.temperature, recipe.distill.hard_label_weight
    )


def _validate(model: nn.Module, val: WindowSet, recipe: Recipe, fabric: Fabric) -> dict[str, float]:
    logits = window_logits(model, val, recipe.frontend, fabric.device)
    metrics = clip_metrics(vote(logits.softmax(1), val.grid).numpy(), val.targets.numpy())
    return {"val_loss": metrics.log_loss, "val_accuracy": metrics.accuracy}


class _Average:
    """An exponential average of the weights over the steps; the model itself without a decay."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model) if decay else model
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        if not self.decay:
            return
        self.steps += 1
        # a short memory at first, or the random beginning would linger
        keep = min(self.decay, self.steps / (self.steps + 10))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)


# ── resuming ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _State:
    epoch: int
    history: list[dict[str, Any]]
    best: dict[str, Tensor]
    best_loss: float

    def remember_best(self, model: nn.Module, metrics: dict[str, float]) -> None:
        # not the accuracy: on a few dozen clips its best epoch is a lucky one
        if metrics["val_loss"] < self.best_loss:
            self.best_loss = metrics["val_loss"]
            self.best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def _resume(folder: Path, model: nn.Module, averaged: _Average, optimizer: Any) -> _State:
    path = folder / CHECKPOINT
    if not path.exists():
        return _State(0, [], {}, math.inf)
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    averaged.model.load_state_dict(saved["average"])
    averaged.steps = saved["average_steps"]
    return _State(saved["epoch"], saved["history"], saved["best"], saved["best_loss"])


def _save(folder: Path, state: _State, model: nn.Module, averaged: _Average, optimizer: Any) -> None:
    """Write-then-rename: a kill leaves the checkpoint of this epoch or of the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "epoch": state.epoch, "history": state.history,
        "best": state.best, "best_loss": state.best_loss,
        "average": averaged.model.state_dict(), "average_steps": averaged.steps,
        "model": model.state_dict(), "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    buffer = io.BytesIO()  # so that a full disk is an ordinary OSError, not one of torch's own
    torch.save(content, buffer)
    partial = folder / f"{CHECKPOINT}.partial"
    partial.write_bytes(buffer.getvalue())
    partial.replace(folder / CHECKPOINT)
    lines = "".join(json.dumps(row) + "\n" for row in state.history)
    (folder / METRICS).write_text(lines)
