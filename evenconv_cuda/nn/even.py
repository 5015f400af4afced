"""Even-sized kernels: the pad alone, dense (C2sp / C4sp) and depthwise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks
from .. import functional as EF
from ..directions import SYMMETRIC, Directions
from .arguments import Padding, check_depthwise, check_fixed, check_kernel, square
from .groups import ChannelGroups, plain_padding, read_groups


class SymmetricPad2d(ChannelGroups):
    """Zeros so that an even kernel keeps H×W: :func:`~evenconv_cuda.functional.symmetric_pad2d`.

    ``(N, C, H, W)`` to ``(N, C, H + k - 1, W + k - 1)``.

    Args:
        kernel_size: 2 or 4, of the convolution that follows.
        directions: one for all channels or one per channel group.
        group_sizes: channels of the four groups; None is the paper's split of any number.

    Source: arXiv 1903.08385, section 3.2.
    """

    def __init__(self, kernel_size: int, directions: Directions = SYMMETRIC, group_sizes: Sequence[int] | None = None):
        super().__init__()
        self.kernel_size = checks.even_kernel(square(kernel_size))
        self._set_groups(directions, group_sizes)

    def forward(self, x: Tensor) -> Tensor:
        return self._pad(x, self.kernel_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, {super().extra_repr()}"


class _EvenConv2d(ChannelGroups, torch.nn.Conv2d):
    """A ``Conv2d`` whose even kernel is padded as ``directions`` say."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, groups, bias, device, dtype, groups_of):
        size = checks.even_kernel(square(kernel_size))
        stride = checks.stride_pair(stride)
        super().__init__(in_channels, out_channels, size, stride, groups=groups, bias=bias, device=device, dtype=dtype)
        self._set_groups(*groups_of)


class EvenConv2d(_EvenConv2d):
    """Dense convolution with a 2×2 or 4×4 kernel and symmetric padding (C2sp, C4sp).

    ``(N, in_channels, H, W)`` to ``(N, out_channels, ceil(H / stride), ceil(W / stride))`` by
    :func:`~evenconv_cuda.functional.even_conv2d`; ``directions="BR"`` gives the baseline C2 / C4. Parameters, their
    initialisation and the state_dict are ``Conv2d``'s: ``weight`` (out_channels, in_channels, k, k), ``bias``
    (out_channels). See :mod:`evenconv_cuda.nn` for the arguments.

    Source: arXiv 1903.08385, section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: EF.Stride = 1,
        padding: Padding = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        directions: Directions | None = None,
        group_sizes: Sequence[int] | None = None,
    ):
        check_fixed(plain_padding(padding), dilation, padding_mode)
        if groups != 1:
            raise ValueError(f"groups is {groups}; accepted is 1 (EvenDepthwiseConv2d is the depthwise layer)")
        groups_of = read_groups(padding, directions, group_sizes, SYMMETRIC)
        super().__init__(in_channels, out_channels, kernel_size, stride, 1, bias, device, dtype, groups_of)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._dense(input, weight, bias)


class C2sp(EvenConv2d):
    """:class:`EvenConv2d` with a 2×2 kernel: the paper's C2sp."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 2,
        stride: EF.Stride = 1,
        padding: Padding = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        directions: Directions | None = None,
        group_sizes: Sequence[int] | None = None,
    ):
        check_kernel(kernel_size, 2)
        options = stride, padding, dilation, groups, bias, padding_mode, device, dtype
        super().__init__(in_channels, out_channels, 2, *options, directions=directions, group_sizes=group_sizes)


class C4sp(EvenConv2d):
    """:class:`EvenConv2d` with a 4×4 kernel: the paper's C4sp."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 4,
        stride: EF.Stride = 1,
        padding: Padding = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        directions: Directions | None = None,
        group_sizes: Sequence[int] | None = None,
    ):
        check_kernel(kernel_size, 4)
        options = stride, padding, dilation, groups, bias, padding_mode, device, dtype
        super().__init__(in_channels, out_channels, 4, *options, directions=directions, group_sizes=group_sizes)


class EvenDepthwiseConv2d(_EvenConv2d):
    """Depthwise convolution with a 2×2 or 4×4 kernel, pad and convolution fused.

    ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))`` by
    :func:`~evenconv_cuda.functional.even_depthwise_conv2d`. Parameters are ``Conv2d``'s: ``weight`` (C, 1, k, k),
    ``bias`` (C). See :mod:`evenconv_cuda.nn` for the arguments.

    Source: arXiv 1903.08385, section 3.2, applied depthwise as in arXiv 2002.12046.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: EF.Stride = 1,
        padding: Padding = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int | None = None,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        directions: Directions | None = None,
        group_sizes: Sequence[int] | None = None,
    ):
        check_fixed(plain_padding(padding), dilation, padding_mode)
        check_depthwise(in_channels, out_channels, groups)
        groups_of = read_groups(padding, directions, group_sizes, SYMMETRIC)
        super().__init__(in_channels, out_channels, kernel_size, stride, in_channels, bias, device, dtype, groups_of)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._depthwise(EF.even_depthwise_conv2d, self.stride, input, weight, bias)
