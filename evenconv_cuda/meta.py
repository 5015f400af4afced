"""A forward of a model without its data: shapes alone, on PyTorch's meta device."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of ``model`` on the meta device, without its forward hooks; no weight is copied."""
    memo: dict[int, Tensor] = {}
    held = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    for tensor in chain(model.parameters(), model.buffers(), held):
        twin = torch.empty_like(tensor, device="meta", requires_grad=False)
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise ValueError(f"the model cannot be copied: {error}") from error
    for module in copied.modules():
        module._forward_hooks.clear()
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = None  # which could not be had from a single pixel
    return copied


def run(model: nn.Module, input_size: Sequence[int]) -> None:
    """Forward of an input of this shape through a model on the meta device, in its mode of training."""
    sizes = input_size if isinstance(input_size, Sequence) else ()
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"input_size is {input_size!r}; accepted is the shape of the input, as (1, 3, 224, 224)")
    dtypes = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    x = torch.empty(*input_size, dtype=next(dtypes, torch.get_default_dtype()), device="meta")
    # BatchNorm refuses to train on one value per channel, whose statistics mean nothing; here none do.
    with torch.device("meta"), patch.object(F, "_verify_batch_size", lambda size: None):
        try:
            model(x)
        except Exception as error:
            raise ValueError(f"the model does not run on an input of input_size {tuple(sizes)}: {error}") from error
