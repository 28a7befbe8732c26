"""An ONNX file → its nodes with the shape of every tensor, without running or unpacking the weights.

Shape inference gets a light copy: large constants become inputs of the same shape, so that a file of
100 MB is as quick as one of 100 kB.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeaudio.complexity.graph import Tensor
from edgeaudio.complexity.onnx_inputs import fix_inputs
from edgeaudio.complexity.onnx_stand_ins import stand_in
from edgeaudio.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    import onnx

SMALL = 1024  # values of a constant that may be a shape, which inference has to see
STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Network:
    """An ONNX graph ready for counting."""

    nodes: tuple[Any, ...]
    """`NodeProto`s in order of execution, without those of kind Constant."""
    tensors: dict[str, Tensor]
    """Shape and type of every tensor by name, constants too."""
    constants: dict[str, Tensor]
    """Initialisers and values of Constant nodes by name."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    file_bytes: int
    """Bytes of the file and of what it keeps outside itself."""


def read_network(source: Path | str | onnx.ModelProto, input_shape: tuple[int, ...] | None = None) -> Network:
    """Read a graph and work out all shapes.

    Args:
        source: an ``.onnx`` file, or a model in memory.
        input_shape: of the first input; may be left out where only the batch, its first axis, is open.

    Raises:
        CheckpointError: no ONNX model, a damaged one, or one whose external data is missing.
        RecipeError: the input shape is needed and missing, or contradicts the file.
        MissingExtraError: onnx is not installed.
    """
    onnx = _onnx()
    model, name, size = _load(source)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        constants, protos = _constants(model)
    except (ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"{name} has a damaged constant; export or copy it again") from error
    _check_order(model, constants, name)
    light = _light(model, constants, protos)
    fix_inputs(light, [value.name for value in _open_inputs(model, constants)], input_shape, name)
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name} is not a valid ONNX graph ({reason}); export it again") from error
    return Network(
        nodes=tuple(node for node in model.graph.node if node.op_type != "Constant"),
        tensors=_shapes(model, inferred) | constants,
        constants=constants,
        inputs=tuple(value.name for value in _open_inputs(model, constants)),
        outputs=tuple(value.name for value in model.graph.output),
        file_bytes=size,
    )


def _onnx() -> Any:
    try:
        import onnx
        import onnx.inliner
        import onnx.shape_inference
    except ImportError as error:
        raise MissingExtraError("reading .onnx files needs onnx; pip install 'edgeaudio[train]'") from error
    return onnx


def _load(source: Path | str | onnx.ModelProto) -> tuple[onnx.ModelProto, str, int]:
    """The model, its name for messages, and its bytes."""
    onnx = _onnx()
    if not isinstance(source, (str, Path)):
        _check_content(source, "the model")
        return source, "the model", source.ByteSize()
    path = Path(source)
    if not path.is_file():
        what = "is a folder; pass the .onnx file in it" if path.is_dir() else "is not there; check the path"
        raise CheckpointError(f"{path} {what}")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError, whose module differs between versions
        raise CheckpointError(
            f"{path} is not an ONNX model, or it was cut off; export or copy it again"
        ) from error
    _check_content(model, str(path))
    return model, str(path), path.stat().st_size + _external_bytes(model, path)


def _check_content(model: onnx.ModelProto, name: str) -> None:
    """Protobuf reads many a text as an empty message, and hands over damaged names as bytes."""
    graph = model.graph
    if not graph.node or not model.opset_import:
        raise CheckpointError(f"{name} holds no ONNX graph; pass a file that an ONNX exporter wrote")
    tensors = (*graph.initializer, *graph.input, *graph.output, *graph.value_info)
    names = [item.name for item in (*graph.node, *tensors)]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output]
        names += [item.name for item in node.attribute]
    if not all(isinstance(text, str) for text in names):
        raise CheckpointError(f"{name} is damaged: it has names that are no text; export or copy it again")


def _check_order(model: onnx.ModelProto, constants: dict[str, Tensor], name: str) -> None:
    """Each tensor is written once, and before it is read."""
    there = {"", *constants, *(value.name for value in model.graph.input)}
    for node in model.graph.node:
        written = [output for output in node.output if output]
        fresh = node.op_type == "Constant" or there.isdisjoint(written)
        if not there.issuperset(node.input) or not fresh:
            raise CheckpointError(
                f"{name} is not a valid ONNX graph (node {node.name or node.op_type!r} reads or writes "
                "out of order); export it again"
            )
        there.update(written)
    if not there.issuperset(value.name for value in model.graph.output):
        raise CheckpointError(
            f"{name} is not a valid ONNX graph (nothing writes its output); export it again"
        )


def _external_bytes(model: onnx.ModelProto, path: Path) -> int:
    """Bytes of the weights that lie in files of their own, all of which have to be there."""
    total = 0
    for tensor in (*model.graph.initializer, *_attribute_tensors(model)):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        file = path.parent / entry.get("location", "")
        dtype = _dtype(tensor.data_type)
        length = int(entry.get("length", Tensor(tuple(tensor.dims), dtype).bytes()))
        if not file.is_file() or file.stat().st_size < int(entry.get("offset", 0)) + length:
            state = "shorter than the graph says" if file.is_file() else "missing"
            raise CheckpointError(
                f"{path} keeps its weights in {file.name}, which is {state}; put it beside it"
            )
        total += length
    return total


def _attribute_tensors(model: onnx.ModelProto) -> list[Any]:
    return [item.t for node in model.graph.node for item in node.attribute if item.HasField("t")]


def _constants(model: onnx.ModelProto) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What is fixed in the file: shapes and types by name, and the small values themselves."""
    tensors: dict[str, Tensor] = {}
    small: dict[str, Any] = {}
    named = [(item.name, item) for item in model.graph.initializer]
    named += [
        (node.output[0], _constant_value(node)) for node in model.graph.node if node.op_type == "Constant"
    ]
    for name, proto in named:
        tensors[name] = Tensor(tuple(proto.dims), _dtype(proto.data_type))
        if tensors[name].values <= SMALL and proto.data_location != proto.EXTERNAL:
            small[name] = proto
    for sparse in model.graph.sparse_initializer:
        tensors[sparse.values.name] = Tensor(tuple(sparse.dims), _dtype(sparse.values.data_type))
    return tensors, small


def _constant_value(node: Any) -> Any:
    """The tensor of a Constant node, however it is spelled."""
    from onnx import TensorProto, helper

    attribute = node.attribute[0]
    if attribute.name == "value":
        return attribute.t
    value = helper.get_attribute_value(attribute)
    if attribute.name == "sparse_value":
        return TensorProto(dims=value.dims, data_type=value.values.data_type)
    kind = TensorProto.FLOAT if "float" in attribute.name else TensorProto.INT64
    if "string" in attribute.name:
        kind = TensorProto.STRING
    several = attribute.name.endswith("s")
    return helper.make_tensor("", kind, [len(value)] if several else [], list(value) if several else [value])


def _dtype(code: int) -> str:
    from onnx import TensorProto

    name = {number: name for name, number in TensorProto.DataType.items()}.get(code, "undefined").lower()
    return str({"float": "float32", "double": "float64"}.get(name, name))


def _code(dtype: str) -> int:
    from onnx import TensorProto

    name = {"float32": "float", "float64": "double"}.get(dtype, dtype)
    return int(TensorProto.DataType.Value(name.upper()))


def _open_inputs(model: onnx.ModelProto, constants: dict[str, Tensor]) -> list[Any]:
    """Inputs that the user feeds: old files list their initialisers as inputs too."""
    return [value for value in model.graph.input if value.name not in constants]


def _light(model: onnx.ModelProto, constants: dict[str, Tensor], small: dict[str, Any]) -> Any:
    """A copy for shape inference: no large values, no shapes that were written down for another batch."""
    onnx = _onnx()
    light = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    light.graph.name = "light"
    for node in model.graph.node:
        if node.op_type != "Constant":
            light.graph.node.append(stand_in(node))
    for name, tensor in constants.items():
        if name in small:
            light.graph.initializer.add().CopyFrom(small[name])
            light.graph.initializer[-1].name = name
        else:
            value = onnx.helper.make_tensor_value_info(name, _code(tensor.dtype), tensor.shape)
            light.graph.input.append(value)
    light.graph.input.extend(_open_inputs(model, constants))  # copies: they are given sizes
    for value in model.graph.output:
        light.graph.output.add(name=value.name)
        light.graph.output[-1].type.tensor_type.elem_type = value.type.tensor_type.elem_type
    return light


def _shapes(model: onnx.ModelProto, inferred: onnx.ModelProto) -> dict[str, Tensor]:
    """What inference found; where it found nothing, what the exporter wrote down, if that is fixed."""
    written = itertools.chain(model.graph.value_info, model.graph.output)
    found = itertools.chain(inferred.graph.value_info, inferred.graph.output, inferred.graph.input)
    tensors: dict[str, Tensor] = {}
    for value in itertools.chain(written, found):
        tensor = _tensor(value.type.tensor_type)
        if value.name not in tensors or tensor.shape is not None:
            tensors[value.name] = tensor
    return tensors


def _tensor(kind: Any) -> Tensor:
    dims = list(kind.shape.dim)
    known = kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
    dtype = _dtype(kind.elem_type) if kind.elem_type else "undefined"
    return Tensor(tuple(dim.dim_value for dim in dims) if known else None, dtype)
