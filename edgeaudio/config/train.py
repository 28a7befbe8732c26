"""How long, how fast and by which loss a model learns."""

from __future__ import annotations

from dataclasses import dataclass

from edgeaudio.config.canonical import choice, require

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "linear", "exponential", "restarts", "steps", "constant")
_POSITIVE = ("epochs", "batch_size", "micro_batch", "learning_rate", "restarts", "average_epochs")
_NOT_NEGATIVE = (
    "windows_per_clip", "weight_decay", "warmup_epochs", "final_lr_ratio", "hold_epochs", "decay_epochs",
    "patience", "gradient_clip", "gradient_clip_value", "train_seconds", "device_adversary", "focal_gamma",
)  # fmt: skip


@dataclass(frozen=True)
class TrainSpec:
    """How long, how fast and by which loss a model learns."""

    epochs: int = 60
    """Passes over the training windows."""
    windows_per_clip: int = 0
    """Windows drawn from each clip an epoch; 0 draws as many as the clip holds side by side."""
    train_seconds: float = 0.0
    """Length of a training window where it is longer than one inference; 0 is the same."""
    batch_size: int = 64
    """Windows in one optimiser step, over all processes."""
    micro_batch: int = 32
    """Windows in one forward pass: small enough for the processor's cache; gradients accumulate."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    weight_decay: float = 1e-3
    """Decay of the weights: decoupled with ``adamw``, added to the gradient with ``adam`` and ``sgd``."""
    decay_all: bool = False
    """Biases and normalisation layers decay too; else they are spared."""
    optimizer: str = "adamw"
    """``adamw``, ``adam`` or ``sgd`` (Nesterov)."""
    momentum: float = 0.9
    """Of ``sgd``."""
    amsgrad: bool = False
    """The AMSGrad form of Adam."""
    gradient_clip: float = 0.0
    """Largest norm of the gradient; 0 is off."""
    gradient_clip_value: float = 0.0
    """Largest magnitude of each element of the gradient; 0 is off."""
    schedule: str = "cosine"
    """After the warm-up: ``cosine``, ``linear``, ``exponential``, ``restarts`` (cosine, several times),
    ``steps`` or ``constant``."""
    warmup_epochs: float = 2.0
    """Length of the warm-up; it ends at the peak."""
    warmup: str = "linear"
    """Its form: ``linear``, ``exponential`` (exp(−5·(1 − e/w)²)) or ``constant`` (a tenth of the peak)."""
    hold_epochs: float = 0.0
    """The decay begins this many epochs after the start (or after the warm-up, where that ends later)."""
    decay_epochs: float = 0.0
    """Length of the decay; 0 is to the end of the training. What is left after it runs at the last rate."""
    final_lr_ratio: float = 0.01
    """The decay ends at this share of the peak."""
    restarts: int = 3
    """Number of cycles of ``restarts``."""
    steps: tuple[float, ...] = (0.3, 0.6, 0.9)
    """Shares of the training after which ``steps`` divides the rate by ten."""
    rate_per_epoch: bool = False
    """The rate changes once an epoch; else with every step."""
    ema_decay: float = 0.0
    """Weights are averaged over steps with this memory and the average is what is kept; 0 is off."""
    keep: str = "best"
    """Which weights are kept: ``best`` (lowest validation loss), ``last``, or ``average`` of the
    `average_epochs` best epochs."""
    average_epochs: int = 5
    """Number of epochs that ``average`` averages."""
    patience: int = 0
    """Stop after this many epochs without a lower validation loss; 0 never stops early."""
    loss: str = "cross_entropy"
    """``cross_entropy``, ``bce`` (each class by itself, for several labels a clip) or ``focal``."""
    focal_gamma: float = 2.0
    """How much ``focal`` turns to what is still wrong."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    class_weights: bool = False
    """Weigh each class's hard loss by the inverse of its number of windows."""
    oversample: bool = False
    """Draw every class as often as the largest one."""
    freeze: str = ""
    """What stays as it was in a model that starts from a checkpoint: a number of blocks from the input on, or
    ``convs`` for all but the linear layers of the head; empty freezes nothing."""
    device_adversary: float = 0.0
    """Weight of a head that guesses the device through a reversed gradient; 0 is off."""
    precision: str = "auto"
    """``auto`` (bf16 on an accelerator that has it, float32 on a CPU), ``32`` or ``bf16``."""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            require(getattr(self, name) > 0, f"train: {name} is {getattr(self, name)}; it must be positive")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            require(value >= 0, f"train: {name} is {value}; it must not be negative")
        for name in ("ema_decay", "label_smoothing", "momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, f"train: {name} is {value}; it must lie in [0, 1)")
        choice(self.precision, ("auto", "32", "bf16"), "train: precision")
        choice(self.optimizer, OPTIMIZERS, "train: optimizer")
        choice(self.schedule, SCHEDULES, "train: schedule")
        choice(self.warmup, ("linear", "exponential", "constant"), "train: warmup")
        choice(self.keep, ("best", "last", "average"), "train: keep")
        choice(self.loss, ("cross_entropy", "bce", "focal"), "train: loss")
        require(
            not self.freeze or self.freeze == "convs" or self.freeze.isdigit(),
            f'train: freeze is {self.freeze!r}; use a number of blocks, e.g. "2", or "convs"',
        )
        require(
            all(0 < share < 1 for share in self.steps),
            f"train: steps {list(self.steps)} are shares of the training; they must lie between 0 and 1",
        )
