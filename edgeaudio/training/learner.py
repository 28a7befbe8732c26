"""A model while it learns: what the loss needs beside its logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgeaudio.config import Recipe
from edgeaudio.errors import RecipeError
from edgeaudio.models import Model
from edgeaudio.models.domain import DeviceHead
from edgeaudio.training.blocked import reuse_inputs, to_blocked, to_dense, trains_blocked
from edgeaudio.training.freezing import freeze
from edgeaudio.training.inside import mixstyle_inside


class Heard(NamedTuple):
    """What a forward pass leaves."""

    logits: Tensor
    """`(batch, classes)`."""
    feature_map: Tensor | None = None
    """`(batch, channels, frequency, time)`, the last one before the pooling."""
    embedding: Tensor | None = None
    """`(batch, features)`."""
    device: Tensor | None = None
    """`(batch, devices)` logits of the adversary."""


class Tap:
    """Listens to a model's last feature map while it runs."""

    def __init__(self, model: nn.Module, shape: Sequence[int]) -> None:
        """Find the map by a trial run.

        Args:
            model: is left in the mode it was in.
            shape: of an input, `(1, 1, mels, frames)`.
        """
        self.feature_map: Tensor | None = None
        layer = _last_map(model, shape)
        self.channels = layer[1] if layer else 0
        self._handle = layer[0].register_forward_hook(self._keep) if layer else None

    def close(self) -> None:
        """Stop listening."""
        if self._handle is not None:
            self._handle.remove()

    def _keep(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self.feature_map = to_dense(output)


def _last_map(model: nn.Module, shape: Sequence[int]) -> tuple[nn.Module, int] | None:
    """The layer whose output is the last map with more than one position, and its channels."""
    found: list[tuple[nn.Module, int]] = []
    tokens = [False]

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or isinstance(module, nn.Dropout):
            return
        if output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            found.append((module, output.shape[1]))
            tokens[0] = False
        elif output.dim() == 3 and output.shape[1] > 1:
            tokens[0] = True  # from here on a transformer: no map any more, unless it folds one back

    inner = [(name, m) for name, m in model.named_modules() if m is not model and not _in_head(model, name)]
    handles = [module.register_forward_hook(look) for _, module in inner]
    was_training, device = model.training, next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(*shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return found[-1] if found and not tokens[0] else None


def _in_head(model: nn.Module, name: str) -> bool:
    return isinstance(model, Model) and any(f"{name}.".startswith(head) for head in model.head)


class Learner(nn.Module):
    """A model with what is listened to, frozen and put beside it for its training."""

    def __init__(self, model: nn.Module, recipe: Recipe, devices: int = 0, full: bool = False) -> None:
        """Prepare a model.

        Args:
            model: log-mel → logits; it may be averaged and stored apart from the rest.
            recipe: its freezing, adversary and features.
            devices: known devices of the training clips.
            full: it learns on a CPU in float32, so it may in oneDNN's layout.

        Raises:
            RecipeError: the model or the data lack what the recipe asks for.
        """
        super().__init__()
        self.model = model
        self._features = recipe.distill.features
        self._frozen = freeze(model, recipe.train.freeze)
        self._handles = mixstyle_inside(model, recipe.augment)
        adversarial = recipe.train.device_adversary > 0
        self._tap = Tap(model, recipe.input_shape) if adversarial or self._features != "none" else None
        if self._tap and not self._tap.channels and (adversarial or self._features == "attention"):
            raise RecipeError(
                f"{recipe.name} ends in no feature map, which train.device_adversary and "
                'distill.features = "attention" need; turn them off, or choose "relational"'
            )
        if adversarial and devices < 2:
            raise RecipeError(
                f"train.device_adversary needs training clips of two or more devices, here are {devices}; "
                "give the clips a device, or set it to 0"
            )
        # a frozen batch norm has no gradient there, and MixStyle no layer
        plain = full and not recipe.train.freeze and not self._handles
        self._blocked = plain and trains_blocked(model, recipe.training_shape)
        self._reusing = reuse_inputs(model) if self._blocked else []
        self.adversary = DeviceHead(self._tap.channels, devices) if self._tap and adversarial else None

    def close(self) -> None:
        """Leave the model as a plain one."""
        for handle in self._handles:
            handle.remove()
        if self._tap is not None:
            self._tap.close()
        for relu in self._reusing:
            relu.inplace = False
        self.model.requires_grad_(True)

    def train(self, mode: bool = True) -> Learner:
        """As in torch, but what is frozen stays in eval mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, mel: Tensor) -> Heard:
        """Log-mel `(batch, 1, mels, frames)` → logits and what else the loss asks for."""
        logits: Tensor = self.model(to_blocked(mel) if self._blocked else mel)
        if self._tap is None:
            return Heard(logits)
        feature_map, self._tap.feature_map = self._tap.feature_map, None
        device = self.adversary(feature_map) if self.adversary is not None else None
        embedding = None
        if self._features == "relational":
            embedding = embed(self.model, mel, feature_map)
        return Heard(logits, feature_map if self._features == "attention" else None, embedding, device)


def embed(model: nn.Module, mel: Tensor, feature_map: Tensor | None) -> Tensor:
    """Embeddings `(batch, features)`: the mean of the last map, or the model's own where it has none."""
    if feature_map is not None:
        return feature_map.mean((2, 3))
    assert isinstance(model, Model), "only an architecture of ours can be asked for its embedding"
    return model.embed(mel)
