"""Extremely separated kernels: 1×K and K×1, alone or after the even 2×2 of XSepConv."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from .. import checks
from .. import functional as EF
from ..directions import Directions
from .arguments import Padding, check_depthwise, check_fixed, square
from .groups import ChannelGroups, plain_padding, read_groups


class _SeparatedConv2d(torch.nn.Module):
    """Depthwise passes one after another, each with a weight and, with ``bias``, a bias of its own."""

    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: str | tuple[int, ...]
    dilation: tuple[int, int]
    padding_mode: str
    weight_row: Parameter
    weight_col: Parameter
    bias_row: Parameter | None
    bias_col: Parameter | None

    def __init__(self, in_channels, out_channels, kernel_size, stride, groups, bias, kernels, device, dtype):
        super().__init__()
        check_depthwise(in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, in_channels
        size = checks.odd_kernel(square(kernel_size))
        self.kernel_size = (size, size)
        self.stride = checks.stride_pair(stride)
        self.padding, self.dilation, self.padding_mode = "same", (1, 1), "zeros"
        self._passes = tuple(kernels)
        for name, kernel in kernels.items():
            weight = torch.empty(in_channels, 1, *kernel, device=device, dtype=dtype)
            self.register_parameter(f"weight_{name}", Parameter(weight))
        for name in kernels:
            empty = torch.empty(in_channels, device=device, dtype=dtype) if bias else None
            self.register_parameter(f"bias_{name}", None if empty is None else Parameter(empty))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """``Conv2d``'s initialisation of each pass."""
        for name in self._passes:
            weight, bias = getattr(self, f"weight_{name}"), getattr(self, f"bias_{name}")
            torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            if bias is not None:
                bound = 1 / math.sqrt(weight.shape[2] * weight.shape[3])
                torch.nn.init.uniform_(bias, -bound, bound)

    def _parameters_in_order(self) -> list[Tensor | None]:
        return [getattr(self, f"{kind}_{name}") for kind in ("weight", "bias") for name in self._passes]

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts.append(f"padding={self.padding}, groups={self.groups}")
        if getattr(self, f"bias_{self._passes[0]}") is None:
            parts.append("bias=False")
        return ", ".join(parts)


class SeparableDepthwiseConv2d(_SeparatedConv2d):
    """1×K, then K×1, depthwise: :func:`~evenconv_cuda.functional.separable_depthwise_conv2d`.

    ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``, K odd, 1 to 31. Parameters: ``weight_row``
    (C, 1, 1, K), ``weight_col`` (C, 1, K, 1) and, with ``bias``, ``bias_row`` and ``bias_col`` (C). See
    :mod:`evenconv_cuda.nn` for the arguments.

    Source: arXiv 2002.12046 (the last two of XSepConv's three passes).
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
    ):
        size = checks.odd_kernel(square(kernel_size))
        check_fixed(padding, dilation, padding_mode, size)
        kernels = {"row": (1, size), "col": (size, 1)}
        super().__init__(in_channels, out_channels, size, stride, groups, bias, kernels, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return EF.separable_depthwise_conv2d(x, *self._parameters_in_order(), self.stride)


class XSepConv2d(ChannelGroups, _SeparatedConv2d):
    """XSepConv in place of a K×K depthwise convolution: :func:`~evenconv_cuda.functional.xsep_conv2d`.

    ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``, K odd, 1 to 31; 4 + 2K weights per channel
    instead of K². Parameters: ``weight_even`` (C, 1, 2, 2), ``weight_row`` (C, 1, 1, K), ``weight_col`` (C, 1, K, 1)
    and, with ``bias``, ``bias_even``, ``bias_row`` and ``bias_col`` (C). ``directions`` is where the 2×2 pads: one
    direction for all channels, which a network's layers alternate so that the shifts cancel. See
    :mod:`evenconv_cuda.nn` for the other arguments.

    Source: Chen et al., arXiv 2002.12046, section 3.
    """

    weight_even: Parameter
    bias_even: Parameter | None

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
        size = checks.odd_kernel(square(kernel_size))
        check_fixed(plain_padding(padding), dilation, padding_mode, size)
        kernels = {"even": (2, 2), "row": (1, size), "col": (size, 1)}
        super().__init__(in_channels, out_channels, size, stride, groups, bias, kernels, device, dtype)
        self._set_groups(*read_groups(padding, directions, group_sizes, "BR"))

    def forward(self, x: Tensor) -> Tensor:
        return self._depthwise(EF.xsep_conv2d, self.stride, x, *self._parameters_in_order())
