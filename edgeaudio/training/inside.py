"""MixStyle between the layers of a network, while it learns."""

from __future__ import annotations

import difflib
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgeaudio.config import AugmentSpec
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.models.domain import MixStyle


def mixstyle_inside(model: nn.Module, spec: AugmentSpec) -> list[RemovableHandle]:
    """Let channel-wise MixStyle act on the feature maps that some layers give.

    Each layer tosses a coin of its own for every forward pass in which it is in training mode. All draws come
    from torch's global generator.

    Args:
        model: its layers are found by their names in `named_modules`.
        spec: `mixstyle_layers`, and `mixstyle_p` and `mixstyle_alpha` of each.

    Returns:
        The hooks' handles; removing them leaves the model as it was.

    Raises:
        RecipeError: there is no such layer, or, in the first forward pass, it gives no feature map.
    """
    layers = dict(model.named_modules())
    handles = []
    for name in spec.mixstyle_layers if spec.mixstyle_p else ():
        if not name or name not in layers:
            raise RecipeError(
                f"augment.mixstyle_layers names {name!r}, a layer that {type(model).__name__} doesn't have; "
                + _meant(name, model)
            )
        style = MixStyle(spec.mixstyle_p, spec.mixstyle_alpha)
        handles.append(layers[name].register_forward_hook(_Mixing(name, style)))
    return handles


def _meant(name: str, model: nn.Module) -> str:
    # all layers may be hundreds: only those of the top are listed where none is near
    near = difflib.get_close_matches(name, [known for known, _ in model.named_modules()], n=1)
    return did_you_mean(name, near or [known for known, _ in model.named_children()])


class _Mixing:
    """The hook; an object rather than a closure, so that a model with it can be copied and pickled."""

    def __init__(self, name: str, style: MixStyle) -> None:
        self.name, self.style = name, style

    def __call__(self, layer: nn.Module, _: Any, output: Any) -> Tensor | None:
        if not layer.training:
            return None
        if not isinstance(output, Tensor) or output.dim() != 4:
            what = f"gives {tuple(output.shape)}" if isinstance(output, Tensor) else "gives no single tensor"
            raise RecipeError(
                f"augment.mixstyle_layers: {self.name} {what}, not a feature map "
                "(batch, channels, frequency, time); name a layer that does"
            )
        mixed: Tensor = self.style(output)
        return mixed
