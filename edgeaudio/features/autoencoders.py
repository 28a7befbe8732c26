"""Autoencoders by name, with the options and the training that each was published with."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from edgeaudio.config import ModelSpec, TrainSpec
from edgeaudio.errors import RecipeError, did_you_mean
from edgeaudio.models.conv_autoencoder import ConvAutoencoder
from edgeaudio.models.joint_autoencoder import JointAutoencoder
from edgeaudio.models.layers import Autoencoder
from edgeaudio.models.recurrent_autoencoder import FrequencyAutoencoder, TimeAutoencoder

AUTOENCODERS: dict[str, type[Autoencoder]] = {
    "t-rae": TimeAutoencoder,
    "f-rae": FrequencyAutoencoder,
    "ft-rae": JointAutoencoder,
    "conv-ae": ConvAutoencoder,
}
"""Name → class; its constructor takes the frames and the bands of a spectrogram, then its options."""

BOUNDED = ("t-rae", "f-rae", "ft-rae")
"""Those that give back values in (−1, 1) only."""
KEEPS_TIME = ("f-rae",)
"""Those whose code is one vector for each frame."""

_RECURRENT: dict[str, Any] = {"optimizer": "adam", "gradient_clip_value": 2.0, "learning_rate": 1e-3}
_CONVOLUTIONAL: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.02, "learning_rate": 2e-3}


def train_defaults(name: str) -> dict[str, Any]:
    """How an autoencoder is trained unless told otherwise: keys of a `TrainSpec`.

    Source: auDeep's Adam with each element of the gradient clipped to [−2, 2]; deep_audio_features' AdamW.
    """
    own = _RECURRENT if name in BOUNDED else _CONVOLUTIONAL
    same = {"epochs": 10, "batch_size": 64, "schedule": "constant", "warmup_epochs": 0.0, "precision": "32"}
    assert set(own) | set(same) <= set(TrainSpec.__dataclass_fields__)
    return {"weight_decay": 0.0, **same, **own}


def options_of(name: str) -> dict[str, Any]:
    """The options of an autoencoder and their defaults, in the order of its constructor.

    Raises:
        RecipeError: the name is not known.
    """
    if name not in AUTOENCODERS:
        raise RecipeError(f"unknown autoencoder {name!r}; {did_you_mean(name, AUTOENCODERS)}")
    parameters = inspect.signature(AUTOENCODERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("frames", "bands")}


def complete(spec: ModelSpec) -> ModelSpec:
    """The autoencoder with all its options, those that were given and those that weren't.

    Raises:
        RecipeError: the name or an option is not known, or a value is of another type.
    """
    known = options_of(spec.name)
    hints = get_type_hints(AUTOENCODERS[spec.name].__init__)
    for option, value in spec.options.items():
        if option not in known:
            raise RecipeError(f"{spec.name} has no option {option!r}; {did_you_mean(option, known)}")
        accepted = {float: (int, float)}.get(hints[option], (hints[option],))
        if type(value) not in accepted:
            raise RecipeError(
                f"{spec.name}: {option} is {value!r}; it must be of type {hints[option].__name__}"
            )
    given = {key: type(known[key])(value) for key, value in spec.options.items()}
    return ModelSpec(spec.name, {**known, **given})


def build(spec: ModelSpec, frames: int, bands: int) -> Autoencoder:
    """A fresh autoencoder, initialised from torch's current random state.

    Args:
        spec: a name of `AUTOENCODERS` and the options of its constructor.
        frames: of a spectrogram.
        bands: of a spectrogram.

    Raises:
        RecipeError: the name or an option is not known, or a value is impossible.
    """
    options = complete(spec).options
    try:
        return AUTOENCODERS[spec.name](frames, bands, **options)
    except ValueError as error:  # the architectures know nothing of ours, not even its errors
        raise RecipeError(f"{spec.name}: {error}") from error
