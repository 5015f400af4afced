"""Deployment: the package's layers as standard ones, for ONNX, TensorRT and mobile runtimes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import record
from .directions import group_sizes, padding
from .nn import (
    DOConv2d,
    DOEvenConv2d,
    EvenConv2d,
    EvenDepthwiseConv2d,
    SeparableDepthwiseConv2d,
    SymmetricPad2d,
    XSepConv2d,
    XSepConv2dNormActivation,
)
from .nn.groups import ChannelGroups
from .surgery import computes_as, replace_layers, why_not_exchangeable


def to_standard(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in which the package's layers are standard ones that compute the same, to rounding.

    A k×k kernel with even k becomes the (k + 1)×(k + 1) kernel, padded by k / 2 on all sides, that holds it in the
    corner which its channel's direction picks, with zeros elsewhere; XSepConv becomes that, a 1×K and a K×1
    ``nn.Conv2d``; DO-Conv is folded. All else stays, device, dtype and modes too; a layer with nothing to train becomes
    one, and weights that layers share become each layer's own.

    Operators that a model calls as functions of :mod:`evenconv_cuda.functional` are not layers and stay.

    Raises:
        ValueError: naming the layer, if it is a subclass that computes otherwise, has hooks, is parametrised, or was
            compiled by itself.
    """
    try:
        twin = nn.ModuleList([copy.deepcopy(model)])  # so that the model itself may be a layer
    except Exception as error:
        raise ValueError(f"the model cannot be copied: {error}") from error
    replacements = {}
    for name, layer in twin[0].named_modules():
        if (kind := next((kind for kind in _LAYERS if isinstance(layer, kind)), None)) is None:
            continue
        reason = why_not_exchangeable(layer)
        if not computes_as(layer, kind):
            reason = f"its type is {type(layer).__name__}, which computes otherwise than {kind.__name__}"
        if reason is not None:
            raise ValueError(f"layer {name!r} has no standard form: {reason}")
        replacements[layer] = _in_place_of(layer, standard(layer))
    replace_layers(twin, replacements)
    record.forget(twin)
    return twin[0]


def _in_place_of(layer: nn.Module, plain: nn.Module) -> nn.Module:
    """The new modules of ``plain`` in the mode of ``layer``, and frozen if it is."""
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    for module in set(plain.modules()).difference(layer.modules()):
        module.training = layer.training
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(not frozen)
    return plain


@singledispatch
def standard(layer: nn.Module) -> nn.Module:
    """What one of the package's layers becomes."""
    raise TypeError(f"layer is a {type(layer).__name__}; accepted are {', '.join(kind.__name__ for kind in _LAYERS)}")


@standard.register
def _(layer: EvenConv2d):
    return _conv(_centred(layer.weight, 1, layer), layer.bias, layer.stride, groups=1)


@standard.register
def _(layer: EvenDepthwiseConv2d):
    return _even(layer.weight, layer.bias, layer.stride, layer)


@standard.register
def _(layer: SeparableDepthwiseConv2d):
    return nn.Sequential(OrderedDict(row=_row(layer), col=_col(layer)))


@standard.register
def _(layer: XSepConv2d):
    even = _even(layer.weight_even, layer.bias_even, 1, layer)
    return nn.Sequential(OrderedDict(even=even, row=_row(layer), col=_col(layer)))


@standard.register
def _(layer: XSepConv2dNormActivation):
    even = _even(layer.weight_even, None, 1, layer)
    act = {} if layer.act is None else {"act_even": layer.act, "act_row": layer.act}
    parts = {"even": even, "row": _row(layer), "col": _col(layer), **act}
    parts |= {name: module for name, module in layer.named_children() if name.startswith("norm_")}
    order = ("even", "norm_even", "act_even", "row", "norm_row", "act_row", "col", "norm_col")
    return nn.Sequential(OrderedDict((name, parts[name]) for name in order if name in parts))


@standard.register
def _(layer: DOConv2d):
    return layer.fold()


@standard.register
def _(layer: DOEvenConv2d):
    return standard(layer.fold())


@standard.register
def _(layer: SymmetricPad2d):
    pads = []
    for direction in layer.directions:
        top, bottom, left, right = padding(layer.kernel_size, direction)
        pads.append([left, right, top, bottom])
    return nn.ZeroPad2d(pads[0]) if len(set(layer.directions)) == 1 else _GroupwisePad2d(pads, layer.group_sizes)


class _GroupwisePad2d(nn.Module):
    """Split, pad and concatenate, which have no layers of their own in PyTorch; ``torch.jit.script`` compiles it."""

    def __init__(self, pads: list[list[int]], sizes: tuple[int, ...] | None):
        super().__init__()
        self.pads = pads
        self.sizes = [*(sizes or group_sizes(0))]

    def forward(self, x: Tensor) -> Tensor:
        sizes = self.sizes if sum(self.sizes) > 0 else group_sizes(x.shape[1])
        return torch.cat([F.pad(group, pad) for group, pad in zip(x.split(sizes, 1), self.pads)], 1)


def _even(weight, bias, stride, layer) -> nn.Conv2d:
    return _conv(_centred(weight, 0, layer), bias, stride, groups=len(weight))


def _row(layer) -> nn.Conv2d:
    return _conv(layer.weight_row, layer.bias_row, (1, layer.stride[1]), layer.groups)


def _col(layer) -> nn.Conv2d:
    return _conv(layer.weight_col, layer.bias_col, (layer.stride[0], 1), layer.groups)


def _centred(weight: Tensor, channels: int, layer: ChannelGroups) -> Tensor:
    """An even kernel in the corners of an odd one; ``channels`` is the dimension of the input channels."""
    placed = []
    for part, direction in zip(weight.split(layer.group_sizes, channels), layer.directions):
        top, left = int(direction[0] == "B"), int(direction[1] == "R")
        placed.append(F.pad(part, (left, 1 - left, top, 1 - top)))
    return torch.cat(placed, channels)


def _conv(weight: Tensor, bias: Tensor | None, stride, groups: int) -> nn.Conv2d:
    """A convolution with this odd kernel that keeps H×W at stride 1."""
    kernel_size = tuple(weight.shape[2:])
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel_size,
        stride,
        tuple(size // 2 for size in kernel_size),
        groups=groups,
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    with torch.no_grad():
        conv.weight.copy_(weight)
        if bias is not None:
            conv.bias.copy_(bias)
    return conv


_LAYERS = tuple(kind for kind in standard.registry if kind is not object)
