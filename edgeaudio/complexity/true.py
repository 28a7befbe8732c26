"""The true counter: every multiply-accumulate that runs in one forward pass, wherever it runs.

The official counter looks at modules and their parameters. This one looks at the operators that torch
calls, and so also finds attention products, functional convolutions with computed kernels and the tokens
that a linear layer is applied to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeaudio.complexity.count import Count, LayerCount

if TYPE_CHECKING:  # torch itself is imported with the first count, so that limits can be read without it
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

Row = tuple[str, str, tuple[int, ...], bool]  # module path, operator, output shape, in integers


def true(model: nn.Module, input_shape: tuple[int, ...]) -> Count:
    """Count what a model really multiplies, without changing it.

    A multiply-accumulate is one product of a convolution, a matrix product, attention or a recurrent layer,
    in floats or integers, once for every time it runs: a linear layer for all tokens, a recurrent layer for
    all steps, layers and directions. Products with the zeros of a padding count, as do the scores that a
    mask hides. A complex product counts as four. As usual 0 are biases (they are additions), whatever
    is done to single values (activations, scaling, quantisation), normalisation, pooling and reductions, and
    whatever only moves values. An operator that is none of these (a custom one, an FFT, interpolation) is
    listed in ``uncounted``, and the MACs are then a lower bound.

    A row is an operator in a module, summed over its calls with the same output shape; the parameters stand
    in the first row of the module that holds them. Parameters packed into torch's integer layers count with
    the bytes they are stored in, without their scales.

    Args:
        model: any module that takes one tensor; measured in the dtype and on the device of its parameters.
        input_shape: shape of the input, e.g. `(1, 1, mels, frames)`; the batch multiplies the MACs.

    Raises:
        RecipeError: the model can't take an input of that shape.
    """
    from edgeaudio.complexity.forward import forward

    tally = forward(model, input_shape, lambda: _watching(model))
    stored = _stored(model, tally.ran)
    layers = _layers(tally, stored)
    tensors = [tensor for own in stored.values() for tensor in own]
    return Count(
        params=sum(tensor.numel() for tensor in tensors),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
        input_shape=tuple(input_shape),
        nonzero=sum(_nonzero(tensor) for tensor in tensors),
        rules="true",
        stored_bytes=sum(_bytes(tensor) for tensor in tensors),
        buffers=sum(buffer.numel() for buffer in model.buffers()),
        uncounted=tuple(tally.uncounted),
    )


@dataclass
class _Tally:
    """What a pass has shown so far."""

    classes: dict[str, str]
    """Class of each module, by its path."""
    rows: dict[Row, int] = field(default_factory=dict)
    """Multiply-accumulates, in the order of the first calls."""
    ran: set[str] = field(default_factory=set)
    """Paths of the modules that were called."""
    uncounted: dict[str, None] = field(default_factory=dict)
    """Operators without a known cost, in the order of the first calls."""
    running: list[str] = field(default_factory=lambda: [""])
    """Paths of the modules that are being called, innermost last; the model itself is always."""

    def call(self, op: Any, args: tuple[Any, ...], answer: object) -> None:
        """Note one call of an operator."""
        from edgeaudio.complexity import operators

        output, path, name = _first_tensor(answer), self.running[-1], operators.base_name(op)
        cost = operators.macs(op, args, output)
        if cost is None:
            self.uncounted[f"{name} ({path or self.classes['']})"] = None
        elif cost and output is not None:
            row = (path, name, tuple(output.shape), operators.is_integer(op, args))
            self.rows[row] = self.rows.get(row, 0) + cost

    def leave(self, path: str, answer: object) -> None:
        """Note the end of a module's call; one that multiplied nothing has a row too, for its parameters."""
        self.running.pop()
        self.ran.add(path)
        output = _first_tensor(answer)
        shape = () if output is None else tuple(output.shape)
        self.rows.setdefault((path, self.classes[path], shape, False), 0)


@contextmanager
def _watching(model: nn.Module) -> Iterator[_Tally]:
    """Notes every operator inside, and the module that called it."""
    import torch

    from edgeaudio.complexity.forward import Spy
    from edgeaudio.complexity.operators import is_known

    tally = _Tally({path: type(module).__name__ for path, module in model.named_modules()})
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        # torch's fused transformer layers are the same products in one operator that tells no shapes
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        for path, module in model.named_modules():
            for handle in _hooks(module, path, tally):
                stack.callback(handle.remove)
        stack.enter_context(Spy(is_known, tally.call))
        yield tally


def _hooks(module: nn.Module, path: str, tally: _Tally) -> tuple[RemovableHandle, ...]:
    """The first and the last thing that happens in a module's call, even if it fails."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):  # takes no hooks: its operators are those of its caller
        return ()
    enter = module.register_forward_pre_hook(lambda *_: tally.running.append(path), prepend=True)
    leave = module.register_forward_hook(lambda _, __, answer: tally.leave(path, answer), always_call=True)
    return enter, leave


def _first_tensor(answer: object) -> Tensor | None:
    """What a module or an operator answered first."""
    import torch

    while isinstance(answer, (Mapping, Sequence)) and not isinstance(answer, str):
        values = list(answer.values()) if isinstance(answer, Mapping) else answer
        answer = values[0] if len(values) else None
    return answer if isinstance(answer, torch.Tensor) else None


def _stored(model: nn.Module, ran: set[str]) -> dict[str, list[Tensor]]:
    """Parameters by the path of the module that holds them, each once.

    Packed ones stand in a helper module of their own that is never called; they belong to the layer above.
    """
    from edgeaudio.complexity.operators import unpacked

    stored: dict[str, dict[int, Tensor]] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        packed = [tensor for value in vars(module).values() for tensor in unpacked(value)]
        own = {id(tensor): tensor for tensor in (*module.parameters(recurse=False), *packed)}
        while packed and path and path not in ran:
            path = path.rpartition(".")[0]
        stored.setdefault(path, {}).update((key, own[key]) for key in own.keys() - seen)
        seen |= own.keys()
    return {path: list(own.values()) for path, own in stored.items()}


def _layers(tally: _Tally, stored: dict[str, list[Tensor]]) -> tuple[LayerCount, ...]:
    """Rows in the order of execution, then one for each module that holds parameters and never ran."""
    left, rows = dict(stored), []
    idle: dict[Row, int] = {
        (path, tally.classes[path], (), False): 0 for path in stored if path not in tally.ran
    }
    for (path, kind, shape, integer), macs in {**tally.rows, **idle}.items():
        own = left.pop(path, [])
        params, size = sum(tensor.numel() for tensor in own), sum(_bytes(tensor) for tensor in own)
        if params or macs:
            rows.append(LayerCount(path, kind, shape, params, macs, size, integer))
    return tuple(rows)


def _bytes(tensor: Tensor) -> int:
    """Bytes of the values as stored; torch's 4-bit integers share a byte."""
    import torch

    size = tensor.numel() * tensor.element_size()
    return (size + 1) // 2 if tensor.dtype == torch.quint4x2 else size


def _nonzero(tensor: Tensor) -> int:
    return int((tensor.dequantize() if tensor.is_quantized else tensor).count_nonzero())
