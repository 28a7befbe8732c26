"""What a counter answers: parameters, bytes and multiply-accumulates, layer by layer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerCount:
    """One call of one leaf module or one node of a graph, or what a module holds outside its leaves."""

    name: str
    """Path of the module in the model, or name of the node."""
    kind: str
    """Its class or operator."""
    output_shape: tuple[int, ...]
    """Shape of what it answered; empty where it was never called."""
    params: int
    """Its parameters; 0 where an earlier row already has them."""
    macs: int
    """Its multiply-accumulates."""
    bytes: int | None = None
    """Bytes of its parameters in the types they are stored in; None where nobody looked."""
    integer: bool = False
    """Whether it computes in integers."""
    front_end: bool = False
    """Whether it belongs to the front end."""


@dataclass(frozen=True, repr=False)
class Count:
    """What a counter says about one model at one input shape."""

    params: int
    """All parameters, zeros included, without those of the front end."""
    macs: int
    """Multiply-accumulates of one forward pass, without those of the front end."""
    layers: tuple[LayerCount, ...]
    """Rows that add up to both."""
    input_shape: tuple[int, ...]
    """What was counted: one inference."""
    nonzero: int | None = None
    """Parameters that are not zero, for the rules of 2020 and 2021; None if nobody looked."""
    rules: str = "official"
    """Who counted: ``official``, ``true``, ``onnx`` or ``tflite`` (the rules for that format)."""
    stored_bytes: int | None = None
    """Bytes of the parameters in the types they are stored in; None where nobody looked."""
    buffers: int = 0
    """Values of the buffers (running statistics, constants), which no rule set counts."""
    uncounted: tuple[str, ...] = ()
    """Operators whose cost is not known, as ``operator (name)``: the MACs are then a lower bound."""

    @property
    def integer_macs(self) -> int:
        """Multiply-accumulates of the model that are done in integers."""
        return sum(layer.macs for layer in self.layers if layer.integer and not layer.front_end)

    @property
    def front_end_macs(self) -> int:
        """Multiply-accumulates of the front end, which come on top."""
        return sum(layer.macs for layer in self.layers if layer.front_end)

    def bytes(self, bits: int, *, nonzero_only: bool = False) -> int:
        """Size of the parameters in bytes when each takes `bits` bits."""
        params = self.nonzero if nonzero_only and self.nonzero is not None else self.params
        return math.ceil(params * bits / 8)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, ready for `json.dumps`."""
        layers = [{**asdict(layer), "output_shape": list(layer.output_shape)} for layer in self.layers]
        return {
            "rules": self.rules,
            "params": self.params,
            "nonzero": self.nonzero,
            "stored_bytes": self.stored_bytes,
            "buffers": self.buffers,
            "macs": self.macs,
            "integer_macs": self.integer_macs,
            "front_end_macs": self.front_end_macs,
            "input_shape": list(self.input_shape),
            "uncounted": list(self.uncounted),
            "layers": layers,
        }

    def to_markdown(self) -> str:
        """A table of the layers that cost something, and the total."""
        rows = [
            f"| {layer.name} | {layer.kind} | {' × '.join(map(str, layer.output_shape))} "
            f"| {layer.params:,} | {layer.macs:,} |"
            for layer in self.layers
            if (layer.params or layer.macs) and not layer.front_end
        ]
        total = f"| **total** | | | **{self.params:,}** | **{self.macs:,}** |"
        head = ["| layer | kind | output | parameters | MACs |", "| --- | --- | --- | ---: | ---: |"]
        return "\n".join([*head, *rows, total]) + "\n"

    def __repr__(self) -> str:
        missing = f", {len(self.uncounted)} operators uncounted" if self.uncounted else ""
        return f"Count({self.params:,} parameters, {self.macs:,} MACs at input {self.input_shape}{missing})"
