"""How a student listens to its teachers."""

from __future__ import annotations

from dataclasses import dataclass

from edgeaudio.config.canonical import choice, require


@dataclass(frozen=True)
class DistillSpec:
    """How a student listens to its teachers."""

    temperature: float = 2.0
    """Softens teacher and student alike."""
    hard_label_weight: float = 0.1
    """λ of λ·hard loss + soft_weight·soft loss; the hard one is ``train.loss``."""
    soft_weight: float | None = None
    """Weight of the soft loss; None is 1 − λ."""
    loss: str = "kl"
    """The soft loss: ``kl``, or ``dkd`` for decoupled distillation (wants the classes' own labels)."""
    normalisation: str = "batch"
    """Of the KL: ``batch`` sums over classes and averages over the batch, ``elements`` averages over both."""
    temperature_squared: bool = True
    """Multiply the soft loss by T², which keeps the gradient's size when T changes."""
    dkd_alpha: float = 1.0
    """Weight of the target class's part of ``dkd``."""
    dkd_beta: float = 8.0
    """Weight of the other classes' part of ``dkd``."""
    teacher_mode: str = "cached"
    """``cached``: the teachers' logits, stored once; ``live``: their answers to the very view that the
    student hears, which costs a pass through each teacher a step."""
    views: int = 0
    """With ``cached``: epochs whose augmented views are answered and stored; training goes through them in
    turn. 0 stores the answers to the untouched windows instead, and mixes them as the windows are mixed."""
    fusion: str = "mean"
    """How several teachers' logits become one: ``mean``, ``weighted`` (by `teacher_weights`) or ``learned``
    (weights that are best on the validation clips)."""
    teacher_weights: tuple[float, ...] = ()
    """One for each teacher, for ``weighted``; they are scaled to a sum of 1."""
    features: str = "none"
    """What else is matched: ``attention`` (where the last feature maps are strong) or ``relational``
    (distances and angles between the embeddings of a batch); both need ``live``."""
    feature_weight: float = 1.0
    """Weight of that."""

    def __post_init__(self) -> None:
        choice(self.teacher_mode, ("cached", "live"), "distill: teacher_mode")
        choice(self.loss, ("kl", "dkd"), "distill: loss")
        choice(self.normalisation, ("batch", "elements"), "distill: normalisation")
        choice(self.fusion, ("mean", "weighted", "learned"), "distill: fusion")
        choice(self.features, ("none", "attention", "relational"), "distill: features")
        require(self.temperature > 0, f"distill: temperature is {self.temperature}; it must be positive")
        require(
            0 <= self.hard_label_weight <= 1,
            f"distill: hard_label_weight is {self.hard_label_weight}; it must lie between 0 and 1",
        )
        for name in ("soft_weight", "dkd_alpha", "dkd_beta", "views", "feature_weight"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"distill: {name} is {value}; it must not be negative")
        require(
            not self.views or self.teacher_mode == "cached",
            f"distill: views is {self.views}, but live teachers answer every epoch anew; set views = 0 "
            'or teacher_mode = "cached"',
        )
        require(
            self.features == "none" or self.teacher_mode == "live",
            f"distill: features = {self.features!r} needs the teachers' feature maps; "
            'set teacher_mode = "live"',
        )
        weights = self.teacher_weights
        require(
            (self.fusion == "weighted") == bool(weights),
            'distill: teacher_weights and fusion = "weighted" belong together; set both or neither',
        )
        require(
            min(weights, default=0) >= 0 and (not weights or sum(weights) > 0),
            f"distill: teacher_weights {list(weights)} must not be negative, nor all zero",
        )

    @property
    def soft(self) -> float:
        """Weight of the soft loss."""
        return 1 - self.hard_label_weight if self.soft_weight is None else self.soft_weight
