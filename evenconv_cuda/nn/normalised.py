"""XSepConv with normalisation after each of its three passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from .. import checks
from .. import functional as EF
from ..directions import Directions
from .arguments import Padding, check_fixed, square
from .groups import ChannelGroups, plain_padding, read_groups
from .separable import _SeparatedConv2d


class XSepConv2dNormActivation(ChannelGroups, _SeparatedConv2d):
    """XSepConv with normalisation after each pass and an activation after the first two.

    ``y = norm_col(col(act(norm_row(row(act(norm_even(even(x))))))))``, ``(N, C, H, W)`` to
    ``(N, C, ceil(H / stride), ceil(W / stride))``, K odd, 1 to 31. The activation after the last normalisation is the
    caller's, as after ``BatchNorm2d``. Parameters: ``weight_even`` (C, 1, 2, 2), ``weight_row`` (C, 1, 1, K) and
    ``weight_col`` (C, 1, K, 1), no biases; submodules ``norm_even``, ``norm_row``, ``norm_col`` and ``act``.

    Where the normalisations are ``BatchNorm2d`` with running statistics in eval mode, they are folded into the weights
    and into biases at every call, which stays differentiable: each pass is then one operator, and without activation
    all three are one. That is exact, since a pass pads zeros beside the normalised map of the pass before.

    Args:
        stride: 1 or 2, or a pair; the columns' belongs to the 1×K, the rows' to the K×1.
        bias: False, as normalisation follows.
        norm_layer: makes a normalisation from the number of channels.
        activation_layer: makes the activation between the passes; None leaves it out.
        directions, group_sizes: where the 2×2 pads, as in :class:`~evenconv_cuda.nn.XSepConv2d`.

    See :mod:`evenconv_cuda.nn` for the other arguments.

    Source: Chen et al., arXiv 2002.12046, section 3. Whether anything stands between the passes is not settled there;
    this is the form of a third party's implementation.
    """

    weight_even: Parameter
    norm_even: torch.nn.Module
    norm_row: torch.nn.Module
    norm_col: torch.nn.Module
    act: torch.nn.Module | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: EF.Stride = 1,
        padding: Padding = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int | None = None,
        bias: bool = False,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        norm_layer: Callable[[int], torch.nn.Module] = torch.nn.BatchNorm2d,
        activation_layer: Callable[[], torch.nn.Module] | None = torch.nn.ReLU,
        directions: Directions | None = None,
        group_sizes: Sequence[int] | None = None,
    ):
        size = checks.odd_kernel(square(kernel_size))
        check_fixed(plain_padding(padding), dilation, padding_mode, size)
        if bias:
            raise ValueError(f"bias is {bias!r}; accepted is False (normalisation follows each pass)")
        kernels = {"even": (2, 2), "row": (1, size), "col": (size, 1)}
        super().__init__(in_channels, out_channels, size, stride, groups, bias, kernels, device, dtype)
        self._set_groups(*read_groups(padding, directions, group_sizes, "BR"))
        for name in self._passes:
            self.add_module(f"norm_{name}", norm_layer(in_channels).to(device=device, dtype=dtype))
        self.act = None if activation_layer is None else activation_layer()

    def forward(self, x: Tensor) -> Tensor:
        norms = [getattr(self, f"norm_{name}") for name in self._passes]
        weights = [getattr(self, f"weight_{name}") for name in self._passes]
        if not all(_is_affine(norm) for norm in norms):
            return self._passes_of(x, weights, [None] * 3, norms)
        weights, biases = zip(*(_folded(weight, norm) for weight, norm in zip(weights, norms)))
        if self.act is None:
            return self._depthwise(EF.xsep_conv2d, self.stride, x, *weights, *biases)
        return self._passes_of(x, weights, biases, [torch.nn.Identity()] * 3)

    def _passes_of(self, x: Tensor, weights, biases, norms) -> Tensor:
        (even, row, col), (even_bias, row_bias, col_bias) = weights, biases
        norm_even, norm_row, norm_col = norms
        act = self.act or torch.nn.Identity()
        rows, columns = self.stride
        x = act(norm_even(self._depthwise(EF.even_depthwise_conv2d, 1, x, even, even_bias)))
        x = act(norm_row(EF.separable_depthwise_conv2d(x, row, None, row_bias, None, (1, columns))))
        return norm_col(EF.separable_depthwise_conv2d(x, None, col, None, col_bias, (rows, 1)))


def _is_affine(norm: torch.nn.Module) -> bool:
    """Whether a normalisation multiplies and adds what does not depend on its input."""
    return type(norm) is torch.nn.BatchNorm2d and not norm.training and norm.running_mean is not None


def _folded(weight: Tensor, norm: torch.nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weight and bias of a pass with its normalisation; in float32 at least, which the operators take beside a
    half-precision map."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    scale = (norm.running_var.to(dtype) + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.to(dtype)
    bias = -norm.running_mean.to(dtype) * scale
    if norm.affine:
        bias = bias + norm.bias.to(dtype)
    return weight.to(dtype) * scale[:, None, None, None], bias
