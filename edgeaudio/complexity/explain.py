"""Why the official count and the true one differ, cause by cause."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from edgeaudio.complexity.count import Count

UNSEEN = "products outside of layers (attention, functional convolutions), which officially cost nothing"
TOKENS = "linear layers, which officially run for one token of each clip"
NORMS = (
    "normalisation, which officially costs two a channel (in truth it folds away or multiplies no weights)"
)
BIASES = "convolutions, whose biases officially multiply at every position"
OTHERS = "other layers"


@dataclass(frozen=True)
class Difference:
    """One cause, and what it adds to the official count."""

    cause: str
    """In words, ready for a sentence."""
    macs: int
    """True minus official multiply-accumulates."""
    layers: tuple[str, ...]
    """Names of the layers, the costliest first."""

    def __str__(self) -> str:
        return f"{self.macs / 1e6:+,.3f} M: {self.cause}"


def differences(official: Count, true: Count) -> list[Difference]:
    """All causes, the largest first; their sum is exactly the difference of the two counts.

    Args:
        official: by `official.official`.
        true: by `true.true`, of the same model at the same input.
    """
    officially: dict[str, int] = defaultdict(int)
    kinds: dict[str, str] = {}
    for layer in official.layers:
        officially[layer.name] += layer.macs
        kinds[layer.name] = layer.kind
    truly: dict[str, int] = defaultdict(int)
    for layer in true.layers:
        truly[layer.name] += layer.macs
    parts: dict[str, dict[str, int]] = defaultdict(dict)
    for name in dict.fromkeys((*officially, *truly)):
        if change := truly[name] - officially[name]:
            parts[_cause(kinds.get(name))][name] = change
    found = [
        Difference(cause, sum(layers.values()), tuple(sorted(layers, key=lambda name: -abs(layers[name]))))
        for cause, layers in parts.items()
    ]
    return sorted(found, key=lambda difference: -abs(difference.macs))


def _cause(kind: str | None) -> str:
    """`kind` is the class of the layer, or None where the official counter saw none."""
    if kind is None:
        return UNSEEN
    if "Norm" in kind:
        return NORMS
    if "Conv" in kind:
        return BIASES
    return TOKENS if "Linear" in kind else OTHERS
