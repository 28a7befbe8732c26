"""One forward pass to look at, without the work: what multiplies large matrices answers zeros instead.

Fake and meta tensors would do for most networks too, but load torch's compiler first (a second or more),
walk through an LSTM step by step (many seconds for a thousand frames) and know no integer layers. Here
everything but the costly products runs as it is, so the kernels are those of a real pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgeaudio.errors import RecipeError

T = TypeVar("T")


def forward(
    model: nn.Module, input_shape: tuple[int, ...], watch: Callable[[], AbstractContextManager[T]]
) -> T:
    """Send zeros through a model in eval mode, without gradients, and answer what `watch` has seen.

    Every module gets its training flag back. Should the model stumble over the zeros of the shortcuts (a
    value decides what runs, or a kernel wants another layout), it is watched again in a pass without them.

    Args:
        model: any module that takes one tensor; it gets it in the dtype and on the device of its parameters.
        input_shape: shape of the input.
        watch: opens a context for one pass, which gives what is to be answered.

    Raises:
        RecipeError: the model can't take an input of that shape.
    """
    shape = tuple(input_shape)
    if not shape or not all(type(size) is int and size > 0 for size in shape):
        raise RecipeError(
            f"input shape is {shape}; it must hold positive sizes, e.g. (batch, 1, mels, frames)"
        )
    like = next(model.parameters(), torch.zeros(()))
    dtype = like.dtype if like.dtype.is_floating_point else torch.float32
    x = torch.zeros(shape, dtype=dtype, device=like.device)

    with _evaluating(model), torch.no_grad():
        # whatever goes wrong here: the real pass decides, and complains in the model's own words
        with suppress(Exception), _Shortcuts(), watch() as seen:  # type: ignore[no-untyped-call]
            model(x.clone())
            return seen
        try:
            with watch() as seen:
                model(x)
            return seen
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise RecipeError(
                f"{type(model).__name__} can't take an input of shape {shape} ({reason}); "
                "give it the shape of one inference, e.g. (1, 1, mels, frames)"
            ) from error


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each module has its own flag back, frozen batch norms too."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator that is called inside, below autograd."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Asked by torch; a yes, to keep its compiler away, would load the compiler: over a second."""
        return False


class Spy(_Mode):  # type: ignore[no-untyped-call]
    """Reports every operator and lets it run; one that torch composes of others is taken apart."""

    def __init__(
        self, known: Callable[[Any], bool], report: Callable[[Any, tuple[Any, ...], object], None]
    ) -> None:
        """Take what it needs to know.

        Args:
            known: whether an operator is to be reported as it is, not in its parts.
            report: is told the operator, its positional arguments and its answer.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.known, self.report = known, report

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.known(func):
            with self:
                answer = func.decompose(*args, **kwargs)
            if answer is not NotImplemented:
                return answer
        answer = func(*args, **kwargs)
        self.report(func, args, answer)
        return answer


class _Shortcuts(_Mode):  # type: ignore[no-untyped-call]
    """Answers zeros of the right shape for the costly operators; everything else runs."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        shortcut = _SHORTCUTS.get(func)
        answer = shortcut(*args) if shortcut and not kwargs else None
        return func(*args, **(kwargs or {})) if answer is None else answer


def _product(a: Tensor, b: Tensor) -> Tensor | None:
    """`(…, m, k)` by `(…, k, n)` → `(…, m, n)`; None where the shapes don't fit and torch shall say so."""
    fits = a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2] and _alike(a, b)
    return a.new_zeros((*a.shape[:-1], b.shape[-1])) if fits else None


def _sum_and_product(bias: Tensor, a: Tensor, b: Tensor) -> Tensor | None:
    answer = _product(a, b)
    if answer is None or not _alike(a, bias) or bias.dim() > answer.dim():
        return None
    sizes = zip(reversed(bias.shape), reversed(answer.shape), strict=False)
    return answer if all(size in (1, wanted) for size, wanted in sizes) else None


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor | None:
    """Input `(batch, channels, *positions)` → zeros of the output's shape; None where torch shall judge."""
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    spatial = x.dim() - 2
    if x.dim() != weight.dim() or x.shape[1] != channels or weight.shape[0] % groups:
        return None
    if not _alike(x, weight, bias) or (bias is not None and bias.shape != (outputs,)):
        return None
    if not len(stride) == len(padding) == len(dilation) == spatial or min(padding, default=0) < 0:
        return None
    sizes = []
    for axis in range(spatial):
        size, step, span = x.shape[axis + 2], stride[axis], dilation[axis] * (weight.shape[axis + 2] - 1)
        if transposed:
            sizes.append((size - 1) * step - 2 * padding[axis] + span + output_padding[axis] + 1)
        else:
            sizes.append((size + 2 * padding[axis] - span - 1) // step + 1)
    if min(sizes, default=1) < 1:
        return None
    return x.new_zeros((x.shape[0], outputs, *sizes))


def _alike(x: Tensor, *others: Tensor | None) -> bool:
    """Whether plain tensors of floats in one precision and one place meet, which any kernel takes."""
    tensors = [x, *(other for other in others if other is not None)]
    kinds = {(tensor.dtype, tensor.device, tensor.layout) for tensor in tensors}
    return len(kinds) == 1 and x.is_floating_point() and x.layout == torch.strided


def _cpu_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor] | None:
    """Queries `(batch, heads, tokens, width)` → answers like them, and the logarithm of each one's sum."""
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2] or query.shape[-1] != value.shape[-1]:
        return None
    return torch.zeros_like(query), query.new_zeros(query.shape[:-1], dtype=torch.float32)


_aten = torch.ops.aten
_SHORTCUTS: dict[Any, Callable[..., Any]] = {
    _aten.mm.default: _product,
    _aten.bmm.default: _product,
    _aten.addmm.default: _sum_and_product,
    _aten.baddbmm.default: _sum_and_product,
    _aten.convolution.default: _convolution,
    _aten._scaled_dot_product_flash_attention_for_cpu.default: _cpu_attention,
}
