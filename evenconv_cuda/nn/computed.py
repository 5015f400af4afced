"""A weight that is computed from parameters, so that writing into it would be lost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

_OPERATORS = {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")}
_WRITES = {"__setitem__", *_OPERATORS}


class ComputedWeight(torch.Tensor):
    """To read as any tensor; what writes into it or into a view of it, ``data`` included, raises ``RuntimeError``."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        if any(_is_computed(written) for written in (kwargs.get("out"), target if _writes(func) else None)):
            raise RuntimeError(
                f"{func.__name__} writes into a weight that is computed from W and D, where it would be lost; accepted "
                f"is to write into W (the weight, while D is 0) or to assign: layer.weight = tensor"
            )
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
            computed = [arg for arg in args if isinstance(arg, cls)]
            if isinstance(result, Tensor) and any(torch._C._is_alias_of(result, arg) for arg in computed):
                return result.as_subclass(cls)
        return result


def _is_computed(tensor) -> bool:
    """A ``Parameter`` made of it is its owner's."""
    return isinstance(tensor, ComputedWeight) and not isinstance(tensor, Parameter)


def _writes(func) -> bool:
    name = func.__name__
    in_place = name.endswith("_") and not name.startswith("__") and name != "requires_grad_"
    return in_place or name in _WRITES or func == Tensor.data.__set__
