"""Layers of a model in exchange for others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

Exchange = tuple[nn.Module, str, nn.Module]
"""A module, the name of a child, and the child that was there."""


def replace_layers(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> list[Exchange]:
    """Put each layer's replacement wherever ``model`` holds the layer; what was exchanged, for :func:`put_back`."""
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child in replacements
    ]
    compiled = [child for parent, _, child in places if isinstance(parent, torch._dynamo.OptimizedModule)]
    if compiled:
        raise ValueError(
            f"{type(compiled[0]).__name__} is compiled by itself; accepted are layers before torch.compile"
        )
    for parent, name, child in places:
        setattr(parent, name, replacements[child])
    return places


def put_back(exchanged: list[Exchange]) -> None:
    for parent, name, child in exchanged:
        setattr(parent, name, child)


def computes_as(layer: nn.Module, base: type[nn.Module]) -> bool:
    """Whether ``layer`` is a ``base`` that computes as it does; subclasses may do otherwise."""
    methods = [name for name in ("forward", "_conv_forward") if hasattr(base, name)]
    return isinstance(layer, base) and all(getattr(type(layer), name) is getattr(base, name) for name in methods)


def why_not_exchangeable(layer: nn.Module) -> str | None:
    """What a layer does beside its own computation, which another in its place would not."""
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        return "its parameters are not initialised; accepted are layers that have seen an input"
    for module in layer.modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return "it has hooks (or a weight_norm or pruning made of them); accepted are layers without"
        if is_parametrized(module):
            return "it is parametrised; accepted are layers after torch.nn.utils.parametrize.remove_parametrizations"
    return None
