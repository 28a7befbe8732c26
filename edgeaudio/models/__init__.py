"""Architectures by name; a model is an `nn.Module` without a role.

Every model takes a log-mel `(batch, 1, mels, frames)` (a network on the waveform `(batch, 1, 1, samples)`),
answers logits `(batch, classes)`, and has ``embed``, which stops before the classifier and answers
`(batch, features)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.models.acdnet import ACDNet
from edgeaudio.models.bc_resnet import BCResNet
from edgeaudio.models.cp_mobile import CPMobile
from edgeaudio.models.cp_resnet import CPResNet
from edgeaudio.models.daf_cnn import DafCNN
from edgeaudio.models.dymn import DyMN
from edgeaudio.models.layers import Model
from edgeaudio.models.mobileast import MobileAST
from edgeaudio.models.mobilenet import MobileNet
from edgeaudio.models.panns import Cnn6, Cnn10, Cnn14
from edgeaudio.models.passt import PaSST
from edgeaudio.models.published import fit_checkpoint, load_published
from edgeaudio.models.timm_backbone import TimmBackbone
from edgeaudio.models.yamnet import YAMNet

__all__ = ["MODELS", "Model", "build", "fit_checkpoint", "load_published", "model_options"]

MODELS: dict[str, Callable[..., Model]] = {
    "acdnet": ACDNet,
    "bc_resnet": BCResNet,
    "cnn10": Cnn10,
    "cnn14": Cnn14,
    "cnn6": Cnn6,
    "cp_mobile": CPMobile,
    "cp_resnet": CPResNet,
    "daf_cnn": DafCNN,
    "dymn": DyMN,
    "mobileast": MobileAST,
    "mobilenet": MobileNet,
    "passt": PaSST,
    "timm": TimmBackbone,
    "yamnet": YAMNet,
}
"""Name in a recipe → class; its constructor takes the number of classes, then its options by keyword."""


def build(name: str, classes: int, **options: Any) -> Model:
    """A fresh model, initialised from torch's current random state.

    Args:
        name: a key of `MODELS`.
        classes: number of logits.
        options: keyword arguments of the architecture, as a recipe's ``[model]`` table gives them.

    Raises:
        RecipeError: the name or an option is not known, or a value is impossible.
    """
    if name not in MODELS:
        raise RecipeError(f"unknown model {name!r}; {did_you_mean(str(name), MODELS)}")
    if type(classes) is not int or classes < 1:
        raise RecipeError(f"model {name}: classes is {classes!r}; it must be a whole number from 1")
    cls = MODELS[name]
    hints = get_type_hints(cls.__init__)
    known = model_options(name)
    for option, value in options.items():
        if option not in known:
            raise RecipeError(f"model {name}: unknown option {option!r}; {did_you_mean(option, known)}")
        _check_scalar(value, hints[option], f"model {name}: {option}")
    try:
        return cls(classes, **options)
    except ValueError as error:  # the architectures know nothing of ours, not even its errors
        raise RecipeError(f"model {name}: {error}") from error


def model_options(name: str) -> dict[str, Any]:
    """The options of an architecture and their defaults, in the order of its constructor."""
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "classes"}


def _check_scalar(value: Any, hint: Any, where: str) -> None:
    """Numbers, switches and words are checked here; the architectures check their own lists and tables."""
    accepted = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}.get(hint)
    if accepted and type(value) not in accepted:
        raise RecipeError(f"{where} is {value!r}; it must be of type {hint.__name__}")
