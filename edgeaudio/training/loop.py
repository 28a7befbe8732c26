"""The training loop, visible from top to bottom: data, forward, loss, backward, step, log.

Every random draw of an epoch comes from (seed, epoch) alone. So a job that was killed continues from its
last checkpoint to the very weights that an undisturbed one ends with: bit for bit on the same CPU. An
accelerator's kernels may add in another order from run to run. Several processes share each batch: together
they see what one process sees, and take the same steps.

What is learnt is the task's business: from labels and teachers (`supervised.py`), or to give back what was
heard (`reconstruction.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.config import TrainSpec
from edgeaudio.console import Console
from edgeaudio.errors import RecipeError
from edgeaudio.training.averaging import StepAverage
from edgeaudio.training.epochs import seed_of
from edgeaudio.training.memory import freed_memory_kept
from edgeaudio.training.optimizers import build_optimizer
from edgeaudio.training.prefetch import AHEAD, Prefetched
from edgeaudio.training.processes import average_buffers, match_momentum, total_of
from edgeaudio.training.progress import resume, save
from edgeaudio.training.schedule import learning_rate

Log = Callable[[dict[str, Any]], None]


class Pick(Protocol):
    """Which examples a batch is made of."""

    @property
    def index(self) -> NDArray[np.int64]:
        """`(batch,)` examples, over all processes."""

    @property
    def at(self) -> float:
        """Share of the epoch that is over when the batch begins."""


class Rows(Protocol):
    """A batch, or this process' part of one."""

    def __len__(self) -> int: ...

    def rows(self: R, part: slice) -> R:
        """Some of the examples."""


R = TypeVar("R", bound=Rows)
P = TypeVar("P", bound=Pick)


@dataclass(frozen=True)
class Task(Generic[P, R]):
    """What is learnt."""

    model: nn.Module
    """What is averaged, validated and kept."""
    learner: nn.Module
    """What is stepped: the model itself, or one that holds it."""
    epoch: Callable[[int], Iterator[P]]
    """The batches of an epoch, drawn from (seed, epoch) alone."""
    make: Callable[[P], R]
    """This process' rows of a batch, on the device; draws nothing."""
    loss: Callable[[nn.Module, R], Tensor]
    """The learner's mean loss over some rows, a scalar."""
    validate: Callable[[nn.Module], dict[str, float]]
    """Figures of a model on held-out examples; `val_loss`, the lower the better, is among them."""


@freed_memory_kept()
def learn(
    task: Task[P, R],
    spec: TrainSpec,
    folder: Path,
    fabric: Fabric,
    seed: int,
    console: Console | None = None,
    name: str = "training",
    logs: Sequence[Log] = (),
    snapshot: Callable[[int, nn.Module], None] | None = None,
) -> list[dict[str, Any]]:
    """Train a model and leave it with the weights that are to be kept, by default of its best epoch.

    Args:
        task: the model, its batches and its loss.
        spec: how long, how fast, which optimiser, which weights are kept.
        folder: where the checkpoint and `metrics.jsonl` are kept; a checkpoint found there is continued.
        fabric: device, precision, processes.
        seed: of every draw.
        console: shows progress.
        name: what the progress bar says.
        logs: called with each epoch's figures.
        snapshot: called by the first process with the number of epochs done, from 1 on, and the model.

    Returns:
        One dictionary an epoch, as in `metrics.jsonl`.

    Raises:
        RecipeError: the loss isn't finite.
    """
    console = console or Console(quiet=True)
    model, learner = task.model, task.learner
    optimizer = build_optimizer(learner, spec)
    wrapped, optimizer = fabric.setup(learner, optimizer)
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
        batches = Prefetched(task.epoch(epoch), task.make, ahead)
        for pick, batch in batches:
            rate = learning_rate(spec, epoch + pick.at)
            for group in optimizer.param_groups:
                group["lr"] = rate
            for share, last, micro in _micro_batches(batch, spec.micro_batch, len(pick.index), fabric):
                with fabric.no_backward_sync(wrapped, enabled=not last):
                    loss = task.loss(wrapped, micro)
                    fabric.backward(loss * share * fabric.world_size)
                total += float(loss.detach()) * share * len(pick.index)
            if spec.gradient_clip:
                fabric.clip_gradients(wrapped, optimizer, max_norm=spec.gradient_clip)
            if spec.gradient_clip_value:
                fabric.clip_gradients(wrapped, optimizer, clip_val=spec.gradient_clip_value)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            averaged.update(model)
            heard += len(pick.index)
        trained = time.perf_counter() - began
        average_buffers(averaged.model, fabric)
        row = {
            "epoch": epoch,
            "train_loss": total_of(total, fabric) / heard,
            **task.validate(averaged.model),
            "learning_rate": rate,
            "seconds": round(time.perf_counter() - began, 3),
            "clips_per_second": round(heard / trained, 1),
            "waited": round(batches.waited / trained, 3),
        }
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise RecipeError(f"{name}: the loss of epoch {epoch} is not finite; lower train.learning_rate")
        progress.take(row, averaged.model, spec)
        if fabric.is_global_zero:
            if snapshot is not None:
                snapshot(progress.epoch, averaged.model)
            save(folder, progress, learner, averaged, optimizer)
        for log in logs:
            log(row)
    model.load_state_dict(progress.kept(spec))
    restore()
    model.eval()
    return progress.history


def _micro_batches(batch: R, size: int, total: int, fabric: Fabric) -> Iterator[tuple[float, bool, R]]:
    """Pieces that fit the processor's cache: the share of the whole batch that each holds, whether it is the
    last, and the piece; `total` counts the examples of the batch over all processes."""
    rows = len(batch)
    # a process without a row of its own goes along with one that counts nothing
    counts = rows if total >= fabric.world_size or fabric.global_rank < total else 0
    for start in range(0, rows, size):
        part = batch.rows(slice(start, start + size))
        yield min(counts, len(part)) / total, start + size >= rows, part
