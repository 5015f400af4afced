"""Even-sized kernels: the pad alone, dense (C2sp / C4sp) and depthwise."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from .. import functional as EF
from ..directions import SYMMETRIC, Directions, as_directions
from .arguments import check_depthwise, check_fixed, shown_directions, square


class SymmetricPad2d(torch.nn.Module):
    """Zeros so that an even kernel keeps H×W: :func:`~evenconv_cuda.functional.symmetric_pad2d`.

    ``(N, C, H, W)`` to ``(N, C, H + k - 1, W + k - 1)``.

    Args:
        kernel_size: 2 or 4, of the convolution that follows.
        directions: one for all channels or one per channel group.

    Source: arXiv 1903.08385, section 3.2.
    """

    def __init__(self, kernel_size: int, directions: Directions = SYMMETRIC):
        super().__init__()
        self.kernel_size = checks.even_kernel(square(kernel_size))
        self.directions = as_directions(directions)

    def forward(self, x: Tensor) -> Tensor:
        return EF.symmetric_pad2d(x, self.kernel_size, self.directions)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, directions={shown_directions(self.directions)}"


class _EvenConv2d(torch.nn.Conv2d):
    """A ``Conv2d`` whose even kernel is padded as ``directions`` say."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, groups, bias, device, dtype, directions):
        size = checks.even_kernel(square(kernel_size))
        stride = checks.stride_pair(stride)
        super().__init__(in_channels, out_channels, size, stride, groups=groups, bias=bias, device=device, dtype=dtype)
        self.padding = "same"
        self.directions = as_directions(directions)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, directions={shown_directions(self.directions)}"


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
        kernel_size: int,
        stride: EF.Stride = 1,
        padding: str = "same",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        directions: Directions = SYMMETRIC,
    ):
        check_fixed(padding, dilation, padding_mode)
        if groups != 1:
            raise ValueError(f"groups is {groups}; accepted is 1 (EvenDepthwiseConv2d is the depthwise layer)")
        super().__init__(in_channels, out_channels, kernel_size, stride, 1, bias, device, dtype, directions)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return EF.even_conv2d(input, weight, bias, self.stride, self.directions)


class C2sp(EvenConv2d):
    """:class:`EvenConv2d` with a 2×2 kernel: the paper's C2sp. Takes the arguments that follow ``kernel_size``."""

    def __init__(self, in_channels: int, out_channels: int, *args, **kwargs):
        super().__init__(in_channels, out_channels, 2, *args, **kwargs)


class C4sp(EvenConv2d):
    """:class:`EvenConv2d` with a 4×4 kernel: the paper's C4sp. Takes the arguments that follow ``kernel_size``."""

    def __init__(self, in_channels: int, out_channels: int, *args, **kwargs):
        super().__init__(in_channels, out_channels, 4, *args, **kwargs)


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
        kernel_size: int,
        stride: EF.Stride = 1,
        padding: str = "same",
        dilation: int = 1,
        groups: int | None = None,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        directions: Directions = SYMMETRIC,
    ):
        check_fixed(padding, dilation, padding_mode)
        check_depthwise(in_channels, out_channels, groups)
        super().__init__(in_channels, out_channels, kernel_size, stride, in_channels, bias, device, dtype, directions)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return EF.even_depthwise_conv2d(input, weight, bias, self.stride, self.directions)
