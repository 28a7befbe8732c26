"""How a student is answered by its teachers: from stored logits, or live on the very view it learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.config import FrontEndSpec
from edgeaudio.training.views import Draws, mixed, view
from edgeaudio.training.windows import WindowSet


class Teacher(Protocol):
    """Answers for a batch of training windows."""

    def __call__(self, index: NDArray[np.int64], draws: Draws) -> Tensor:
        """Probabilities `(batch, classes)` at the distillation temperature for the windows at `index`."""


class CachedTeacher:
    """Answers by logits that were stored for the untouched windows.

    Mixup mixes the answers as it mixes the windows. Other augmentation is not answered: it changes the sound
    but, one hopes, not the label.
    """

    def __init__(self, logits: Tensor, temperature: float, device: torch.device) -> None:
        """Keep `logits` `(windows, classes)` as probabilities on the device."""
        self._probabilities = (logits / temperature).softmax(1).to(device)

    def __call__(self, index: NDArray[np.int64], draws: Draws) -> Tensor:
        """Probabilities `(batch, classes)` for the windows at `index`."""
        return mixed(self._probabilities[torch.from_numpy(index)], draws.mixup)


class LiveTeacher:
    """Answers by running the teachers on the view that the student hears; the mean of their logits.

    Source: Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022.
    """

    def __init__(
        self,
        teachers: Sequence[tuple[nn.Module, FrontEndSpec]],
        windows: WindowSet,
        temperature: float,
        device: torch.device,
        micro_batch: int = 32,
    ) -> None:
        """Keep the teachers, each with its front end, in eval mode on the device."""
        self._models: list[tuple[nn.Module, FrontEndSpec, Callable[[NDArray[np.int64]], Tensor]]] = [
            (
                model.eval().to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
                spec,
                windows.mel_source(spec, device),
            )
            for model, spec in teachers
        ]
        self._temperature, self._micro_batch = temperature, micro_batch

    @torch.no_grad()
    def __call__(self, index: NDArray[np.int64], draws: Draws) -> Tensor:
        """Probabilities `(batch, classes)` for the windows at `index` as the draws change them."""
        logits = []
        for model, spec, source in self._models:
            mel = view(source(index), draws, spec)
            parts = torch.split(mel, self._micro_batch)
            logits.append(torch.cat([model(part).float() for part in parts]))
        return (torch.stack(logits).mean(0) / self._temperature).softmax(1)
