"""The operators' definition, written apart from the package: float64, from the papers' tables and exact equivalents.

An even kernel is a larger odd one with zeros: k = 2 sits in a corner of a 3×3 (k = 4 of a 5×5) that the channel's
direction picks. Strides are taken by computing everything and keeping every second row or column.
"""

import torch
import torch.nn.functional as F

# (top, bottom, left, right), as the papers' table has them.
PADS = {
    2: {"BR": (0, 1, 0, 1), "TL": (1, 0, 1, 0), "BL": (0, 1, 1, 0), "TR": (1, 0, 0, 1)},
    4: {"BR": (1, 2, 1, 2), "TL": (2, 1, 2, 1), "BL": (1, 2, 2, 1), "TR": (2, 1, 1, 2)},
}


def direction_of_channel(channels, directions):
    if isinstance(directions, str):
        return [directions] * channels
    quotient, rest = divmod(channels, 4)
    return [d for group, d in enumerate(directions) for _ in range(quotient + (group < rest))]


def pair(stride):
    return (stride, stride) if isinstance(stride, int) else tuple(stride)


def symmetric_pad2d(x, kernel_size, directions):
    N, C, H, W = x.shape
    planes = []
    for c, direction in enumerate(direction_of_channel(C, directions)):
        top, bottom, left, right = PADS[kernel_size][direction]
        rows = torch.cat([x.new_zeros(N, top, W), x[:, c], x.new_zeros(N, bottom, W)], dim=1)
        height = H + top + bottom
        planes.append(torch.cat([x.new_zeros(N, height, left), rows, x.new_zeros(N, height, right)], dim=2))
    return torch.stack(planes, dim=1)


def in_a_corner(weight, direction):
    """A k×k kernel as a centred (k+1)×(k+1) one; zeros on the side that is padded less."""
    top, left = direction[0] == "B", direction[1] == "R"
    return F.pad(weight, (int(left), int(not left), int(top), int(not top)))


def even_depthwise_conv2d(x, weight, bias=None, stride=1, directions=("BR", "TL", "BL", "TR")):
    kernels = [in_a_corner(weight[c], d) for c, d in enumerate(direction_of_channel(x.shape[1], directions))]
    return _strided(_centred(x, torch.stack(kernels), bias, groups=x.shape[1]), stride)


def even_conv2d(x, weight, bias=None, stride=1, directions=("BR", "TL", "BL", "TR")):
    kernels = [in_a_corner(weight[:, c], d) for c, d in enumerate(direction_of_channel(x.shape[1], directions))]
    return _strided(_centred(x, torch.stack(kernels, dim=1), bias, groups=1), stride)


def separable_depthwise_conv2d(x, weight_row, weight_col, bias_row=None, bias_col=None, stride=1):
    for weight, bias in ((weight_row, bias_row), (weight_col, bias_col)):
        if weight is not None:
            x = _centred(x, weight, bias, groups=x.shape[1])
    return _strided(x, stride)


def xsep_conv2d(
    x, weight_even, weight_row, weight_col, bias_even=None, bias_row=None, bias_col=None, stride=1, directions="BR"
):
    even = even_depthwise_conv2d(x, weight_even, bias_even, 1, directions)
    return separable_depthwise_conv2d(even, weight_row, weight_col, bias_row, bias_col, stride)


def _centred(x, weight, bias, groups):
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(x, weight, bias, padding=padding, groups=groups)


def _strided(y, stride):
    stride_h, stride_w = pair(stride)
    return y[:, :, ::stride_h, ::stride_w]
