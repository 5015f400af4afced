"""Floating-point operations of the dispatcher's operators, as ``torch.utils.flop_counter.FlopCounterMode`` counts them.

Two for each multiplication with a weight, zero padding included, as PyTorch counts its own convolutions. A backward is
a forward for the gradient of x and another for those of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch.utils.flop_counter import register_flop_formula

from .ops import even_depthwise_conv2d, separable_depthwise_conv2d, xsep_conv2d


def _even(out, x, weight, *_) -> int:
    return 2 * prod(out) * prod(weight[2:])


def _separable(out, x, row, col, *_) -> int:
    between = out if col is None else (*x[:3], out[3])
    return sum(2 * prod(result) * prod(weight[2:]) for result, weight in ((between, row), (out, col)) if weight)


def _xsep(out, x, even, row, col, *_) -> int:
    return _even(x, x, even) + _separable(out, x, row, col)


def _register(operator: torch._ops.OpOverload, count: Callable[..., int]) -> None:
    """``count`` takes the result's shape, then the operator's arguments with shapes for tensors."""

    @register_flop_formula(operator.overloadpacket)
    def forward(*arguments, out_shape, **_) -> int:
        return count(out_shape, *arguments)

    @register_flop_formula(getattr(torch.ops.evenconv_cuda, f"{operator._opname}_backward"))
    def backward(grad, *arguments, **_) -> int:
        wanted = arguments[-1]
        return count(grad, *arguments) * (wanted[0] + any(wanted[1:]))


_register(even_depthwise_conv2d, _even)
_register(separable_depthwise_conv2d, _separable)
_register(xsep_conv2d, _xsep)
