"""The layers of a network in torch: which there are, and what one of them knows of some sounds.

The last layer but the classifier is called ``embedding`` and is what `Model.embed` gives. What lies before it
is averaged: maps `(batch, channels, frequency, time)` over frequency and time, tokens
`(batch, tokens, features)` over the tokens.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.models import Model

EMBEDDING, LOGITS = "embedding", "logits"


@dataclass(frozen=True)
class Layer:
    """A layer that can be listened to."""

    name: str
    """By which it is asked for."""
    shape: tuple[int, ...]
    """Of what it gives for one window."""
    drop: int
    """Layers left out behind it: 0 of the logits, 1 of the embedding; −1 of one that isn't listed."""
    tensor: str = ""
    """Of a bundle's graph: the tensor that holds these features for each window, where one does."""

    @property
    def features(self) -> int:
        """Length of its vector for one window, averaged."""
        return self.shape[0] if len(self.shape) == 3 else self.shape[-1]


def averaged(values: Any) -> Any:
    """`(batch, channels, frequency, time)` or `(batch, tokens, features)` → `(batch, features)`."""
    if values.ndim == 2:
        return values
    return values.mean((2, 3)) if values.ndim == 4 else values.mean(1)


def chosen(table: list[Layer], drop: int) -> Layer:
    """The layer of a table that is left when `drop` are left out.

    Raises:
        RecipeError: there are not as many.
    """
    found = next((layer for layer in table if layer.drop == drop), None)
    if found is None and drop == 0:
        raise RecipeError("--drop-layers 0 means the logits, and this network's weights hold no classifier")
    if found is None:
        most = max(layer.drop for layer in table)
        raise RecipeError(
            f"--drop-layers {drop} leaves nothing of the network, which can do without {most}; "
            "--layers shows them all"
        )
    return found


class TorchLayers:
    """A network with its front end; `model` and `front_end` are what it was made of.

    Args:
        model: in eval mode.
        front_end: waveform → what the model takes; on the same device.
        window: samples of a window.
        scores: whether its classifier is trained; else there are no logits to be had.
    """

    def __init__(self, model: Model, front_end: nn.Module, window: int, scores: bool = True) -> None:
        self.model, self.front_end, self._window = model.eval(), front_end, window
        self._scores = scores

    def table(self) -> list[Layer]:
        """The layers, the first one first: blocks, then ``embedding`` and ``logits``."""
        x = self.front_end(_noise(self._window, self._device))
        names = list(_steps(self.model))
        given: dict[str, Tensor] = {}

        def note(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                if isinstance(output, Tensor) and 2 <= output.ndim <= 4:
                    given.pop(name, None)  # in the order in which they are done
                    given[name] = output

            return hook

        layers = dict(self.model.named_modules())
        handles = [layers[name].register_forward_hook(note(name)) for name in names]
        try:
            with torch.no_grad():
                embedding = self.model.embed(x)
        finally:
            for handle in handles:
                handle.remove()
        below = list(given.items())
        if below and _same(averaged(below[-1][1]), embedding):
            below.pop()  # its average is the embedding
        found = [*below, (EMBEDDING, embedding)]
        table = [Layer(name, tuple(t.shape[1:]), len(found) - i) for i, (name, t) in enumerate(found)]
        if self._scores:
            with torch.no_grad():
                table.append(Layer(LOGITS, tuple(self.model(x).shape[1:]), 0))
        return table

    def choose(self, name: str, drop: int) -> Layer:
        """The layer of a name, any module's, or the one that is left when `drop` are left out.

        Raises:
            RecipeError: there is no such layer, or it gives nothing that could be averaged.
        """
        table = self.table()
        if not name:
            return chosen(table, drop)
        if listed := next((layer for layer in table if layer.name == name), None):
            return listed
        if name == LOGITS:
            return chosen(table, 0)
        modules = [known for known, _ in self.model.named_modules() if known]
        if name not in modules:
            near = difflib.get_close_matches(name, modules, n=1)
            hint = did_you_mean(name, near or [layer.name for layer in table])
            raise RecipeError(f"the network has no layer {name!r}; {hint}")
        given = self._given(_noise(self._window, self._device), name)
        return Layer(name, tuple(given.shape[1:]), -1)

    @torch.no_grad()
    def embed(self, waveforms: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
        """Waveforms `(windows, samples)` → what the layer gives, averaged, `(windows, features)`."""
        given = self._given(torch.from_numpy(waveforms).to(self._device), layer.name)
        vectors: NDArray[np.float32] = averaged(given).float().cpu().numpy()
        return vectors

    @torch.no_grad()
    def _given(self, waveforms: Tensor, name: str) -> Tensor:
        x = self.front_end(waveforms)
        if name in (EMBEDDING, LOGITS):
            out: Tensor = self.model.embed(x) if name == EMBEDDING else self.model(x)
            return out
        return _stopped_at(self.model, name, x)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


class _ReachedError(Exception):
    """Ends a forward pass at the layer that was asked for."""

    def __init__(self, output: Any) -> None:
        self.output = output


def _stopped_at(model: Model, name: str, x: Tensor) -> Tensor:
    """What a module gives on the way to the logits; nothing behind it is computed."""

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        raise _ReachedError(output)

    handle = model.get_submodule(name).register_forward_hook(stop)
    try:
        model(x)
    except _ReachedError as reached:
        output = reached.output
    else:
        raise RecipeError(f"the layer {name} takes no part in an answer; --layers shows those that do")
    finally:
        handle.remove()
    if not isinstance(output, Tensor) or not 2 <= output.ndim <= 4:
        raise RecipeError(f"the layer {name} gives no single map or vector; --layers shows those that do")
    return output


def _steps(model: Model) -> Iterator[str]:
    """Names of what a network is made of: its modules with weights, sequences of blocks taken apart."""

    def apart(name: str, module: nn.Module) -> Iterator[str]:
        children = list(module.named_children())
        sequence = isinstance(module, nn.Sequential | nn.ModuleList)
        if sequence and any(len(list(child.children())) for _, child in children):
            for part, child in children:
                yield from apart(f"{name}.{part}", child)
        elif next(module.parameters(), None) is not None:
            yield name

    for name, module in model.named_children():
        yield from apart(name, module)


def _noise(samples: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (0.1 * torch.randn(1, samples, generator=generator)).to(device)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b)
