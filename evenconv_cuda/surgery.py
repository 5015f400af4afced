"""Layers of a model in exchange for others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace_layers(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put each layer's replacement wherever ``model`` holds the layer."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in replacements:
                setattr(parent, name, replacements[child])
