"""How a student is answered by its teachers: from stored logits, or live on the very view it learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeaudio.config import FrontEndSpec, Recipe
from edgeaudio.training.context import widened
from edgeaudio.training.epochs import Hearing, view_batches
from edgeaudio.training.learner import Tap, embed
from edgeaudio.training.objective import Answer, squash
from edgeaudio.training.stored import save_tensors
from edgeaudio.training.views import labels, view
from edgeaudio.training.windows import WindowSet, window_logits


@dataclass(frozen=True)
class Listener:
    """A trained teacher."""

    model: nn.Module
    frontend: FrontEndSpec
    seconds: float | None = None
    """Length of what it hears where that is longer than a student's window, which then lies in its middle."""


class Teacher(Protocol):
    """Answers for a batch of training windows."""

    def __call__(self, batch: Hearing, rows: slice = slice(None)) -> Answer:
        """What the teachers say of some windows of a batch.

        Args:
            batch: the windows, and how they are changed.
            rows: of the batch that are asked about; a process of several asks for its own.
        """


class CachedTeacher:
    """Answers by logits that were stored for the untouched windows.

    Mixup mixes the answers as it mixes the windows. Other augmentation is not answered: it changes the sound
    but, one hopes, not the label.
    """

    def __init__(self, logits: Tensor, recipe: Recipe, device: torch.device) -> None:
        """Keep `logits` `(windows, classes)` as probabilities for the student's recipe on the device."""
        self._probabilities = squash(logits, recipe).to(device)

    def __call__(self, batch: Hearing, rows: slice = slice(None)) -> Answer:
        """Probabilities of the untouched windows, mixed."""
        return Answer(labels(self._probabilities[torch.from_numpy(batch.index)], batch.draws)[rows])


class ViewedTeacher:
    """Answers by logits that were stored for a few epochs' views, which recur."""

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device) -> None:
        """Open the shards that `store_views` wrote for the student's recipe."""
        each = [load_file(view_file(folder, view))["logits"] for view in range(recipe.distill.views)]
        self._probabilities = [squash(logits, recipe).to(device) for logits in each]

    def __call__(self, batch: Hearing, rows: slice = slice(None)) -> Answer:
        """Probabilities for the very view."""
        assert batch.view is not None, "the hearing belongs to no stored view"
        part = self._probabilities[batch.view][batch.first : batch.first + len(batch.index)]
        return Answer(part[rows])


class LiveTeacher:
    """Answers by running the teachers on the view that the student hears.

    Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022.
    """

    def __init__(
        self,
        teachers: Sequence[Listener],
        windows: WindowSet,
        recipe: Recipe,
        device: torch.device,
        weights: Sequence[float] | None = None,
        micro_batch: int = 32,
    ) -> None:
        """Keep the teachers in eval mode on the device.

        Args:
            teachers: at least one.
            windows: the training windows.
            recipe: the student's.
            device: where they run.
            weights: of each teacher's logits, sum 1; equal ones if not given.
            micro_batch: windows in one forward pass.
        """
        self._recipe, self._micro_batch = recipe, micro_batch
        self._weights = list(weights or [1 / len(teachers)] * len(teachers))
        self._listeners = []
        for teacher in teachers:
            model = teacher.model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            source = widened(windows, teacher.seconds).mel_source(teacher.frontend, device)
            self._listeners.append((model, teacher.frontend, source))
        first = teachers[0]
        frames = first.frontend.frames(round((first.seconds or windows.seconds) * first.frontend.sample_rate))
        shape = (1, 1, first.frontend.n_mels, frames)
        if first.frontend.kind == "waveform":
            shape = (1, 1, 1, frames)
        self._tap = Tap(first.model, shape) if recipe.distill.features != "none" else None

    @torch.no_grad()
    def logits(self, batch: Hearing, rows: slice = slice(None)) -> Tensor:
        """The teachers' logits `(rows, classes)` on the view, as one."""
        return self._answer(batch, rows)[0]

    def __call__(self, batch: Hearing, rows: slice = slice(None)) -> Answer:
        """Probabilities, and the features of the first teacher where they are matched."""
        logits, maps, embeddings = self._answer(batch, rows)
        return Answer(squash(logits, self._recipe), maps, embeddings)

    @torch.no_grad()
    def _answer(self, batch: Hearing, rows: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
        total: Tensor | None = None
        maps, embeddings = list[Tensor](), list[Tensor]()
        for k, (model, spec, source) in enumerate(self._listeners):
            mel = view(source(batch.index, batch.draws), batch.draws, spec)[rows]
            logits = []
            for part in torch.split(mel, self._micro_batch):
                logits.append(model(part).float())
                if k == 0 and self._tap is not None:
                    self._keep(model, part, maps, embeddings)
            share = self._weights[k] * torch.cat(logits)
            total = share if total is None else total + share
        assert total is not None
        return total, torch.cat(maps) if maps else None, torch.cat(embeddings) if embeddings else None

    def _keep(self, model: nn.Module, mel: Tensor, maps: list[Tensor], embeddings: list[Tensor]) -> None:
        assert self._tap is not None
        found = self._tap.feature_map
        if self._recipe.distill.features == "relational":
            embeddings.append(embed(model, mel, found).float())
        elif found is not None:
            maps.append(found.float())


def view_file(folder: Path, view: int) -> Path:
    """The shard of one view."""
    return folder / f"view-{view:03}.safetensors"


def store_views(
    teacher: LiveTeacher,
    recipe: Recipe,
    train: WindowSet,
    seed: int,
    folder: Path,
    share: tuple[int, int] = (0, 1),
) -> Iterator[int]:
    """Store the teachers' answers to every recurring view, a shard each; finished shards are left.

    Args:
        teacher: answers.
        recipe: the student's, which says how views are drawn and how many there are.
        train: the training windows.
        seed: of the student's training.
        folder: where the shards go.
        share: this process' number, and how many there are: each does its part of the views.

    Yields:
        The number of each view that was written.
    """
    rank, processes = share
    for number in range(rank, recipe.distill.views, processes):
        path = view_file(folder, number)
        if path.is_file():
            continue
        logits = [teacher.logits(batch) for batch in view_batches(recipe, train, seed, number)]
        partial = path.with_suffix(f".{rank}.partial")
        save_tensors({"logits": torch.cat(logits)}, partial)
        partial.replace(path)
        yield number


def fuse(each: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Several teachers' logits `(windows, classes)` as one."""
    return torch.stack([weight * logits for weight, logits in zip(weights, each, strict=True)]).sum(0)


def listener_logits(teacher: Listener, windows: WindowSet, device: torch.device) -> Tensor:
    """A teacher's logits `(windows, classes)` for every window of a set, on the CPU."""
    return window_logits(teacher.model, widened(windows, teacher.seconds), teacher.frontend, device)
