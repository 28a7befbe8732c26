"""What a job does beside training: its stages, pruning, the target."""

from __future__ import annotations

from dataclasses import dataclass

from edgeaudio.config.canonical import choice, require

STAGES = (
    "data", "teacher", "fusion", "logits", "student", "alone", "prune", "device", "export", "quantize",
    "measure", "bundle", "target",
)  # fmt: skip
"""What a job does, in order."""

RUNTIME_NAMES = ("onnxruntime", "openvino", "tensorrt", "litert", "executorch", "onnxruntime-web")
PRECISIONS = ("fp32", "fp16", "int8")


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
        choice(self.importance, ("l2", "l1", "batch_norm"), "prune: importance")


@dataclass(frozen=True)
class DeviceSpec:
    """A model of its own for each device: the student, trained on with that device's clips alone."""

    epochs: int = 0
    """Passes over a device's training windows; 0 makes the general model only."""
    learning_rate_share: float = 0.1
    """Peak of the schedule, as a share of the recipe's."""

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"devices: epochs is {self.epochs}; use 0 or more")
        share = self.learning_rate_share
        require(share > 0, f"devices: learning_rate_share is {share}; it must be positive")


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
            choice(getattr(self, name), ("uint8", "int8"), f"target {self.name}: {name}")
        choice(self.runtime, RUNTIME_NAMES, f"target {self.name}: runtime")
        for precision in self.precisions:
            choice(precision, PRECISIONS, f"target {self.name}: precisions")
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
