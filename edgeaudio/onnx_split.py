"""The part of an ONNX graph behind its front end, cut out of the file's bytes without the onnx package.

An ONNX file is a protocol buffer: fields, each a key (number and kind) and its content. The exporter names
all that belongs to the front end ``frontend/…``, so the core is the same file without the nodes and weights
of that name, with ``log_mel`` as its input. Everything else is copied as it stands, byte by byte.

Source: onnx.proto for the field numbers; the protocol buffers' encoding guide for the wire format.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeaudio.errors import BundleError

FRONT_END = b"frontend/"
LOG_MEL = b"log_mel"
_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _VALUE_INFO = 1, 5, 11, 13
_NAME_OF = {_NODE: 3, _INITIALIZER: 8, _VALUE_INFO: 1}
"""Part of a graph → the field that holds its name."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT = 1  # TensorProto.DataType


def core_of(model: bytes, mels: int, frames: int) -> bytes:
    """Cut the front end off a graph.

    Args:
        model: the bytes of an ``.onnx`` file.
        mels: rows of the log-mel.
        frames: columns of the log-mel.

    Returns:
        The bytes of a graph ``log_mel (batch, 1, mels, frames)`` → the outputs of the whole one.

    Raises:
        BundleError: the file is damaged, or no front end is to be found in it.
    """
    try:
        parts = [
            _message(number, _core_graph(content, mels, frames)) if number == _MODEL_GRAPH else raw
            for number, content, raw in _fields(model)
        ]
    except (IndexError, ValueError) as error:
        raise BundleError(f"the graph is damaged ({error}); export the bundle again") from error
    return b"".join(parts)


def _core_graph(graph: bytes, mels: int, frames: int) -> bytes:
    kept, cut = [], 0
    for number, content, raw in _fields(graph):
        if number == _INPUT:
            continue
        if number in _NAME_OF and _name(content, _NAME_OF[number]).startswith(FRONT_END):
            cut += number == _NODE
            continue
        kept.append(raw)
    if not cut:
        raise BundleError('the graph holds no front end of its own; open it with front_end="graph"')
    return b"".join([*kept, _message(_INPUT, _log_mel(mels, frames))])


def _log_mel(mels: int, frames: int) -> bytes:
    """A ValueInfoProto: float32 ``log_mel``, `(batch, 1, mels, frames)`."""
    sizes = [_message(2, b"batch"), *(_number(1, size) for size in (1, mels, frames))]
    shape = b"".join(_message(1, size) for size in sizes)
    tensor = _number(1, _FLOAT) + _message(2, shape)
    return _message(1, LOG_MEL) + _message(2, _message(1, tensor))


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, content (of fields that have a length) and raw bytes of each field."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        content = b""
        if kind == _BYTES:
            length, at = _varint(message, at)
            content = message[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if at > len(message):
            raise ValueError("a field that reaches past the end")
        yield key >> 3, content, message[start:at]


def _name(message: bytes, field: int) -> bytes:
    return next((content for number, content, _ in _fields(message) if number == field), b"")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _encoded(field << 3 | _VARINT) + _encoded(value)


def _message(field: int, content: bytes) -> bytes:
    return _encoded(field << 3 | _BYTES) + _encoded(len(content)) + content
