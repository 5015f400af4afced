"""A forward of a model without its data: shapes alone, on PyTorch's meta device."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn


def on_meta(model: nn.Module) -> nn.Module:
    """A copy of ``model`` on the meta device; no weight is copied."""
    memo: dict[int, Tensor] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        twin = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    return copy.deepcopy(model, memo)


def run(model: nn.Module, input_size: Sequence[int]) -> None:
    """Forward of an input of this shape through a model on the meta device, in its mode of training."""
    if not isinstance(input_size, Sequence) or not all(isinstance(size, int) and size > 0 for size in input_size):
        raise ValueError(f"input_size is {input_size!r}; accepted is the shape of the input, as (1, 3, 224, 224)")
    dtypes = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    x = torch.empty(*input_size, dtype=next(dtypes, torch.get_default_dtype()), device="meta")
    try:
        model(x)
    except Exception as error:
        raise ValueError(f"the model does not run on an input of input_size {tuple(input_size)}: {error}") from error
