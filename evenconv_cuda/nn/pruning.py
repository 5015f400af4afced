"""Channels taken from a layer, with all that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from .. import checks
from .doconv import DOConv2d, DOEvenConv2d
from .even import EvenConv2d, EvenDepthwiseConv2d
from .groups import ChannelGroups
from .separable import _SeparatedConv2d

Keep = Sequence[int] | Tensor | None
"""The channels that stay, in ascending order; None is all."""


def prune(layer: torch.nn.Module, keep_in: Keep = None, keep_out: Keep = None) -> None:
    """Keep some channels of one of this package's convolutions, in place, so that it does to them what it did.

    Weights, biases, normalisations inside, ``in_channels``, ``out_channels`` and the sizes of the channel groups stay
    consistent: a kept channel stays in its group and is padded as before. The result is that of the whole layer on an
    input whose other channels are zero, in the output channels kept. Parameters are new ones; make optimizers after it.

    Args:
        layer: dense or depthwise, of :mod:`evenconv_cuda.nn`.
        keep_in, keep_out: the channels that stay, in ascending order; None is all. A depthwise layer's are the same,
            and one of the two is enough.

    Raises:
        ValueError: if the channels are not such, the layer has groups but is not depthwise, or normalises inside by
            another than batch norm.
        TypeError: for any other layer.
    """
    if not isinstance(layer, (EvenConv2d, EvenDepthwiseConv2d, _SeparatedConv2d, DOConv2d, DOEvenConv2d)):
        raise TypeError(f"layer is a {type(layer).__name__}; accepted are the convolutions of evenconv_cuda.nn")
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    if not depthwise and layer.groups != 1:
        raise ValueError(f"layer has groups={layer.groups}; accepted are dense and depthwise layers")
    inputs, outputs = (
        _checked("keep_in", keep_in, layer.in_channels),
        _checked("keep_out", keep_out, layer.out_channels),
    )
    if depthwise:
        inputs = outputs = _of_depthwise(keep_in, inputs, keep_out, outputs)
    norms = [child for child in layer.children() if [*child.parameters(), *child.buffers()]]
    for norm in norms:
        if not isinstance(norm, _BatchNorm):
            raise ValueError(f"layer normalises by {type(norm).__name__}; accepted is batch norm")
    for name, tensor in _own_tensors(layer):
        kept = _kept(tensor, 0, inputs if name in ("D", "d_diag") else outputs)
        setattr(layer, name, _kept(kept, 1, inputs) if name in ("weight", "W") and not depthwise else kept)
    for norm in norms:
        for name, tensor in _own_tensors(norm):
            setattr(norm, name, _kept(tensor, 0, outputs))
        norm.num_features = len(outputs)
    layer.in_channels, layer.out_channels = len(inputs), len(outputs)
    layer.groups = len(inputs) if depthwise else 1
    if isinstance(layer, ChannelGroups):
        ends = [0, *accumulate(layer.group_sizes)]
        layer.group_sizes = [sum(begin <= c < end for c in inputs) for begin, end in pairwise(ends)]


def _checked(argument: str, keep: Keep, channels: int) -> list[int]:
    if keep is None:
        return [*range(channels)]
    given = keep.tolist() if isinstance(keep, Tensor) else keep
    chosen = [*given] if isinstance(given, Sequence) else []
    ascending = all(checks.integer(c) and 0 <= c < channels for c in chosen) and chosen == sorted(set(chosen))
    if not chosen or not ascending:
        raise ValueError(f"{argument} is {keep!r}; accepted are numbers of channels below {channels}, ascending")
    return [*map(int, chosen)]


def _of_depthwise(keep_in: Keep, inputs: list[int], keep_out: Keep, outputs: list[int]) -> list[int]:
    if keep_in is not None and keep_out is not None and inputs != outputs:
        raise ValueError(f"keep_in is {keep_in!r}, keep_out {keep_out!r}; accepted are equal ones (a depthwise layer)")
    return inputs if keep_out is None else outputs


def _own_tensors(module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """Its parameters and buffers that have a place for each channel."""
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return [(name, tensor) for name, tensor in tensors if tensor.dim()]


def _kept(tensor: Tensor, axis: int, channels: list[int]) -> Tensor:
    kept = tensor.detach().index_select(axis, torch.tensor(channels, device=tensor.device))
    return Parameter(kept, tensor.requires_grad) if isinstance(tensor, Parameter) else kept
