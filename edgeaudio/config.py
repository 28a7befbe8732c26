"""Every decision as a frozen dataclass, a sentence under each field.

A recipe says which model, seen through which front end, trained how. Architectures have no role:
the same recipe can be a teacher in one job and a student in another. `recipes.py` reads them from TOML.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeaudio.errors import RecipeError, did_you_mean


def content_hash(value: Any) -> str:
    """SHA-256 of anything made of dataclasses, dicts, lists, strings and numbers."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, dataclasses as objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no canonical form")


def require(condition: bool, sentence: str) -> None:
    """Raise a `RecipeError` with the sentence unless the condition holds."""
    if not condition:
        raise RecipeError(sentence)


def _choice(value: str, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise RecipeError(f"{what} is {value!r}; {did_you_mean(str(value), known)}")


_FRONT_END_CHOICES = {
    "kind": ("log_mel", "waveform"),
    "window": ("hann", "hann_symmetric", "hamming", "povey"),
    "mel_scale": ("htk", "slaney", "kaldi"),
    "mel_norm": ("none", "slaney"),
    "log": ("ln", "log10", "db", "none"),
}


@dataclass(frozen=True)
class FrontEndSpec:
    """Waveform `(batch, samples)` → log-mel `(batch, 1, mels, frames)`, fully described.

    The log-mel is ``(log(power-mel with offset or floor) + shift) * scale``, squared on request. For networks
    that hear the waveform itself, ``kind = "waveform"`` passes it on as `(batch, 1, 1, samples)`.
    """

    sample_rate: int = 32000
    """Hz."""
    n_fft: int = 4096
    """DFT length in samples."""
    win_length: int = 3072
    """Window length in samples; centred in the DFT and zero-padded to ``n_fft``."""
    hop_length: int = 500
    """Samples between frames."""
    n_mels: int = 256
    """Mel bands."""
    fmin: float = 0.0
    """Lowest mel edge in Hz."""
    fmax: float = 16000.0
    """Highest mel edge in Hz."""
    window: str = "hann"
    """``hann`` (periodic), ``hann_symmetric``, ``hamming`` (periodic) or ``povey`` (Kaldi's)."""
    mel_scale: str = "htk"
    """``htk`` or ``slaney`` (triangles linear in Hz), or ``kaldi`` (triangles linear in mel)."""
    mel_norm: str = "none"
    """``none``, or ``slaney`` for triangles of equal area."""
    log: str = "ln"
    """``ln``, ``log10``, ``db`` (10·log10) or ``none`` (the mel power itself)."""
    log_offset: float = 1e-5
    """Added to the mel power before the logarithm."""
    log_floor: float = 0.0
    """The mel power is lifted to at least this before the logarithm."""
    shift: float = 0.0
    """Added after the logarithm."""
    scale: float = 1.0
    """Multiplied after the shift."""
    squared: bool = False
    """Square the result (the BirdCLEF front end)."""
    pre_emphasis: float = 0.0
    """Coefficient a of y[n] = x[n+1] − a·x[n] over the whole signal (one sample shorter); 0 is off."""
    center: bool = True
    """Reflect-pad by half a DFT so that frame t is centred on sample t·hop; else only whole windows."""
    frame_pre_emphasis: float = 0.0
    """Kaldi's pre-emphasis inside each frame, y[n] = x[n] − a·x[max(n−1, 0)]; 0 is off."""
    remove_dc: bool = False
    """Subtract each frame's mean before anything else (Kaldi)."""
    power: float = 2.0
    """Exponent of the magnitude spectrum: 2 is the power, 1 the magnitude (YAMNet)."""
    kind: str = "log_mel"
    """``log_mel``, or ``waveform``: no transform at all."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if item.type == "float":  # 8000 and 8000.0 are one front end and must have one hash
                object.__setattr__(self, item.name, float(getattr(self, item.name)))
        for name, known in _FRONT_END_CHOICES.items():
            _choice(getattr(self, name), known, f"front end: {name}")
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            require(
                getattr(self, name) > 0, f"front end: {name} is {getattr(self, name)}; it must be positive"
            )
        if self.kind == "waveform":
            require(
                (self.n_mels, self.hop_length, self.win_length, self.center) == (1, 1, 1, False),
                'front end: a waveform has no mels, hops or windows; start from preset = "waveform"',
            )
            return
        require(self.power in (1, 2), f"front end: power is {self.power:g}; use 2 (power) or 1 (magnitude)")
        require(
            self.win_length <= self.n_fft,
            f"front end: win_length {self.win_length} is longer than n_fft {self.n_fft}; raise n_fft",
        )
        require(
            0 <= self.fmin < self.fmax <= self.sample_rate / 2,
            f"front end: mel edges {self.fmin}–{self.fmax} Hz must rise and stay below "
            f"half the sample rate ({self.sample_rate / 2:g} Hz)",
        )
        require(
            self.log == "none" or self.log_offset > 0 or self.log_floor > 0,
            "front end: log_offset and log_floor are both 0: silence would be minus infinity; set one",
        )

    def frames(self, samples: int) -> int:
        """Number of frames for a waveform of that many samples."""
        samples -= 1 if self.pre_emphasis else 0
        if self.center:
            return samples // self.hop_length + 1
        return max(0, (samples - self.win_length) // self.hop_length + 1)

    @property
    def sentence(self) -> str:
        """What it does, in a few words for cards and tables."""
        if self.kind == "waveform":
            return "none: the network hears the waveform"
        return (
            f"{self.n_mels} {self.mel_scale} mels, {self.fmin:g}–{self.fmax:g} Hz, DFT {self.n_fft}, "
            f"window {self.win_length}, hop {self.hop_length}"
        )

    @property
    def hash(self) -> str:
        """Twelve hex digits that name this front end; stored in every bundle."""
        # A field at its default is left out: a later field then leaves the hashes of older bundles alone.
        # So a default must never change.
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return content_hash({k: v for k, v in told.items() if v != getattr(type(self), k)})[:12]


@dataclass(frozen=True)
class ModelSpec:
    """An architecture by name, with the options of its constructor."""

    name: str
    """A name that ``edgeaudio.models.build`` knows."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the architecture; checked when it is built."""


@dataclass(frozen=True)
class AugmentSpec:
    """What is done to a training batch; every draw comes from the job's seed."""

    mixup_alpha: float = 0.3
    """Beta parameter of mixup; 0 is off."""
    mixup_p: float = 1.0
    """Share of batches that are mixed."""
    freq_mixstyle_p: float = 0.4
    """Share of batches whose frequency-wise statistics are mixed."""
    freq_mixstyle_alpha: float = 0.3
    """Beta parameter of freq-MixStyle."""
    roll_seconds: float = 0.125
    """Largest circular shift in time, either way."""
    gain_db: float = 0.0
    """Largest change of level, either way."""
    freq_mask: int = 0
    """Widest band of mels that is blanked in each window; 0 is off."""

    def __post_init__(self) -> None:
        for name in ("mixup_p", "freq_mixstyle_p"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augment: {name} is {value}; it must lie between 0 and 1")
        for name in ("mixup_alpha", "freq_mixstyle_alpha", "roll_seconds", "gain_db", "freq_mask"):
            value = getattr(self, name)
            require(value >= 0, f"augment: {name} is {value}; it must not be negative")
        require(
            self.freq_mixstyle_alpha > 0 or not self.freq_mixstyle_p,
            "augment: freq_mixstyle_alpha is 0; set freq_mixstyle_p to 0 to turn freq-MixStyle off",
        )


@dataclass(frozen=True)
class TrainSpec:
    """How long and how fast a model learns."""

    epochs: int = 60
    """Passes over the training windows."""
    windows_per_clip: int = 0
    """Windows drawn from each clip an epoch; 0 draws as many as the clip holds side by side."""
    batch_size: int = 64
    """Windows in one optimiser step."""
    micro_batch: int = 32
    """Windows in one forward pass: small enough for the processor's cache; gradients accumulate."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    weight_decay: float = 1e-3
    """AdamW's decoupled decay; biases and normalisation layers are spared."""
    warmup_epochs: float = 2.0
    """Linear rise from 0 to the peak."""
    final_lr_ratio: float = 0.01
    """The cosine decay ends at this share of the peak."""
    ema_decay: float = 0.0
    """Weights are averaged over steps with this memory and the average is what is kept; 0 is off."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    precision: str = "auto"
    """``auto`` (bf16 on an accelerator that has it, float32 on a CPU), ``32`` or ``bf16``."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch"):
            require(getattr(self, name) > 0, f"train: {name} is {getattr(self, name)}; it must be positive")
        require(
            self.windows_per_clip >= 0, f"train: windows_per_clip is {self.windows_per_clip}; use 0 or more"
        )
        for name in ("weight_decay", "warmup_epochs", "final_lr_ratio"):
            require(
                getattr(self, name) >= 0, f"train: {name} is {getattr(self, name)}; it must not be negative"
            )
        require(self.learning_rate > 0, f"train: learning_rate is {self.learning_rate}; it must be positive")
        require(0 <= self.ema_decay < 1, f"train: ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        require(
            0 <= self.label_smoothing < 1, f"train: label_smoothing {self.label_smoothing} is not in [0, 1)"
        )
        _choice(self.precision, ("auto", "32", "bf16"), "train: precision")


@dataclass(frozen=True)
class DistillSpec:
    """How a student listens to its teachers."""

    temperature: float = 2.0
    """Softens teacher and student alike; the soft loss is multiplied by its square."""
    hard_label_weight: float = 0.1
    """λ of λ·cross-entropy + (1 − λ)·T²·KL."""
    teacher_mode: str = "cached"
    """``cached``: the teachers' logits for the untouched windows, stored once; ``live``: their answers to the
    very view that the student hears, which costs a pass through each teacher a step."""

    def __post_init__(self) -> None:
        _choice(self.teacher_mode, ("cached", "live"), "distill: teacher_mode")
        require(self.temperature > 0, f"distill: temperature is {self.temperature}; it must be positive")
        require(
            0 <= self.hard_label_weight <= 1,
            f"distill: hard_label_weight is {self.hard_label_weight}; it must lie between 0 and 1",
        )


@dataclass(frozen=True)
class PruneSpec:
    """How filters are taken out of the trained student for good, until it fits a rule set."""

    limits: str | None = None
    """Rule set, by name or path, that it is pruned to; None prunes nothing."""
    steps: int = 4
    """Equal parts of the way there; the student trains on after each."""
    epochs: int = 8
    """Passes over the training windows after each step."""
    learning_rate_share: float = 0.3
    """Peak of each step's schedule, as a share of the recipe's."""
    importance: str = "l2"
    """Of a filter and all that hangs on it: ``l2`` or ``l1`` (size of the weights), or ``batch_norm`` (scales
    of the batch norms alone)."""
    round_to: int = 8
    """Widths become multiples of this, as runtimes like them; a layer keeps at least as many filters."""
    spared: tuple[str, ...] = ()
    """Layers, or prefixes of their names, that keep all their filters."""

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "round_to"):
            require(getattr(self, name) > 0, f"prune: {name} is {getattr(self, name)}; it must be positive")
        share = self.learning_rate_share
        require(share > 0, f"prune: learning_rate_share is {share}; it must be positive")
        _choice(self.importance, ("l2", "l1", "batch_norm"), "prune: importance")


@dataclass(frozen=True)
class Recipe:
    """One model, its front end and its training: what a file under `teachers/` or `students/` holds."""

    name: str
    """The file's name without its ending."""
    model: ModelSpec
    """The architecture."""
    summary: str = ""
    """One line for tables."""
    source: str = ""
    """The paper or report behind it."""
    licence: str = ""
    """Of the weights that its authors publish; empty where there are none."""
    frontend: FrontEndSpec = FrontEndSpec()
    """What the model hears."""
    window_seconds: float = 1.0
    """Length of one inference."""
    weights: str = ""
    """Checkpoint that training starts from: a name of the catalogue or a path; empty is a fresh start."""
    train: TrainSpec = TrainSpec()
    augment: AugmentSpec = AugmentSpec()
    distill: DistillSpec = DistillSpec()

    def __post_init__(self) -> None:
        require(
            self.window_seconds > 0,
            f"{self.name}: window_seconds is {self.window_seconds}; it must be positive",
        )
        require(
            self.augment.freq_mask <= self.frontend.n_mels,
            f"{self.name}: augment.freq_mask {self.augment.freq_mask} is wider than the "
            f"{self.frontend.n_mels} mels of the front end",
        )
        spec = self.frontend
        has_level = spec.kind == "waveform" or (spec.log != "none" and not spec.squared)
        require(
            has_level or not self.augment.gain_db,
            f"{self.name}: augment.gain_db needs a plain logarithm or the waveform; set it to 0",
        )

    @property
    def window_samples(self) -> int:
        """Samples in one inference."""
        return round(self.window_seconds * self.frontend.sample_rate)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one log-mel, `(1, 1, mels, frames)`."""
        return self._shape(self.window_seconds)

    @property
    def counted_shape(self) -> tuple[int, int, int, int]:
        """The log-mel that limits are held against: one second of sound, or the window where it is longer.

        The rules mean one second, so a shorter window must not look cheaper.
        """
        return self._shape(max(1.0, self.window_seconds))

    def _shape(self, seconds: float) -> tuple[int, int, int, int]:
        samples = round(seconds * self.frontend.sample_rate)
        return (1, 1, self.frontend.n_mels, self.frontend.frames(samples))


STAGES = (
    "data", "teacher", "logits", "student", "prune", "export", "quantize", "measure", "bundle", "target",
)  # fmt: skip
"""What a job does, in order."""

RUNTIME_NAMES = ("onnxruntime", "openvino", "tensorrt", "litert", "executorch", "onnxruntime-web")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Target:
    """Where a graph will run, and which integers it computes in."""

    name: str
    summary: str = ""
    runtime: str = "onnxruntime"
    """What runs it: ``onnxruntime``, ``openvino``, ``tensorrt``, ``litert``, ``executorch`` or
    ``onnxruntime-web``."""
    stand_in: str = ""
    """The runtime that proves the graphs where the target's own can't run on the machine that exports."""
    precisions: tuple[str, ...] = ("fp32", "int8")
    """Graphs that are made; the last one is the default."""
    batch: int = 0
    """Windows in one inference, fixed in the graph; 0 leaves their number open."""
    activation_type: str = "uint8"
    """``uint8`` or ``int8``."""
    activation_symmetric: bool = False
    """Zero point fixed at the middle of the grid."""
    weight_type: str = "int8"
    """``int8`` or ``uint8``."""
    weight_symmetric: bool = True
    per_channel: bool = True
    """A scale for each output channel of a weight."""
    float_input_layer: bool = False
    """The convolution that reads the log-mel stays in float: 256 steps are coarse for its wide range."""
    quantised_ops: tuple[str, ...] = (
        "Add", "AveragePool", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "ReduceMean", "Relu",
    )  # fmt: skip
    """ONNX operators that compute in integers; all others stay in float."""
    quantised_bias: bool = True
    """Biases are stored as 32-bit integers; else they stay in float."""
    embedding: bool = False
    """The graph also gives the network's embedding; ONNX files only."""
    microcontroller: bool = False
    """Beside the graphs, the bare network in integers alone and its C header; LiteRT only."""
    logits_max_abs: float = 1e-4
    """Bound on the difference of any logit of the fp32 graph to torch."""
    fp16_max_abs: float = 0.1
    """The same for the fp16 graph."""

    def __post_init__(self) -> None:
        for name in ("activation_type", "weight_type"):
            _choice(getattr(self, name), ("uint8", "int8"), f"target {self.name}: {name}")
        _choice(self.runtime, RUNTIME_NAMES, f"target {self.name}: runtime")
        for precision in self.precisions:
            _choice(precision, PRECISIONS, f"target {self.name}: precisions")
        require(bool(self.precisions), f"target {self.name}: precisions names no graph; add one, e.g. fp32")
        require(
            not self.embedding or self.runtime in ("onnxruntime", "openvino"),
            f"target {self.name}: only x86, arm and openvino give embeddings; use one of them",
        )
        require(
            not self.microcontroller or self.runtime == "litert",
            f"target {self.name}: only litert writes a network for microcontrollers; use --target litert",
        )
        require(self.batch >= 0, f"target {self.name}: batch is {self.batch}; use 0 for an open one, or more")
