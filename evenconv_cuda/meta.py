"""A forward of a model without its data: shapes alone, on PyTorch's meta device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeVar
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map_only

Result = TypeVar("Result")

ExampleInputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""What a model is called with: one tensor, positional arguments, or keyword arguments."""


def call(model: nn.Module, inputs: ExampleInputs) -> Any:
    """``model`` of these inputs."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, Sequence) else model(inputs)


@dataclass(frozen=True)
class Inputs:
    """Inputs on the meta device."""

    example: ExampleInputs
    shown: str
    """As errors call them."""


def inputs_of(
    model: nn.Module, input_size: Sequence[int] | None, example_inputs: ExampleInputs | None
) -> Inputs | None:
    """From the shape of an input, or from examples; None where there is neither."""
    if example_inputs is not None:
        if input_size is not None:
            raise ValueError("input_size and example_inputs are both given; accepted is one of them")
        example = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device="meta"), example_inputs)
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tree_leaves(example) if isinstance(leaf, Tensor))
        return Inputs(example, f"example_inputs of shapes {shapes}")
    if input_size is None:
        return None
    sizes = input_size if isinstance(input_size, Sequence) else ()
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"input_size is {input_size!r}; accepted is the shape of the input, as (1, 3, 224, 224)")
    dtypes = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    x = torch.empty(*sizes, dtype=next(dtypes, torch.get_default_dtype()), device="meta")
    return Inputs(x, f"an input of input_size {tuple(sizes)}")


def without_data(model: nn.Module, attempt: Callable[[nn.Module], Result]) -> Result:
    """``attempt`` with a copy of ``model`` on the meta device.

    The copy has no forward hooks, which may look at values; where the attempt fails so, another has them, as the model
    may need what they note or return.
    """
    try:
        return attempt(_on_meta(model, hooks=False))
    except ValueError as error:
        if not any(module._forward_hooks for module in model.modules()):
            raise
        try:
            return attempt(_on_meta(model, hooks=True))
        except ValueError:
            raise error from error.__cause__


def run(model: nn.Module, inputs: Inputs) -> None:
    """Forward of the inputs through a model on the meta device, in the mode that it is in."""
    # BatchNorm refuses to train on one value per channel, whose statistics mean nothing; here none do.
    with torch.device("meta"), patch.object(F, "_verify_batch_size", lambda size: None):
        try:
            call(model, inputs.example)
        except Exception as error:
            raise ValueError(f"the model does not run on {inputs.shown}: {error}") from error


def _on_meta(model: nn.Module, hooks: bool) -> nn.Module:
    memo: dict[int, Tensor] = {}
    for tensor in tree_leaves([vars(module) for module in model.modules()]):
        if isinstance(tensor, Tensor):
            twin = torch.empty_like(tensor, device="meta", requires_grad=False)
            memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise ValueError(f"the model cannot be copied: {error}") from error
    for module in copied.modules():
        if not hooks:
            module._forward_hooks.clear()
        if isinstance(module, nn.SyncBatchNorm):
            module.forward = MethodType(_BatchNorm.forward, module)  # on this process alone
        if isinstance(module, _BatchNorm) and module.training:  # statistics cannot be had from a single pixel
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return copied
