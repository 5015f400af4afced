"""DO-Conv: convolutions over-parameterised by a depthwise factor that folds away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from .. import checks
from .. import functional as EF
from ..directions import Directions
from .arguments import Padding
from .composing import KeptKernels, compose
from .computed import ComputedWeight
from .even import EvenConv2d
from .groups import ChannelGroups

_CONV2D_ATTRIBUTES = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_KERNELS = KeptKernels()


class _OverParameterised(torch.nn.Module):
    """``W``, ``D`` and ``d_diag`` in place of the weight of ``plain``, a convolution on the meta device."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: str | tuple[int, ...]
    dilation: tuple[int, int]
    groups: int
    padding_mode: str
    W: Parameter
    D: Parameter | None
    d_diag: Tensor | None
    bias: Parameter | None

    def __init__(self, plain: torch.nn.Conv2d, d_mul: int | None, device, dtype):
        super().__init__()
        for name in (*_CONV2D_ATTRIBUTES, "padding_mode"):
            setattr(self, name, getattr(plain, name))
        place = {"device": device, "dtype": dtype}
        taps = math.prod(self.kernel_size)
        self.d_mul = _checked_d_mul(d_mul, taps)
        self.W = Parameter(torch.empty(self.out_channels, self.in_channels // self.groups, self.d_mul, **place))
        bias = None if plain.bias is None else Parameter(torch.empty(self.out_channels, **place))
        self.register_parameter("bias", bias)
        if taps == 1:
            self.register_parameter("D", None)
            self.register_buffer("d_diag", None)
        else:
            self.D = Parameter(torch.empty(self.in_channels, taps, self.d_mul, **place))
            self.register_buffer("d_diag", torch.empty(self.in_channels, taps, self.d_mul, **place))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors' initialisation: ``Conv2d``'s of ``W`` and ``bias``, zeros for ``D``."""
        torch.nn.init.kaiming_uniform_(self.W, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.W.shape[1:]))
            torch.nn.init.uniform_(self.bias, -bound, bound)
        if self.D is not None:
            torch.nn.init.zeros_(self.D)
            taps = self.D.shape[1]
            whole = self.d_mul // taps * taps
            self.d_diag.zero_()
            self.d_diag[:, :, :whole] = torch.eye(taps, dtype=self.D.dtype, device=self.D.device).repeat(
                1, whole // taps
            )

    @property
    def weight(self) -> Tensor:
        """The kernel that ``W`` and ``D`` make, ``(out_channels, in_channels / groups, M, N)``.

        To write into it raises, as that would be lost. To assign it sets ``W`` and ``D`` so that they make it.
        """
        kernel = self._kernel()
        return kernel if self.D is None else kernel.as_subclass(ComputedWeight)

    @weight.setter
    def weight(self, weight: Tensor) -> None:
        taps = math.prod(self.kernel_size)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        if weight.shape != shape:
            raise ValueError(f"weight has shape {tuple(weight.shape)}; accepted is {shape}")
        with torch.no_grad():
            self.W.zero_()[:, :, :taps] = weight.flatten(2)
            if self.D is not None:
                self.D.zero_()

    def __setattr__(self, name: str, value) -> None:
        if name == "weight":  # which torch.nn.Module would register as a parameter beside W
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> Self:
        _KERNELS.clear(self)
        return super().train(mode)

    def _kernel(self) -> Tensor:
        if self.D is None:
            return self.W.unflatten(2, self.kernel_size)
        if self.training or torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return self._composed()
        return _KERNELS.of(self)

    def _composed(self) -> Tensor:
        # W and D in full precision, as the weight that they stand for would be.
        with torch.autocast(self.W.device.type, enabled=False) if checks.autocasts(self.W) else nullcontext():
            return compose(self.W, self.D, self.d_diag, self.groups).unflatten(2, self.kernel_size)

    def load_plain_(self, plain: torch.nn.Conv2d) -> None:
        """Take over a convolution's weight and bias, so that this layer computes what it does; frozen ones stay
        frozen."""
        self.weight = plain.weight
        for parameter in filter(lambda parameter: parameter is not None, (self.W, self.D)):
            parameter.requires_grad_(plain.weight.requires_grad)
        if self.bias is not None:
            with torch.no_grad():
                self.bias.copy_(plain.bias).requires_grad_(plain.bias.requires_grad)

    def _folded_into(self, plain: torch.nn.Conv2d) -> torch.nn.Conv2d:
        with torch.no_grad():
            plain.weight.copy_(self._kernel()).requires_grad_(self.W.requires_grad)
            if self.bias is not None:
                plain.bias.copy_(self.bias).requires_grad_(self.bias.requires_grad)
        return plain.train(self.training)

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        if f"{prefix}d_diag" not in state_dict and f"{prefix}D_diag" in state_dict:  # the authors' until July 2022
            state_dict[f"{prefix}d_diag"] = state_dict.pop(f"{prefix}D_diag")
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        if strict and f"{prefix}weight" in state_dict and f"{prefix}W" not in state_dict:
            errors.append(
                f"{prefix}weight is a plain convolution's; accepted are {prefix}W, {prefix}D and {prefix}d_diag "
                f'(load it into the plain model, then evenconv_cuda.convert(model, "doconv"))'
            )

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, d_mul={self.d_mul}"]
        parts += ["bias=False"] if self.bias is None else []
        parts += [f"padding_mode={self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts)


class DOConv2d(_OverParameterised):
    """Depthwise over-parameterised convolution, dense, grouped or depthwise.

    ``y = conv2d(x, K)`` with ``K[o, i] = (D + d_diag)[c] @ W[o, i]``, c the input channel of (o, i): ``(N, in_channels,
    H, W)`` to what ``Conv2d`` of these arguments gives. At the start with ``d_mul`` = M * N, ``K`` equals ``W``.

    State: ``W`` (out_channels, in_channels / groups, S), ``D`` and the constant ``d_diag`` (in_channels, M * N, S) and
    ``bias`` (out_channels), S = ``d_mul``; a 1×1 kernel has no ``D``. Checkpoints of the authors' layers load, for
    ``groups`` = 1 and for depthwise layers with as many output as input channels. For other groups the authors' layer
    pairs some filters with the ``D`` of another group, this one each with that of its own input channels (derived):
    the shapes fit there too, the result is another.

    Args:
        kernel_size: M×N, an int or a pair.
        d_mul: depth multiplier S of ``D``, at least M * N; None is M * N.

    Others: :class:`torch.nn.Conv2d`'s, in its order. Checkpoints from before July 2022, whose buffer is ``D_diag``,
    load too. In eval mode under ``torch.inference_mode`` the kernel is kept from one forward to the next. Else folding
    costs ``out_channels * in_channels / groups * M * N * S`` multiplications a forward (as a product of blocks up to
    four times as many) and, for backward, the kernel.

    Source: Cao et al., "DO-Conv: Depthwise Over-parameterized Convolutional Layer", arXiv 2006.12030, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        d_mul: int | None = None,
    ):
        options = stride, padding, dilation, groups, bias, padding_mode
        plain = torch.nn.Conv2d(in_channels, out_channels, kernel_size, *options, device="meta")
        super().__init__(plain, d_mul, device, dtype)
        self._pads = tuple(plain._reversed_padding_repeated_twice)

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._pads, self.padding_mode), 0
        return F.conv2d(x, self._kernel(), self.bias, self.stride, padding, self.dilation, self.groups)

    def fold(self) -> torch.nn.Conv2d:
        """The plain ``Conv2d`` that computes the same."""
        arguments = [getattr(self, name) for name in _CONV2D_ATTRIBUTES]
        place = {"device": self.W.device, "dtype": self.W.dtype}
        return self._folded_into(torch.nn.Conv2d(*arguments, self.bias is not None, self.padding_mode, **place))


class DOEvenConv2d(ChannelGroups, _OverParameterised):
    """:class:`EvenConv2d` (C2sp, C4sp) over-parameterised as :class:`DOConv2d` is; derived, no paper combines them.

    Arguments and shapes are ``EvenConv2d``'s, ``d_mul`` and the state ``DOConv2d``'s.

    Sources: arXiv 1903.08385, section 3.2; arXiv 2006.12030, section 3.
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
        d_mul: int | None = None,
    ):
        options = stride, padding, dilation, groups, bias, padding_mode
        groups_of = {"directions": directions, "group_sizes": group_sizes}
        plain = EvenConv2d(in_channels, out_channels, kernel_size, *options, device="meta", **groups_of)
        super().__init__(plain, d_mul, device, dtype)
        self._set_groups(plain.directions, plain.group_sizes)

    def forward(self, x: Tensor) -> Tensor:
        return self._dense(x, self._kernel(), self.bias)

    def fold(self) -> EvenConv2d:
        """The :class:`EvenConv2d` that computes the same."""
        place = {"device": self.W.device, "dtype": self.W.dtype}
        arguments = [getattr(self, name) for name in _CONV2D_ATTRIBUTES]
        groups_of = {"directions": self.directions, "group_sizes": self.group_sizes}
        return self._folded_into(EvenConv2d(*arguments, self.bias is not None, **groups_of, **place))


def _checked_d_mul(d_mul: int | None, taps: int) -> int:
    if d_mul is None or taps == 1:
        return taps
    if not checks.integer(d_mul) or d_mul < taps:
        raise ValueError(f"d_mul is {d_mul!r}; accepted are None and whole numbers from M * N = {taps}")
    return int(d_mul)
