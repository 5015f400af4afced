"""The operators as functions: C2sp / C4sp (arXiv 1903.08385) and XSepConv (arXiv 2002.12046).

Common to all:

- ``x`` is ``(N, C, H, W)``, contiguous, channels_last or any strides; the result keeps its memory format. ``N`` may be
  0; ``C``, ``H``, ``W`` are at least 1. As for ``torch.nn.functional.conv2d``, ``x`` may also be a single map
  ``(C, H, W)``; the result then has no ``N`` either.
- dtypes are float32, float64, float16 and bfloat16. Sums of the half types are taken in float32, and their weights may
  be float32 too. Under autocast the convolutions cast ``x`` to the autocast dtype.
- ``stride`` is 1 or 2, or a pair (rows, columns); the result has ``ceil(H / stride)`` rows.
- ``directions`` is ``"BR"``, ``"TL"``, ``"BL"`` or ``"TR"`` for all channels, or four of them for the four channel
  groups (sizes ``q + 1`` for the first ``C % 4`` groups, else ``q = C // 4``): the corner that an even kernel's zeros
  go to.
- A wrong argument raises ``ValueError`` or ``TypeError`` that names it. Where memory is short, PyTorch's own exception
  is raised, ``torch.OutOfMemoryError`` on a GPU.

On a device that the binary has no kernels for, and while ``torch.onnx.export`` looks, the functions run as
:mod:`evenconv_cuda.reference` does. ``torch.fx`` and other implementations of ``__torch_function__`` see one call each.

Every function is twice differentiable and works under ``torch.compile``, ``torch.export``, ``torch.func`` and autocast.
Weight gradients of the depthwise functions have the same bits for any number of threads; :func:`even_conv2d`'s, which
are PyTorch's, for a given number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from . import checks, ops, reference
from .directions import SYMMETRIC, Directions, numbers

Stride = int | tuple[int, int]
Options = ParamSpec("Options")

__all__ = [
    "SYMMETRIC",
    "even_conv2d",
    "even_depthwise_conv2d",
    "separable_depthwise_conv2d",
    "symmetric_pad2d",
    "xsep_conv2d",
]

Arguments = ParamSpec("Arguments")


def _overridable(function: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Offers a call to ``__torch_function__`` of its arguments first, as PyTorch's functions do."""

    @wraps(function)
    def offered(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        given = (*args, *kwargs.values())
        if has_torch_function(given):
            return handle_torch_function(offered, given, *args, **kwargs)
        return function(*args, **kwargs)

    return offered


def _fused(x: Tensor) -> bool:
    return ops.fused(x) and not torch.onnx.is_in_onnx_export()


def _also_unbatched(operator: Callable[Concatenate[Tensor, Options], Tensor]):
    """Makes an operator on ``(N, C, H, W)`` take ``(C, H, W)`` as well."""

    @wraps(operator)
    def on_any(x: Tensor, *args: Options.args, **options: Options.kwargs) -> Tensor:
        checks.feature_map(x, unbatched=True)
        if x.dim() == 3:
            return operator(x.unsqueeze(0), *args, **options).squeeze(0)
        return operator(x, *args, **options)

    return on_any


@_overridable
@_also_unbatched
def symmetric_pad2d(x: Tensor, kernel_size: int, directions: Directions = SYMMETRIC) -> Tensor:
    """Pad ``k - 1`` rows and columns of zeros, each channel group towards its own corner, in one pass.

    Zeros as (top, bottom, left, right): for k = 2, BR is (0, 1, 0, 1), TL (1, 0, 1, 0), BL (0, 1, 1, 0) and TR
    (1, 0, 0, 1) (the authors'); for k = 4, BR is (1, 2, 1, 2) and the others accordingly (derived: the paper states the
    receptive field only).

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: 2 or 4, of the convolution that follows.
        directions: where the zeros go, see the module.

    Returns:
        ``(N, C, H + k - 1, W + k - 1)``.

    Source: Wu et al., "Convolution with even-sized kernels and symmetric padding", NeurIPS 2019, section 3.2.
    """
    kernel_size = checks.even_kernel(kernel_size)
    if not _fused(x):
        return reference.symmetric_pad2d(x, kernel_size, directions)
    return ops.symmetric_pad2d(x, kernel_size, numbers(directions))


@_overridable
@_also_unbatched
def even_depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Stride = 1,
    directions: Directions = SYMMETRIC,
) -> Tensor:
    """Depthwise convolution with an even kernel; the padded tensor never exists.

    ``y[n, c, h, w] = bias[c] + sum_ij weight[c, 0, i, j] * pad(x)[n, c, stride * h + i, stride * w + j]``

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``.
        weight: ``(C, 1, k, k)``, k = 2 or 4.
        bias: ``(C,)`` or None.
        stride: see the module.
        directions: see the module.

    Returns:
        ``(N, C, ceil(H / stride), ceil(W / stride))``. Saved for backward: ``x``, ``weight``, ``bias``.

    Source: arXiv 1903.08385, section 3.2, applied depthwise as in arXiv 2002.12046.
    """
    checks.even_depthwise_conv2d(x, weight, bias)
    stride = checks.stride_pair(stride)
    if not _fused(x):
        return reference.even_depthwise_conv2d(x, weight, bias, stride, directions)
    return ops.even_depthwise_conv2d(x, weight, bias, stride, numbers(directions))


@_overridable
@_also_unbatched
def even_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Stride = 1,
    directions: Directions = SYMMETRIC,
) -> Tensor:
    """Dense convolution with an even kernel and symmetric padding: C2sp (k = 2) and C4sp (k = 4).

    ``y = conv2d(symmetric_pad2d(x, k, directions), weight, bias, stride)``: the fused pad, then PyTorch's convolution.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``.
        weight: ``(O, C, k, k)``, k = 2 or 4.
        bias: ``(O,)`` or None.
        stride: see the module. The authors pool before a strided C2sp instead.
        directions: see the module; ``"BR"`` gives the paper's baseline C2 / C4.

    Returns:
        ``(N, O, ceil(H / stride), ceil(W / stride))``.

    Source: arXiv 1903.08385, section 3.2.
    """
    checks.even_conv2d(x, weight, bias)
    stride = checks.stride_pair(stride)
    if not _fused(x):
        return reference.even_conv2d(x, weight, bias, stride, directions)
    padded = ops.symmetric_pad2d(x, weight.shape[-1], numbers(directions))
    return reference.conv2d_of_padded(padded, weight, bias, stride)


@_overridable
@_also_unbatched
def separable_depthwise_conv2d(
    x: Tensor,
    weight_row: Tensor | None,
    weight_col: Tensor | None,
    bias_row: Tensor | None = None,
    bias_col: Tensor | None = None,
    stride: Stride = 1,
) -> Tensor:
    """A 1×K, then a K×1 depthwise convolution in one pass over memory.

    ``r[h, w] = bias_row + sum_j weight_row[j] * x[h, w + j - K // 2]`` and
    ``y[h, w] = bias_col + sum_i weight_col[i] * r[stride * h + i - K // 2, stride * w]``, zeros outside the map.

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``.
        weight_row: ``(C, 1, 1, K)``, K odd, 1 to 31, or None to leave the 1×K out.
        weight_col: ``(C, 1, K, 1)``, likewise; the two K may differ.
        bias_row, bias_col: ``(C,)`` or None; a bias needs its weight.
        stride: see the module. A single band takes it whole.

    Returns:
        ``(N, C, ceil(H / stride), ceil(W / stride))``. Saved for backward: ``x``, the weights and biases; the map
        between the two passes is computed again.

    Source: arXiv 2002.12046 (the last two of XSepConv's three passes).
    """
    tensors = (x, weight_row, weight_col, bias_row, bias_col)
    checks.separable_depthwise_conv2d(*tensors)
    stride = checks.stride_pair(stride)
    if not _fused(x):
        return reference.separable_depthwise_conv2d(*tensors, stride)
    return ops.separable_depthwise_conv2d(*tensors, stride)


@_overridable
@_also_unbatched
def xsep_conv2d(
    x: Tensor,
    weight_even: Tensor,
    weight_row: Tensor,
    weight_col: Tensor,
    bias_even: Tensor | None = None,
    bias_row: Tensor | None = None,
    bias_col: Tensor | None = None,
    stride: Stride = 1,
    directions: Directions = "BR",
) -> Tensor:
    """XSepConv: 2×2 with symmetric padding, 1×K and K×1, all depthwise, in one pass over memory.

    ``y = col(row(even(x)))``, each with its bias and zero padding; the stride belongs to the 1×K (columns) and the K×1
    (rows). Inside one layer all channels pad in one direction by default; over a network's layers the directions
    alternate (the paper's improved symmetric padding).

    Args:
        x: ``(N, C, H, W)`` or ``(C, H, W)``.
        weight_even: ``(C, 1, 2, 2)`` (or 4×4).
        weight_row: ``(C, 1, 1, K)``, K odd, 1 to 31.
        weight_col: ``(C, 1, K, 1)``.
        bias_even, bias_row, bias_col: ``(C,)`` or None.
        stride: see the module. Per axis, as here, it is derived; the paper states the down-sampling block as a whole.
        directions: of the even kernel's zeros, see the module.

    Returns:
        ``(N, C, ceil(H / stride), ceil(W / stride))``. Saved for backward: ``x``, the weights and biases; the maps
        between the passes are computed again.

    Source: Chen et al., "XSepConv: Extremely Separated Convolution", arXiv 2002.12046, section 3.
    """
    tensors = (x, weight_even, weight_row, weight_col, bias_even, bias_row, bias_col)
    checks.xsep_conv2d(*tensors)
    stride = checks.stride_pair(stride)
    if not _fused(x):
        return reference.xsep_conv2d(*tensors, stride, directions)
    return ops.xsep_conv2d(*tensors, stride, numbers(directions))
