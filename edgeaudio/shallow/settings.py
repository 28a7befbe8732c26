"""Which learner, and how it learns; plain values that a manifest can hold."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from edgeaudio.errors import RecipeError, did_you_mean

LEARNERS = {
    "svm": "linear support vector machine",
    "rbf": "support vector machine with a Gaussian kernel, found by a grid search",
    "mlp": "multilayer perceptron",
    "logistic": "logistic regression",
}
"""Name → what it is."""
SCORES = {
    "svm": "softmax of the signed margins, one class against all others; an order, not calibrated",
    "rbf": "softmax of the signed margins, one class against all others; an order, not calibrated",
    "mlp": "the network's softmax",
    "logistic": "the model's class probabilities",
}
"""Learner → what its scores mean; all lie in 0 … 1 and sum to 1."""
_COMPLEXITY = {"svm": (0.1,), "logistic": (1.0,), "rbf": tuple(10.0**i for i in range(-3, 4)), "mlp": ()}
_GRID_ONLY, _NETWORK_ONLY = ("gamma", "inner_folds", "inner_repeats"), ("layers", "units", "epochs")


@dataclass(frozen=True)
class LearnerSpec:
    """A learner with its settings; those of other learners are not looked at.

    Raises:
        RecipeError: an unknown learner or an impossible value.
    """

    learner: str = "svm"
    """One of `LEARNERS`."""
    complexity: tuple[float, ...] = ()
    """C of `svm` and `logistic`: how much a mistake costs against a simple model; for `rbf` the values that
    are tried. Empty: 0.1, 1, and 0.001 … 1000."""
    gamma: tuple[float | str, ...] = ("auto", 1e-3, 1e-4, 1e-5, 1e-6)
    """Widths of the Gaussian kernel that `rbf` tries; ``auto`` is one over the number of features."""
    inner_folds: int = 5
    """Folds within the training part over which `rbf` is chosen; fewer where a class has fewer sounds."""
    inner_repeats: int = 3
    """How often those are drawn anew."""
    layers: int = 2
    """Hidden layers of `mlp`."""
    units: int = 150
    """Units of each hidden layer."""
    epochs: int = 400
    """Steps of `mlp`; each is on the whole training part."""
    learning_rate: float = 1e-3
    """Of Adam."""
    pca: int | None = None
    """Principal components that are kept, no more than the training part has; None keeps the features."""

    def __post_init__(self) -> None:
        if self.learner not in LEARNERS:
            raise RecipeError(f"unknown learner {self.learner!r}; {did_you_mean(self.learner, LEARNERS)}")
        if not self.complexity:
            object.__setattr__(self, "complexity", _COMPLEXITY[self.learner])
        if self.learner in ("svm", "logistic") and len(self.complexity) != 1:
            raise RecipeError(
                f"{self.learner} takes one complexity, not {len(self.complexity)}; only rbf tries several"
            )
        for name, least in (
            ("inner_folds", 2),
            ("inner_repeats", 1),
            ("layers", 1),
            ("units", 1),
            ("epochs", 1),
        ):
            if getattr(self, name) < least:
                raise RecipeError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        positive = [*self.complexity, self.learning_rate, *(g for g in self.gamma if not isinstance(g, str))]
        if any(not 0 < value < float("inf") for value in positive):
            raise RecipeError("complexity, gamma and learning_rate must be above 0")
        if self.learner == "rbf" and not self.gamma:
            raise RecipeError("rbf needs at least one gamma, e.g. auto")
        if words := [g for g in self.gamma if isinstance(g, str) and g not in ("auto", "scale")]:
            raise RecipeError(f"gamma is {words[0]!r}; give numbers, auto or scale")
        if self.pca is not None and self.pca < 1:
            raise RecipeError(f"pca is {self.pca}; it must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """The settings that this learner looks at, as plain JSON values."""
        unused: tuple[str, ...] = () if self.learner == "rbf" else _GRID_ONLY
        if self.learner != "mlp":
            unused = (*unused, *_NETWORK_ONLY, "learning_rate")
        else:
            unused = (*unused, "complexity")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in unused}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
