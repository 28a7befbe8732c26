"""Open axes of an ONNX graph's inputs, such as the batch, get their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeaudio.errors import CheckpointError, RecipeError

if TYPE_CHECKING:
    import onnx

FIX = "fix its sizes in the exporter"


def fix_inputs(
    graph: onnx.ModelProto, names: list[str], input_shape: tuple[int, ...] | None, name: str
) -> None:
    """Give every open axis of the inputs its size; the same symbol has the same size everywhere.

    Args:
        graph: is changed.
        names: of the inputs that the user feeds, in order.
        input_shape: of the first of them; may be left out where only the batch, its first axis, is open.
        name: of the file, for messages.

    Raises:
        CheckpointError: an input is not a tensor.
        RecipeError: a size is needed and missing, or contradicts the file.
    """
    symbols: dict[str, int] = {}
    values = {value.name: value for value in graph.graph.input}
    for position, input_name in enumerate(names):
        what = f"{name}: input {input_name!r}"
        kind = values[input_name].type
        if not kind.HasField("tensor_type"):
            raise CheckpointError(f"{what} is not a tensor; such graphs can't be counted")
        shape, way_out = (input_shape, "pass its sizes with --input") if position == 0 else (None, FIX)
        if not kind.tensor_type.HasField("shape"):
            if shape is None:
                raise RecipeError(f"{what} has no shape; {way_out}")
            for _ in shape:
                kind.tensor_type.shape.dim.add()
        dims = kind.tensor_type.shape.dim
        if shape is not None:
            _check_fit(dims, shape, what)
        text = _text(dims)
        for axis, dim in enumerate(dims):
            # a lone axis of the first input is its length, not the batch
            batch = axis == 0 and (len(dims) > 1 or position > 0)
            size = _size(dim, shape[axis] if shape else None, symbols, batch)
            if size is None:
                raise RecipeError(f"{what} has the open shape {text}; {way_out}")
            symbols.setdefault(dim.dim_param, size)
            dim.dim_value = size


def _size(dim: Any, wanted: int | None, symbols: dict[str, int], batch: bool) -> int | None:
    """Size of an axis: its own, the user's, that of the same symbol elsewhere, 1 of a batch; else None."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    known = symbols.get(dim.dim_param) if dim.dim_param else None
    return wanted if wanted is not None else known if known is not None else 1 if batch else None


def _check_fit(dims: Any, shape: tuple[int, ...], what: str) -> None:
    """Raise unless the user's shape can be had."""
    fixed = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    fits = len(shape) == len(fixed) and all(
        size > 0 and known in (None, size) for size, known in zip(shape, fixed, strict=True)
    )
    if not fits:
        given = " × ".join(map(str, shape))
        raise RecipeError(f"{what} has shape {_text(dims)}, which {given} does not fit; pass another --input")


def _text(dims: Any) -> str:
    sizes = [str(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param or "?") for dim in dims]
    return " × ".join(sizes)
