"""What the operators accept. Every error names the argument, what was given and what is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
MAX_KERNEL = 31


def stride_pair(stride: int | Sequence[int]) -> tuple[int, int]:
    """An int or a pair of them as a pair."""
    both = stride if isinstance(stride, Sequence) else (stride, stride)
    if len(both) != 2 or not all(integer(one) and one in (1, 2) for one in both):
        raise ValueError(f"stride is {stride!r}; accepted are 1 and 2, or a pair of them")
    return int(both[0]), int(both[1])


def even_kernel(size: int) -> int:
    if not integer(size) or size not in (2, 4):
        raise ValueError(f"kernel_size is {size!r}; accepted are 2 and 4")
    return int(size)


def odd_kernel(size: int) -> int:
    if not integer(size) or size % 2 == 0 or not 1 <= size <= MAX_KERNEL:
        raise ValueError(f"kernel_size is {size!r}; accepted are odd numbers from 1 to {MAX_KERNEL}")
    return int(size)


def integer(value) -> bool:
    """Whether it is a whole number of any type, NumPy's too."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def feature_map(x: Tensor, name: str = "x", unbatched: bool = False) -> None:
    """``(N, C, H, W)`` and, where ``unbatched`` maps are accepted, ``(C, H, W)``."""
    _floating(name, x)
    if x.dim() != 4 and not (unbatched and x.dim() == 3):
        also = " or (C, H, W)" if unbatched else ""
        raise ValueError(f"{name} has shape {tuple(x.shape)}; accepted is (N, C, H, W){also}")
    if any(size < 1 for size in x.shape[-3:]):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; accepted are C, H and W of at least 1")


def even_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    _even_weight("weight", weight, x, depthwise=False)
    _bias("bias", bias, weight.shape[0], x)
    _one_dtype(weight=weight, bias=bias)


def even_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    _even_weight("weight", weight, x, depthwise=True)
    _bias("bias", bias, x.shape[1], x)
    _one_dtype(weight=weight, bias=bias)


def separable_depthwise_conv2d(
    x: Tensor,
    weight_row: Tensor | None,
    weight_col: Tensor | None,
    bias_row: Tensor | None,
    bias_col: Tensor | None,
) -> None:
    if weight_row is None and weight_col is None:
        raise ValueError("weight_row and weight_col are both None; accepted is at least one weight")
    for band, weight, bias, axis in (("row", weight_row, bias_row, 3), ("col", weight_col, bias_col, 2)):
        if weight is not None:
            _band_weight(f"weight_{band}", weight, x, axis)
            _bias(f"bias_{band}", bias, x.shape[1], x)
        elif bias is not None:
            raise ValueError(f"bias_{band} is given without weight_{band}; accepted is None")
    _one_dtype(weight_row=weight_row, weight_col=weight_col, bias_row=bias_row, bias_col=bias_col)


def xsep_conv2d(
    x: Tensor,
    weight_even: Tensor,
    weight_row: Tensor,
    weight_col: Tensor,
    bias_even: Tensor | None,
    bias_row: Tensor | None,
    bias_col: Tensor | None,
) -> None:
    _even_weight("weight_even", weight_even, x, depthwise=True)
    _band_weight("weight_row", weight_row, x, 3)
    _band_weight("weight_col", weight_col, x, 2)
    biases = {"bias_even": bias_even, "bias_row": bias_row, "bias_col": bias_col}
    for name, bias in biases.items():
        _bias(name, bias, x.shape[1], x)
    _one_dtype(weight_even=weight_even, weight_row=weight_row, weight_col=weight_col, **biases)


def gradient(grad: Tensor, result: Tensor) -> None:
    """The gradient of a result."""
    feature_map(grad, "grad")
    if grad.device != result.device:
        raise ValueError(f"grad is on {grad.device}, x on {result.device}; accepted is one device")
    if grad.shape != result.shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)}; accepted is {tuple(result.shape)}")
    if grad.dtype != result.dtype:
        raise TypeError(f"grad has dtype {grad.dtype}; accepted is {result.dtype}, x's")


def _even_weight(name: str, weight: Tensor, x: Tensor, depthwise: bool) -> None:
    _floating(name, weight)
    shape, C = tuple(weight.shape), x.shape[1]
    fits = len(shape) == 4 and (shape[:2] == (C, 1) if depthwise else shape[1] == C)
    if not fits or shape[2] != shape[3] or shape[2] not in (2, 4):
        form = "(C, 1, k, k)" if depthwise else "(O, C, k, k)"
        raise ValueError(f"{name} has shape {shape}; accepted is {form} with C = {C} and k = 2 or 4")
    _beside("weight", name, weight, x)


def _band_weight(name: str, weight: Tensor, x: Tensor, axis: int) -> None:
    """A 1×K (axis 3) or K×1 (axis 2) depthwise weight."""
    _floating(name, weight)
    shape = tuple(weight.shape)
    size = shape[axis] if len(shape) == 4 else 0
    expected = (x.shape[1], 1, 1, size) if axis == 3 else (x.shape[1], 1, size, 1)
    if len(shape) != 4 or shape != expected or size % 2 == 0 or size > MAX_KERNEL:
        form = "(C, 1, 1, K)" if axis == 3 else "(C, 1, K, 1)"
        raise ValueError(
            f"{name} has shape {shape}; accepted is {form} with C = {x.shape[1]} and K odd, 1 to {MAX_KERNEL}"
        )
    _beside("weight", name, weight, x)


def _bias(name: str, bias: Tensor | None, channels: int, x: Tensor) -> None:
    if bias is None:
        return
    _floating(name, bias)
    if bias.shape != (channels,):
        raise ValueError(f"{name} has shape {tuple(bias.shape)}; accepted is ({channels},)")
    _beside("bias", name, bias, x)


def _one_dtype(**tensors: Tensor | None) -> None:
    """Weights and biases of one call share their dtype."""
    dtypes = {name: tensor.dtype for name, tensor in tensors.items() if tensor is not None}
    if len(set(dtypes.values())) > 1 and not autocasts(next(t for t in tensors.values() if t is not None)):
        given = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"weights and biases have several dtypes ({given}); accepted is one for all")


def _floating(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}; accepted is a torch.Tensor")
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}; accepted are {', '.join(map(str, DTYPES))}")


def _beside(kind: str, name: str, tensor: Tensor, x: Tensor) -> None:
    if tensor.device != x.device:
        raise ValueError(f"{name} is on {tensor.device}, x on {x.device}; accepted is one device")
    half = x.dtype in (torch.float16, torch.bfloat16)
    cast = autocasts(x) and torch.float64 not in (x.dtype, tensor.dtype)
    if tensor.dtype != x.dtype and not (half and tensor.dtype == torch.float32) and not cast:
        also = " or torch.float32" if half else ""
        raise TypeError(f"{name} has dtype {tensor.dtype}; accepted for this {kind} is {x.dtype}, x's{also}")


def autocasts(tensor: Tensor) -> bool:
    """Whether autocast is on where the tensor is."""
    return tensor.device.type != "meta" and torch.is_autocast_enabled(tensor.device.type)
