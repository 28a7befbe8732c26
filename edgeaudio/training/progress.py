"""How far a training has come: history, best weights, and the checkpoint that continues it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeaudio.config import TrainSpec
from edgeaudio.training.averaging import StepAverage, mean_of

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"

State = dict[str, Tensor]


@dataclass
class Progress:
    """What a training has come to after some epochs."""

    epoch: int = 0
    """Epochs done."""
    history: list[dict[str, Any]] = field(default_factory=list)
    best: list[tuple[float, State]] = field(default_factory=list)
    """Validation loss and weights of the best epochs, the best first; as many as are kept."""
    last: State = field(default_factory=dict)
    """Weights of the last epoch, where they are what is kept."""

    def take(self, row: dict[str, Any], model: nn.Module, spec: TrainSpec) -> None:
        """Add an epoch with its figures and weights."""
        self.history.append(row)
        self.epoch += 1
        # by the loss: on a few dozen clips the best accuracy is a lucky one
        loss, wanted = row["val_loss"], spec.average_epochs if spec.keep == "average" else 1
        if len(self.best) < wanted or loss < self.best[-1][0]:
            self.best = sorted([*self.best, (loss, _copy(model))], key=lambda pair: pair[0])[:wanted]
        if spec.keep == "last":
            self.last = _copy(model)

    def waited(self, patience: int) -> bool:
        """Whether the validation loss hasn't fallen for so many epochs; never with a patience of 0."""
        losses = [row["val_loss"] for row in self.history]
        return bool(patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= patience

    def kept(self, spec: TrainSpec) -> State:
        """The weights that the training leaves."""
        return self.last if spec.keep == "last" else mean_of([state for _, state in self.best])


def resume(folder: Path, learner: nn.Module, averaged: StepAverage, optimizer: Any) -> Progress:
    """Continue the checkpoint in the folder, or begin."""
    path = folder / CHECKPOINT
    if not path.exists():
        return Progress()
    saved = torch.load(path, map_location="cpu", weights_only=True)
    learner.load_state_dict(saved["learner"])
    optimizer.load_state_dict(saved["optimizer"])
    averaged.model.load_state_dict(saved["average"])
    averaged.steps = saved["average_steps"]
    best = list(zip(saved["best_losses"], saved["best"], strict=True))
    return Progress(saved["epoch"], saved["history"], best, saved["last"])


def save(folder: Path, progress: Progress, learner: nn.Module, averaged: StepAverage, optimizer: Any) -> None:
    """Write-then-rename: a kill leaves the checkpoint of this epoch or of the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "epoch": progress.epoch, "history": progress.history,
        "best": [state for _, state in progress.best], "best_losses": [loss for loss, _ in progress.best],
        "last": progress.last,
        "average": averaged.model.state_dict(), "average_steps": averaged.steps,
        "learner": learner.state_dict(), "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    buffer = io.BytesIO()  # so that a full disk is an ordinary OSError, not one of torch's own
    torch.save(content, buffer)
    partial = folder / f"{CHECKPOINT}.partial"
    partial.write_bytes(buffer.getvalue())
    partial.replace(folder / CHECKPOINT)
    lines = "".join(json.dumps(row) + "\n" for row in progress.history)
    (folder / METRICS).write_text(lines)


def _copy(model: nn.Module) -> State:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
