"""Any image network of timm, hearing the log-mel as a picture; weights start at random.

Source: the BirdCLEF 2021 second place (Henkel et al.) and cvkit's sound classification use it with
generalised-mean pooling; timm is https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import importlib
import math
import sys
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgeaudio.models.layers import GeM, Model, global_average

POOLINGS = ("gem", "avg")
MISSING_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # torch forgets a declaration with its Library


class TimmBackbone(Model):
    """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`.

    A timm network without its classifier, a pooling over its feature map and one dense layer. Entries are
    those of the published recipe: ``backbone.``, ``gem.p`` and ``head1.``.
    """

    head = ("head1.",)
    foreign = tuple(
        prefix + part for prefix in ("", "model.") for part in ("mel_spec.", "amplitude_to_db.", "wav2img.")
    )

    @classmethod
    def renamed(cls, entries: dict[str, Tensor]) -> dict[str, Tensor]:
        """The published training stores the network as ``model`` of a Lightning module."""
        return {key.removeprefix("model."): value for key, value in entries.items()}

    def __init__(
        self,
        classes: int,
        *,
        backbone: str = "seresnext26t_32x4d",
        pooling: str = "gem",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        frames_first: bool = False,
        in_channels: int = 1,
        part_frames: int = 0,
    ) -> None:
        """Build the network; nothing is downloaded.

        Args:
            classes: number of logits.
            backbone: a name of ``timm.list_models()`` whose network answers a feature map.
            pooling: ``gem``, a generalised mean with a learnt exponent that starts at 3, or ``avg``.
            drop_rate: dropout inside the backbone, where it has any; the published recipe has 0.5.
            drop_path_rate: probability of dropping a residual branch; the published recipe has 0.5.
            frames_first: show the picture with time running down, as weights of the published recipe want it.
            in_channels: channels of the log-mel.
            part_frames: length of the pieces that a log-mel of two of them or more is cut into before the
                backbone, whose maps are joined again behind it; 0 gives it whole. Training items of 30 s are
                then mixed whole, and the backbone sees pieces as long as an inference.

        Raises:
            ValueError: timm isn't installed, doesn't know the backbone, or an option has an impossible value.
        """
        super().__init__()
        _check(pooling, drop_rate, drop_path_rate, in_channels)
        if part_frames < 0:
            raise ValueError(f"part_frames is {part_frames}; use 0 or more")
        options = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "in_chans": in_channels}
        self.name, self.frames_first, self.part_frames = backbone, frames_first, part_frames
        # not every network knows every kind of dropout, so zeros aren't passed on
        self.backbone = _create(backbone, {name: value for name, value in options.items() if value})
        self.first_weights = _first_weights(self.backbone)  # type: ignore[misc]  # each backbone has its own
        channels, self.shrinks = _measure(self.backbone, backbone, in_channels)
        self.gem = GeM(3.0, eps=1e-6) if pooling == "gem" else None
        self.head1 = nn.Linear(channels, classes)

    def features(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → feature map `(batch, channels, frequency, time)`.

        Raises:
            ValueError: the log-mel is smaller than one position of the feature map.
        """
        mels, frames = x.shape[2:]
        if min(mels, frames) < self.shrinks:
            raise ValueError(
                f"the log-mel is {mels} × {frames} (mels × frames), but {self.name} shrinks its picture "
                f"{self.shrinks} times; give it at least {self.shrinks} × {self.shrinks}"
            )
        parts = frames // self.part_frames if self.part_frames else 1
        if parts > 1:
            return self._joined(x, parts)
        return self._map(x)

    def _joined(self, x: Tensor, parts: int) -> Tensor:
        """The maps of `parts` pieces of equal length, side by side in time; a remainder is left out."""
        pieces = x[..., : parts * self.part_frames].chunk(parts, dim=3)
        maps = self._map(torch.cat(pieces))
        return torch.cat(maps.chunk(parts), dim=3)

    def _map(self, x: Tensor) -> Tensor:
        if not self.frames_first:
            return cast(Tensor, self.backbone(x))
        return cast(Tensor, self.backbone(x.transpose(2, 3))).transpose(2, 3)

    def embed(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → pooled feature map `(batch, features)`."""
        features = self.features(x)
        pooled: Tensor = global_average(features) if self.gem is None else self.gem(features)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Log-mel `(batch, in_channels, mels, frames)` → logits `(batch, classes)`."""
        logits: Tensor = self.head1(self.embed(x))
        return logits


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    timm = _timm()
    if not timm.is_model(name):
        like = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise ValueError(f"timm knows no backbone {name!r}; it has {', '.join(like) or 'timm.list_models()'}")
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ValueError(f"timm can't build {name} with {options} and a feature map: {error}") from error
    return cast(nn.Module, network)


def _timm() -> ModuleType:
    """timm; raises ValueError where it is not installed."""
    try:
        return _import_timm()
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed; pip install 'edgeaudio[timm]' for image networks"
        ) from error


def _import_timm() -> ModuleType:
    """Import timm, even where torchvision's compiled operators can't be loaded.

    torchvision registers gradients and shapes for ``nms`` as it is imported, which fails unless the operator
    has been declared. timm needs none of torchvision's operators, so a declaration alone is enough.
    """
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in MISSING_SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("timm")


def _measure(network: nn.Module, name: str, in_channels: int) -> tuple[int, int]:
    """Channels of the feature map, and how many times smaller its sides are than the picture's.

    Networks say neither in one common way, so this looks at a blank picture of the size they were made for.
    """
    _, height, width = network.pretrained_cfg["input_size"]  # type: ignore[index]
    with torch.no_grad():
        shape = network.eval()(torch.zeros(1, in_channels, height, width)).shape
    network.train()
    if len(shape) != 4 or shape[1] not in (network.num_features, network.head_hidden_size):
        raise ValueError(
            f"{name} answers features {tuple(shape[1:])}, not a map (channels, frequency, time); "
            "choose a convolutional backbone"
        )
    return int(shape[1]), math.ceil(height / shape[2])


def _first_weights(network: nn.Module) -> tuple[str, ...]:
    """Entries that read the picture; timm knows their layers, one or several."""
    layers = network.pretrained_cfg["first_conv"]  # type: ignore[index]
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    return tuple(f"backbone.{layer}.weight" for layer in layers)


def _check(pooling: str, drop_rate: float, drop_path_rate: float, in_channels: int) -> None:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; it must be one of {', '.join(POOLINGS)}")
    for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
        if not 0 <= rate < 1:
            raise ValueError(f"{name} is {rate}; it must be at least 0 and below 1")
    if in_channels < 1:
        raise ValueError(f"in_channels is {in_channels}; it must be at least 1")
