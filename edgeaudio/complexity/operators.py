"""What one call of a torch operator multiplies: a formula each, and the operators that are free.

An operator that is in neither table is *unknown*, not free: the counter lists it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

Formula = Callable[[tuple[Any, ...], Tensor], int]


def macs(op: Any, args: tuple[Any, ...], answer: Tensor | None) -> int | None:
    """Multiply-accumulates of one call; 0 if the operator is free, None if nobody knows.

    Args:
        op: the overload that was called.
        args: its positional arguments.
        answer: its first output; None if it answered no tensor.
    """
    name = base_name(op)
    if answer is not None and (weights := _packed_weights(op, args)):
        return _packed_macs(name, args[0], weights, answer)
    if answer is not None and name in FORMULAS:
        real = FORMULAS[name](args, answer)
        return 4 * real if answer.is_complex() else real  # (a + bi)(c + di) takes four products
    return 0 if is_free(op) else None


def is_known(op: Any) -> bool:
    """Whether the operator has a formula or is free; if neither, what it is made of may tell."""
    return base_name(op) in FORMULAS or is_free(op)


def is_integer(op: Any, args: tuple[Any, ...]) -> bool:
    """Whether a call multiplies integers: integer weights that are packed, or nothing but integers."""
    tensors = _packed_weights(op, args) or [arg for arg in args if isinstance(arg, Tensor)]
    return bool(tensors) and not any(t.is_floating_point() or t.is_complex() for t in tensors)


@cache
def base_name(op: Any) -> str:
    """``addmm`` for all of ``aten::addmm.out``, ``aten::addmm_`` …; other namespaces stay in front."""
    return str(op._schema.name).removeprefix("aten::").rstrip("_")


@cache
def is_free(op: Any) -> bool:
    """Whether an operator only makes, moves, adds up, scales or normalises single values."""
    free_tags = {torch.Tag.pointwise, torch.Tag.view_copy, torch.Tag.inplace_view}
    if base_name(op) in FREE or free_tags & set(op.tags):
        return True
    answers = op._schema.returns
    return not op._schema.is_mutable and any(answer.alias_info is not None for answer in answers)  # a view


def unpacked(holder: Any) -> Iterator[Tensor]:
    """Weights and biases inside torch's packed parameters: of a layer, or of all layers of an RNN."""
    kind = str(holder._type().qualified_name()) if isinstance(holder, torch.ScriptObject) else ""
    if ".classes.quantized." in kind:
        yield from _tensors_in(holder.unpack())
    elif ".classes.rnn." in kind:
        yield from _tensors_in(holder.__getstate__())


def _tensors_in(state: Any) -> Iterator[Tensor]:
    """What torch hands out is a nest of tuples; inside an RNN's are more packed parameters."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, (tuple, list)):
        for entry in state:
            yield from _tensors_in(entry)
    else:
        yield from unpacked(state)


def _packed_weights(op: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """Weights (not biases) of an integer layer; an embedding looks its own up and multiplies nothing."""
    if "embedding" in op._schema.name:
        return []
    holders = [holder for arg in args for holder in (arg if isinstance(arg, (list, tuple)) else (arg,))]
    return [tensor for holder in holders for tensor in unpacked(holder) if tensor.dim() > 1]


def _packed_macs(name: str, x: Tensor, weights: list[Tensor], answer: Tensor) -> int:
    """A convolution's weights come alone; of linear and recurrent layers each works at every position."""
    if "conv" in name:
        positions = x if "transpose" in name else answer
        return positions.numel() * math.prod(weights[0].shape[1:])
    return math.prod(x.shape[:-1]) * sum(weight.numel() for weight in weights)


def _product(which: int) -> Formula:
    """`(…, m, k)` by `(…, k, n)`: k for every output; the left matrix is argument `which`."""
    return lambda args, answer: answer.numel() * int(args[which].shape[-1])


def _sum_of_products(args: tuple[Any, ...], answer: Tensor) -> int:
    """`(batch, m, k)` by `(batch, k, n)`, added up over the batch."""
    return int(args[1].numel() * answer.shape[-1])


def _outer_product(args: tuple[Any, ...], answer: Tensor) -> int:
    return answer.numel()


def _convolution(args: tuple[Any, ...], answer: Tensor) -> int:
    """The kernel once for every output or, transposed, for every input; groups are in its shape."""
    x, weight = args[:2]
    transposed = len(args) > 6 and args[6] is True
    return int((x if transposed else answer).numel() * math.prod(weight.shape[1:]))


def _transposed_convolution(args: tuple[Any, ...], answer: Tensor) -> int:
    return int(args[0].numel() * math.prod(args[1].shape[1:]))


def _convolution_in_time(args: tuple[Any, ...], answer: Tensor) -> int:
    """Weights of `conv_tbc` are `(kernel, channels in, channels out)`."""
    return int(answer.numel() * math.prod(args[1].shape[:2]))


def _attention(args: tuple[Any, ...], answer: Tensor) -> int:
    """Each of the queries with each of the keys, then each of those scores with the values."""
    query, key, value = args[:3]
    return int(math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _recurrent(args: tuple[Any, ...], answer: Tensor) -> int:
    """Input `(time, batch, features)`, or `(time · batch, features)` packed: all matrices at every step."""
    matrices: list[Tensor] = []
    for arg in args[1:5]:  # mkldnn hands four tensors over, two of them matrices; cuDNN and MIOpen a list
        matrices += [t for t in (arg if isinstance(arg, (list, tuple)) else (arg,)) if isinstance(t, Tensor)]
    return int(math.prod(args[0].shape[:-1]) * sum(m.numel() for m in matrices if m.dim() == 2))


_COSTLY: tuple[tuple[Formula, str], ...] = (
    (
        _product(0),
        "mm bmm mv dot vdot matmul linear mkldnn_linear quantized::matmul _int_mm _scaled_mm "
        "_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu",
    ),
    (_product(1), "addmm addmv baddbmm _addmm_activation"),
    (_sum_of_products, "addbmm"),
    (_outer_product, "addr"),
    (
        _convolution,
        "convolution _convolution convolution_overrideable mkldnn_convolution cudnn_convolution "
        "cudnn_convolution_relu cudnn_convolution_add_relu miopen_convolution miopen_convolution_relu "
        "miopen_convolution_add_relu miopen_depthwise_convolution _slow_conv2d_forward _conv_depthwise2d "
        "conv_depthwise3d slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d",
    ),
    (
        _transposed_convolution,
        "cudnn_convolution_transpose miopen_convolution_transpose slow_conv_transpose2d "
        "slow_conv_transpose3d",
    ),
    (_convolution_in_time, "conv_tbc"),
    (
        _attention,
        "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
        "_scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math_for_mps",
    ),
    (_recurrent, "mkldnn_rnn_layer _cudnn_rnn miopen_rnn"),
)
FORMULAS = {name: formula for formula, names in _COSTLY for name in names.split()}
"""Operator → multiply-accumulates of its arguments and its answer."""

_MADE = """
    arange bartlett_window blackman_window empty empty_like empty_permuted empty_quantized empty_strided eye
    _efficientzerotensor _empty_affine_quantized _empty_per_channel_affine_quantized fft_fftfreq fft_rfftfreq
    fill full full_like hamming_window hann_window kaiser_window linspace logspace new_empty
    new_empty_strided new_full new_ones new_zeros ones ones_like range scalar_tensor tril_indices triu_indices
    zero zeros zeros_like bernoulli binomial cauchy exponential geometric log_normal multinomial
    native_dropout normal normal_functional poisson rand rand_like randint randint_like randn randn_like
    random randperm rrelu_with_noise rrelu_with_noise_functional uniform _fused_dropout
"""
_MOVED = """
    as_strided_scatter block_diag cat _chunk_cat channel_shuffle clone _lazy_clone col2im complex
    constant_pad_nd copy diag_embed diagonal_scatter embedding embedding_renorm _embedding_bag
    _embedding_bag_forward_only flip gather im2col index index_add index_copy index_fill index_put
    _index_put_impl index_reduce index_select lift lift_fresh masked_fill masked_scatter masked_select
    _pack_padded_sequence _pad_packed_sequence pixel_shuffle pixel_unshuffle put reflection_pad1d
    reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d resize resize_as roll rot90 scatter scatter_add scatter_reduce select_scatter set
    slice_scatter stack _stack take to_mkldnn _to_copy _to_dense to_padded_tensor tril triu unsafe_split
    unsafe_split_with_sizes _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_view
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d
"""
_REDUCED = """
    all allclose amax amin aminmax _aminmax any argmax argmin argsort bincount bucketize count_nonzero cummax
    cummin cumprod cumsum equal histc isin is_nonzero item kthvalue _local_scalar_dense _logcumsumexp
    logcumsumexp logsumexp max mean median min mode nanmedian nansum nonzero nonzero_static norm native_norm
    linalg_vector_norm prod searchsorted sort std std_mean sum topk trace unique_consecutive unique_dim
    _unique _unique2 var var_mean _assert_async _assert_scalar _assert_tensor_metadata
    _functional_assert_async _fused_sdp_choice _is_all_true _is_any_true
"""
_POOLED = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d fractional_max_pool2d
    fractional_max_pool3d max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d
    mkldnn_adaptive_avg_pool2d mkldnn_max_pool2d mkldnn_max_pool3d quantized_max_pool1d quantized_max_pool2d
    quantized_max_pool3d quantized::max_pool1d quantized::max_pool2d
"""
_NORMALISED = """
    batch_norm_elemt batch_norm_stats _batch_norm_no_update _batch_norm_with_update
    _batch_norm_with_update_functional cudnn_batch_norm miopen_batch_norm native_batch_norm
    _native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
    native_group_norm native_layer_norm _fused_rms_norm renorm _log_softmax _masked_softmax _safe_softmax
    _softmax _weight_norm_interface quantized_batch_norm quantized::batch_norm quantized::batch_norm_relu
    quantized::batch_norm1d quantized::batch_norm1d_relu quantized::batch_norm2d quantized::batch_norm2d_relu
    quantized::batch_norm3d quantized::batch_norm3d_relu quantized::group_norm quantized::instance_norm
    quantized::layer_norm quantized::softmax
"""
_ELEMENTWISE = """
    abs add _add_relu celu copysign div dist elu eq ge gelu glu gt hardshrink hardsigmoid hardswish hardtanh
    le leaky_relu log_sigmoid_forward lt mish mul ne polar prelu _prelu_kernel relu rsub softplus softshrink
    sub threshold where _conj_physical _masked_scale _thnn_fused_gru_cell _thnn_fused_lstm_cell
    dequantize int_repr q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale
    q_zero_point quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic
    fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fake_quantize_learnable_per_channel_affine
    _fake_quantize_learnable_per_tensor_affine _fused_moving_avg_obs_fq_helper
    _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor
    quantized::add quantized::add_relu quantized::add_scalar quantized::add_scalar_relu quantized::cat
    quantized::cat_relu quantized::celu quantized::clamp quantized::dropout quantized::elu
    quantized::embedding_byte quantized::embedding_4bit quantized::embedding_bag_byte
    quantized::embedding_bag_4bit quantized::hardswish quantized::leaky_relu quantized::mul
    quantized::mul_relu quantized::mul_scalar quantized::mul_scalar_relu quantized::prelu quantized::relu6
    quantized::sigmoid quantized::threshold
    quantized_decomposed::choose_qparams quantized_decomposed::quantize_per_tensor
    quantized_decomposed::quantize_per_channel quantized_decomposed::dequantize_per_tensor
    quantized_decomposed::dequantize_per_channel
    prim::device prim::dtype prim::layout
"""
FREE = frozenset(" ".join((_MADE, _MOVED, _REDUCED, _POOLED, _NORMALISED, _ELEMENTWISE)).split())
"""Operators without a product that counts, besides views and those that torch itself marks as pointwise."""
