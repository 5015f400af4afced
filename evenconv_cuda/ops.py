"""The dispatcher's operators, ``torch.ops.evenconv_cuda.*``: what the binary does not register itself.

C++ defines the schemas and the kernels. Here every operator gets its gradient (a ``torch.autograd.Function``), fake
kernels, and its autocast and vmap rules. The depthwise operators share one form of signature,

    name(x, weights..., biases..., stride, directions?)
    name_backward(grad, <the same>, wanted)

and so one implementation of each of these.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function

from . import reference
from .backend import current_backend
from .directions import NAMES
from .extension import load_extension

KERNEL_DEVICES = {"cpu", "meta"} | ({"cuda"} if load_extension().build_info()["cuda"] else set())

_library = torch.library.Library("evenconv_cuda", "FRAGMENT")
_ops = torch.ops.evenconv_cuda

symmetric_pad2d = _ops.symmetric_pad2d.default
even_depthwise_conv2d = _ops.even_depthwise_conv2d.default
separable_depthwise_conv2d = _ops.separable_depthwise_conv2d.default
xsep_conv2d = _ops.xsep_conv2d.default


def fused(x: Tensor) -> bool:
    """Whether an operator on ``x`` runs through the kernels, by backend and device."""
    return current_backend() == "fused" and x.device.type in KERNEL_DEVICES


def _differentiate(operator, function: type[torch.autograd.Function]) -> None:
    """Make ``operator`` itself differentiable by ``function``, whose forward is ``_below_autograd`` of it."""

    def autograd(keyset, *args):
        if torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args):
            if not torch._C._are_functorch_transforms_active():
                return function.apply(keyset, *args)
            # Here a torch.func transform has unwrapped the arguments to one level, where apply() would ask it again.
            with enable_single_level_autograd_function():
                return super(torch.autograd.Function, function).apply(keyset, *args)
        return _below_autograd(operator, keyset, args)

    _library.impl(operator._opname, autograd, "Autograd", with_keyset=True)


def _below_autograd(operator, keyset, args) -> Tensor:
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keyset & torch._C._after_autograd_keyset, *args)


def _pad_gradient(operator, transpose) -> type[torch.autograd.Function]:
    """Padding and cropping are each other's gradients."""

    class PadGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx, keyset, x, kernel_size, directions):
            ctx.options = kernel_size, directions
            return _below_autograd(operator, keyset, (x, kernel_size, directions))

        @staticmethod
        def backward(ctx, grad):
            return None, transpose(grad, *ctx.options), None, None

    return PadGradient


def _depthwise_gradient(operator, backward_operator, reference_function, tensors) -> type[torch.autograd.Function]:
    """The first ``tensors`` arguments, x, weights and biases, are saved and have gradients."""

    class DepthwiseGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx, keyset, *args):
            ctx.save_for_backward(*args[:tensors])
            ctx.options = args[tensors:]
            return _below_autograd(operator, keyset, args)

        @staticmethod
        def backward(ctx, grad):
            saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[1 : 1 + tensors]
            if torch.is_grad_enabled():
                gradients = _reference_gradients(reference_function, saved, ctx.options, grad, wanted)
            else:
                gradients = backward_operator(grad, *saved, *ctx.options, wanted)
            return None, *(g if want else None for g, want in zip(gradients, wanted)), *(None for _ in ctx.options)

    return DepthwiseGradient


def _reference_gradients(function, tensors, options, grad, wanted) -> list[Tensor | None]:
    """Gradients that carry a graph for the next derivative: those of the plain PyTorch form."""
    stride, *directions = options
    names = [[NAMES[number] for number in group] for group in directions]
    inputs = [tensor for tensor, want in zip(tensors, wanted) if want]
    with torch.autocast(grad.device.type, enabled=False):
        found = iter(torch.autograd.grad(function(*tensors, stride, *names), inputs, grad, create_graph=True))
    return [next(found) if want else None for want in wanted]


def _vmap(operator, returns_list: bool) -> None:
    """Fold the batch into N where x alone is batched; else call for each element."""

    def vmap(info, in_dims, *args):
        batched = [isinstance(arg, Tensor) and dim is not None for arg, dim in zip(args, in_dims)]
        if batched[0] and sum(batched) == 1 and not returns_list:
            x = args[0].movedim(in_dims[0], 0)
            return operator(x.flatten(0, 1), *args[1:]).unflatten(0, x.shape[:2]), 0
        results = [
            operator(*(arg.select(dim, n) if batch else arg for arg, dim, batch in zip(args, in_dims, batched)))
            for n in range(info.batch_size)
        ]
        if returns_list:
            return [torch.stack(column) for column in zip(*results)], [0] * len(results[0])
        return torch.stack(results), 0

    torch.library.register_vmap(operator, vmap, lib=_library)


def _autocast(operator, tensors: int) -> None:
    """Cast x to the autocast dtype. float32 weights stay: the kernels take them beside a half-precision map."""
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        this_key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def autocast(*args, device=device, this_key=this_key):
            x, *parameters = args[:tensors]
            if x.dtype != torch.float64:
                dtype = torch.get_autocast_dtype(device)
                x = x.to(dtype)
                if any(p is not None and p.dtype != torch.float32 for p in parameters):
                    parameters = [None if p is None else p.to(dtype) for p in parameters]
            with torch._C._ExcludeDispatchKeyGuard(this_key):
                return operator(x, *parameters, *args[tensors:])

        _library.impl(operator._opname, autocast, key)


def _empty(x: Tensor, *sizes: int) -> Tensor:
    """A result of these sizes in x's memory format, as ``empty_like_format`` in csrc/ops.cpp makes it."""
    channels_last = x.stride(1) == 1 and x.stride(3) != 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=memory_format)


def _fake_depthwise(operator, backward_operator, tensors: int) -> None:
    @torch.library.register_fake(operator, lib=_library)
    def forward(x, *rest):
        stride_h, stride_w = rest[tensors - 1]
        N, C, H, W = x.shape
        return _empty(x, N, C, (H + stride_h - 1) // stride_h, (W + stride_w - 1) // stride_w)

    @torch.library.register_fake(backward_operator, lib=_library)
    def backward(grad, x, *rest):
        parameters, wanted = rest[: tensors - 1], rest[-1]
        given = [want and parameter is not None for want, parameter in zip(wanted[1:], parameters)]
        return [
            _empty(x, *x.shape) if wanted[0] else x.new_empty(0),
            *(parameter.new_empty(parameter.shape) if g else x.new_empty(0) for g, parameter in zip(given, parameters)),
        ]


def _fake_pad(operator, sign: int) -> None:
    @torch.library.register_fake(operator, lib=_library)
    def pad(x, kernel_size, directions):
        N, C, H, W = x.shape
        return _empty(x, N, C, H + sign * (kernel_size - 1), W + sign * (kernel_size - 1))


def _complete_depthwise(operator, backward_operator, reference_function: Callable, tensors: int) -> None:
    _differentiate(operator, _depthwise_gradient(operator, backward_operator, reference_function, tensors))
    _fake_depthwise(operator, backward_operator, tensors)
    _autocast(operator, tensors)
    _vmap(operator, returns_list=False)
    _vmap(backward_operator, returns_list=True)


def _complete_pad(operator, transpose, sign: int) -> None:
    _differentiate(operator, _pad_gradient(operator, transpose))
    _fake_pad(operator, sign)
    _vmap(operator, returns_list=False)


_complete_pad(symmetric_pad2d, _ops.symmetric_pad2d_backward.default, 1)
_complete_pad(_ops.symmetric_pad2d_backward.default, symmetric_pad2d, -1)
_complete_depthwise(
    even_depthwise_conv2d, _ops.even_depthwise_conv2d_backward.default, reference.even_depthwise_conv2d, 3
)
_complete_depthwise(
    separable_depthwise_conv2d,
    _ops.separable_depthwise_conv2d_backward.default,
    reference.separable_depthwise_conv2d,
    5,
)
_complete_depthwise(xsep_conv2d, _ops.xsep_conv2d_backward.default, reference.xsep_conv2d, 7)
