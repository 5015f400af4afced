"""The operators in plain PyTorch: slow and obviously right.

Same signatures and results as :mod:`evenconv_cuda.functional`. Weights and biases of another dtype than ``x`` are cast
to it, as an unfused network under autocast would.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .directions import SYMMETRIC, Directions, as_directions, group_sizes, padding


def symmetric_pad2d(x: Tensor, kernel_size: int, directions: Directions = SYMMETRIC) -> Tensor:
    directions = as_directions(directions)
    if len(set(directions)) == 1:
        return _pad(x, kernel_size, directions[0])
    groups = x.split(group_sizes(x.shape[1]), dim=1)
    return torch.cat([_pad(group, kernel_size, direction) for group, direction in zip(groups, directions)], dim=1)


def symmetric_crop2d(x: Tensor, kernel_size: int, directions: Directions = SYMMETRIC) -> Tensor:
    """The inverse and the transpose of :func:`symmetric_pad2d`."""
    height, width = x.shape[2] - kernel_size + 1, x.shape[3] - kernel_size + 1
    cropped = []
    for group, direction in zip(x.split(group_sizes(x.shape[1]), dim=1), as_directions(directions)):
        top, _, left, _ = padding(kernel_size, direction)
        cropped.append(group[:, :, top : top + height, left : left + width])
    return torch.cat(cropped, dim=1)


def even_conv2d(x, weight, bias=None, stride=1, directions=SYMMETRIC) -> Tensor:
    return conv2d_of_padded(symmetric_pad2d(x, weight.shape[-1], directions), weight, bias, stride)


def conv2d_of_padded(x, weight, bias, stride) -> Tensor:
    """The dense convolution of a padded map."""
    # The strides of a size of 1 are arbitrary, and PyTorch makes no gradient for some of an only output channel's.
    weight = weight.contiguous() if weight.shape[0] == 1 else weight
    return F.conv2d(x, weight.to(x.dtype), _cast(bias, x), stride)


def even_depthwise_conv2d(x, weight, bias=None, stride=1, directions=SYMMETRIC) -> Tensor:
    padded = symmetric_pad2d(x, weight.shape[-1], directions)
    return F.conv2d(padded, weight.to(x.dtype), _cast(bias, x), stride, groups=x.shape[1])


def separable_depthwise_conv2d(x, weight_row, weight_col, bias_row=None, bias_col=None, stride=1) -> Tensor:
    stride_h, stride_w = (stride, stride) if isinstance(stride, int) else stride
    if weight_row is not None:
        row_stride = (stride_h if weight_col is None else 1, stride_w)
        x = _depthwise(x, weight_row, bias_row, row_stride)
    if weight_col is not None:
        col_stride = (stride_h, stride_w if weight_row is None else 1)
        x = _depthwise(x, weight_col, bias_col, col_stride)
    return x


def xsep_conv2d(
    x, weight_even, weight_row, weight_col, bias_even=None, bias_row=None, bias_col=None, stride=1, directions="BR"
) -> Tensor:
    even = even_depthwise_conv2d(x, weight_even, bias_even, 1, directions)
    return separable_depthwise_conv2d(even, weight_row, weight_col, bias_row, bias_col, stride)


def _depthwise(x, weight, bias, stride):
    centred = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(x, weight.to(x.dtype), _cast(bias, x), stride, centred, groups=x.shape[1])


def _pad(x: Tensor, kernel_size: int, direction: str) -> Tensor:
    top, bottom, left, right = padding(kernel_size, direction)
    return F.pad(x, (left, right, top, bottom))


def _cast(bias, x):
    return None if bias is None else bias.to(x.dtype)
