"""Learning to give back what was heard: no labels, only spectrograms.

The loss is the root of the mean squared error over the batch, as in auDeep. The mean of the roots of the
pieces isn't the root of the batch's mean, so a batch is never taken apart here (`micro_batch` is the batch).
Recurrent networks lose nothing by it: what a step costs them is one matrix product, and a wide one is
cheapest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.config import TrainSpec
from edgeaudio.console import Console
from edgeaudio.models.layers import Autoencoder
from edgeaudio.training.loop import Log, Task, learn

SILENCE = -1.0
"""What the quietest bins of a spectrogram are, once it is scaled to [−1, 1]."""
VALIDATED = 64
"""Spectrograms in one forward pass where nothing is learnt."""

Array = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Chosen:
    """One batch of an epoch."""

    index: NDArray[np.int64]
    """`(batch,)` places among the rows to learn from."""
    at: float
    """Share of the epoch that is over when it begins."""


@dataclass(frozen=True)
class Spectrograms:
    """A batch."""

    values: Tensor
    """`(batch, time, bands)`."""

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, part: slice) -> Spectrograms:
        """Some of them."""
        return Spectrograms(self.values[part])


def fit(
    model: Autoencoder,
    spec: TrainSpec,
    spectrograms: Array,
    train: Rows,
    val: Rows,
    folder: Path,
    fabric: Fabric,
    seed: int,
    mask_silence: bool = False,
    console: Console | None = None,
    name: str = "training",
    logs: Sequence[Log] = (),
    snapshot: Callable[[int, nn.Module], None] | None = None,
) -> list[dict[str, Any]]:
    """Train an autoencoder and leave it with the weights that are to be kept.

    Args:
        model: spectrograms `(batch, time, bands)` → what is given back and what should be.
        spec: its schedule, optimiser, which weights are kept; `micro_batch` isn't looked at.
        spectrograms: `(instances, time, bands)`.
        train: `(rows,)` those to learn from.
        val: `(rows,)` those that the loss is measured on after each epoch.
        folder: where the checkpoint and `metrics.jsonl` are kept; a checkpoint found there is continued.
        fabric: device and precision; of one process.
        seed: of every draw.
        mask_silence: bins that are silent in the target count as given back.
        console: shows progress.
        name: what the progress bar says.
        logs: called with each epoch's figures.
        snapshot: called with the number of epochs done, from 1 on, and the model.

    Returns:
        One dictionary an epoch, as in `metrics.jsonl`; losses are RMSE.

    Raises:
        RecipeError: the loss isn't finite.
    """
    assert fabric.world_size == 1, "the root of a mean can't be shared out"

    def epoch_of(epoch: int) -> Iterator[Chosen]:
        return batches(len(train), spec.batch_size, seed, epoch)

    def make(chosen: Chosen) -> Spectrograms:
        return Spectrograms(torch.from_numpy(spectrograms[train[chosen.index]]).to(fabric.device))

    def loss(learner: nn.Module, batch: Spectrograms) -> Tensor:
        given, target = learner(batch.values)
        return squared_error(given, target, mask_silence).mean().sqrt()

    def validate(model: nn.Module) -> dict[str, float]:
        return {"val_loss": rmse(model, spectrograms, val, fabric.device, mask_silence)}

    whole = replace(spec, micro_batch=spec.batch_size)
    task = Task(model, model, epoch_of, make, loss, validate)
    return learn(task, whole, folder, fabric, seed, console, name, logs, snapshot)


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[Chosen]:
    """All of `count` spectrograms once, in an order that is drawn from (seed, epoch)."""
    rng = np.random.default_rng([seed, epoch])
    rng.integers(2**31)  # the seed of torch's generator
    order = rng.permutation(count)
    steps = math.ceil(count / size)
    for step in range(steps):
        yield Chosen(order[step * size : (step + 1) * size], step / steps)


def squared_error(given: Tensor, target: Tensor, mask_silence: bool = False) -> Tensor:
    """Squared error of each bin, `(batch, time, bands)`; 0 of silent ones with `mask_silence`."""
    error = (given - target).square()
    return error.masked_fill(target == SILENCE, 0.0) if mask_silence else error


def rmse(
    model: nn.Module, spectrograms: Array, rows: Rows, device: torch.device, mask_silence: bool = False
) -> float:
    """Root of the mean squared error over `rows` of the spectrograms `(instances, time, bands)`.

    The model is left in eval mode.
    """
    model.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), VALIDATED):
            batch = torch.from_numpy(spectrograms[rows[start : start + VALIDATED]]).to(device)
            given, target = model(batch)
            total += float(squared_error(given, target, mask_silence).sum(dtype=torch.float64))
    return math.sqrt(total / (len(rows) * spectrograms[0].size))
