"""The least that files of networks have in common: tensors with sizes, operators in order of execution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

BITS = {
    "float64": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128,
    "float32": 32, "int32": 32, "uint32": 32,
    "float16": 16, "bfloat16": 16, "int16": 16, "uint16": 16,
    "int8": 8, "uint8": 8, "bool": 8,
    "float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8, "float8e8m0": 8,
    "int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2,
}  # fmt: skip
INDICES = ("int64", "uint64", "int32", "uint32", "bool", "string")  # types of positions, sums and masks


def words(text: str) -> frozenset[str]:
    """The set of names in a text."""
    return frozenset(text.split())


@dataclass(frozen=True)
class Tensor:
    """Shape and type of one tensor."""

    shape: tuple[int, ...] | None
    """None where it can't be known without running the network."""
    dtype: str
    """Name of the stored type, e.g. ``float32`` or ``int8``."""

    @property
    def values(self) -> int:
        """How many numbers it holds; 0 where the shape is not known."""
        return 0 if self.shape is None else math.prod(self.shape)

    @property
    def known(self) -> bool:
        """Whether its size is known."""
        return self.shape is not None and self.dtype in BITS

    def bytes(self, bytes_per_value: int | None = None) -> int:
        """Its size as it is stored, or with activations of another width; indices and masks keep theirs."""
        if bytes_per_value is not None and self.dtype not in INDICES:
            return self.values * bytes_per_value
        return math.ceil(self.values * BITS.get(self.dtype, 0) / 8)


@dataclass(frozen=True)
class Op:
    """One operator that runs, with the names of the tensors that it reads and writes, constants left out."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    front_end: bool = False
    """Whether it belongs to the front end."""


@dataclass(frozen=True)
class Graph:
    """A network as a runtime sees it."""

    ops: tuple[Op, ...]
    """In order of execution."""
    tensors: dict[str, Tensor]
    """Every tensor that is not a constant, by name."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    flash_bytes: int
    """Bytes of the file: constants and graph."""

    def without_front_end(self) -> Graph:
        """The part behind the front end; what that hands over becomes the input."""
        ops = tuple(op for op in self.ops if not op.front_end)
        written = {name for op in ops for name in op.outputs}
        read = dict.fromkeys(name for op in ops for name in op.inputs if name not in written)
        return replace(self, ops=ops, inputs=tuple(read))
