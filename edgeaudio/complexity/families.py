"""What may vary in each architecture while a rule set is filled, and between which values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MELS = (0.5, 1.0, 2.0)  # of the recipe's own number
MOST_MELS = 256  # more only where the recipe has more
HOPS = (1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Family:
    """What may vary in an architecture."""

    width: str
    """The option that makes all layers wider; more of it never costs less."""
    widths: tuple[Any, ...]
    """Its values, rising."""
    others: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Further options and their values; each combination gets its own width."""
    with_width: tuple[str, ...] = ()
    """Options that take the value of `width`, too."""
    scaled: bool = False
    """The widths are factors on a list of channels."""
    follow: bool = False
    """The options ``mels`` and ``frames``, where there are any, follow the front end."""


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(round(first + i * step, 4) for i in range(round((last - first) / step) + 1))


_PANNS = Family(
    "width", tuple(n / 64 for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)), follow=True
)

FAMILIES: dict[str, Family] = {
    "acdnet": Family("channels", _steps(0.25, 4, 0.125), scaled=True),
    "bc_resnet": Family("tau", _steps(0.5, 8, 0.25)),
    "cnn10": _PANNS,
    "cnn14": _PANNS,
    "cnn6": _PANNS,
    "cp_mobile": Family(
        "base_channels",
        tuple(range(8, 65, 4)),
        {
            "channels_multiplier": (1.5, 1.8, 2.3),
            "expansion_rate": (2.0, 2.5, 3.0),
            "n_blocks": ([2, 1, 1], [3, 2, 1], [3, 2, 2]),
        },
    ),
    "cp_resnet": Family(
        "base_channels", tuple(range(8, 65, 4)), {"rho": (4, 6, 8, 10), "cut_channels_s3": (36, 18, 0)}
    ),
    "daf_cnn": Family("first_channels", tuple(range(1, 33)), follow=True),
    "dymn": Family("width", _steps(0.1, 2, 0.1)),
    "mobileast": Family(
        "c1",
        tuple(range(16, 129, 8)),
        {"dim": (16, 32, 48), "depth": (1, 2, 4), "cout": (96, 160, 216)},
        with_width=("c2",),
    ),
    "mobilenet": Family("width", _steps(0.1, 2, 0.1)),
    "yamnet": Family("width", (64, 128, 256, 512, 1024)),
}
"""Architecture → what may vary in it. The front end varies, too: mels and hop, by `MELS` and `HOPS`."""
