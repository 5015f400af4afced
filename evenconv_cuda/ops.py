"""The dispatcher's operators, ``torch.ops.evenconv_cuda.*``: what the binary does not register itself.

C++ defines the schemas and the kernels. Here every operator gets its gradient (a ``torch.autograd.Function``), fake
kernels, its autocast and vmap rules, and PyTorch's exceptions where memory is short. What does not reach a kernel in
C++, which checks its arguments, is checked here by :mod:`evenconv_cuda.checks`. The depthwise operators share one form
of signature,

    name(x, weights..., biases..., stride, directions?)
    name_backward(grad, <the same>, wanted)

and so one implementation of each of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import checks, reference
from .backend import current_backend
from .directions import names
from .extension import load_extension

KERNEL_DEVICES = {"cpu", "meta"} | ({"cuda"} if load_extension().build_info()["cuda"] else set())

# What autocast casts; the kernels refuse all but these and float64.
CASTABLE = (torch.float32, torch.float16, torch.bfloat16)

_library = torch.library.Library("evenconv_cuda", "FRAGMENT")
_ops = torch.ops.evenconv_cuda
_select_key = torch._C.DispatchKey.BackendSelect
_after_select = torch._C._dispatch_keyset_full_after(_select_key)
_after_autograd = torch._C._after_autograd_keyset.remove(_select_key)

symmetric_pad2d = _ops.symmetric_pad2d.default
even_depthwise_conv2d = _ops.even_depthwise_conv2d.default
separable_depthwise_conv2d = _ops.separable_depthwise_conv2d.default
xsep_conv2d = _ops.xsep_conv2d.default


def fused(x: Tensor) -> bool:
    """Whether an operator on ``x`` runs through the kernels, by backend and device."""
    return current_backend() != "reference" and x.device.type in KERNEL_DEVICES


def _differentiate(operator, function: type[torch.autograd.Function], plain: Callable) -> None:
    """Make ``operator`` itself differentiable by ``function``, whose forward is ``_below_autograd`` of it.

    Forward-mode derivatives and the gradients of torch.func, which nest, are those of ``plain``, its PyTorch form.
    """

    def autograd(keyset, *args):
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if _has_tangent(tensors) or (differentiated and torch._C._are_functorch_transforms_active()):
            return plain(*args)
        if differentiated:
            return function.apply(keyset, *args)
        return _below_autograd(operator, keyset, args)

    _library.impl(operator._opname, autograd, "Autograd", with_keyset=True)


def _has_tangent(tensors: list[Tensor]) -> bool:
    if forward_ad._current_level < 0:  # outside of any dual level, which is nearly always
        return False
    return any(torch._VF._unpack_dual(tensor, level=0).tangent is not None for tensor in tensors)


def _below_autograd(operator, keyset, args) -> Tensor:
    with torch._C._AutoDispatchBelowAutograd():
        return _redispatch(operator, keyset & _after_autograd, args)


def _redispatch(operator, keyset, args):
    """Where the kernels are refused memory, PyTorch is asked for as much until it raises what it has to say: its
    exception does not pass from C++ through the stable ABI."""
    held = []
    while True:
        try:
            return operator.redispatch(keyset, *args)
        except RuntimeError:
            refused = _ops.take_refused_bytes.default()
            if not refused:
                raise
        device = next(arg.device for arg in args if isinstance(arg, Tensor))
        held.append(torch.empty(refused, dtype=torch.uint8, device=device))


def _select(operator) -> None:
    """Calls that do not pass through ``autograd``: those of a backward, and all in inference mode."""

    def select(keyset, *args):
        return _redispatch(operator, keyset & _after_select, args)

    _library.impl(operator._opname, select, "BackendSelect", with_keyset=True)


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


def _depthwise_gradient(operator, backward_operator, plain, tensors) -> type[torch.autograd.Function]:
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
                gradients = _reference_gradients(plain, saved, ctx.options, grad, wanted)
            else:
                gradients = backward_operator(grad, *saved, *ctx.options, wanted)
            return None, *(g if want else None for g, want in zip(gradients, wanted)), *(None for _ in ctx.options)

    return DepthwiseGradient


def _reference_gradients(plain, tensors, options, grad, wanted) -> list[Tensor | None]:
    """Gradients that carry a graph for the next derivative: those of the plain PyTorch form."""
    # Views: a path from one argument to another, or a tensor given twice, is for the outer graph alone to count.
    tensors = [tensor.view_as(tensor) if want else tensor for tensor, want in zip(tensors, wanted)]
    inputs = [tensor for tensor, want in zip(tensors, wanted) if want]
    with torch.autocast(grad.device.type, enabled=False):
        found = iter(torch.autograd.grad(plain(*tensors, *options), inputs, grad, create_graph=True))
    return [next(found) if want else None for want in wanted]


def _vmap(operator) -> None:
    """Fold the batch into N where x alone is batched; else call for each element."""

    def vmap(info, in_dims, *args):
        batched = [isinstance(arg, Tensor) and dim is not None for arg, dim in zip(args, in_dims)]
        if batched[0] and sum(batched) == 1:
            x = args[0].movedim(in_dims[0], 0)
            return operator(x.flatten(0, 1), *args[1:]).unflatten(0, x.shape[:2]), 0
        results = [
            operator(*(arg.select(dim, n) if batch else arg for arg, dim, batch in zip(args, in_dims, batched)))
            for n in range(info.batch_size)
        ]
        return torch.stack(results), 0

    torch.library.register_vmap(operator, vmap, lib=_library)


def _autocast(operator, tensors: int) -> None:
    """Cast x to the autocast dtype. float32 weights stay: the kernels take them beside a half-precision map. What
    functions refuse in autocast too, float64 beside another dtype and all that is no floating-point number, stays for
    the kernels to refuse."""
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        this_key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def autocast(*args, device=device, this_key=this_key):
            x, *parameters = args[:tensors]
            dtypes = {p.dtype for p in parameters if p is not None}
            if x.dtype in CASTABLE and dtypes.issubset(CASTABLE):
                dtype = torch.get_autocast_dtype(device)
                x = x.to(dtype)
                if dtypes != {torch.float32}:
                    parameters = [None if p is None else p.to(dtype) for p in parameters]
            with torch._C._ExcludeDispatchKeyGuard(this_key):
                return operator(x, *parameters, *args[tensors:])

        _library.impl(operator._opname, autocast, key)


def _empty(x: Tensor, *sizes: int) -> Tensor:
    """A result of these sizes in x's memory format, as ``empty_like_format`` in csrc/ops.cpp makes it."""
    channels_last = x.stride(1) == 1 and x.stride(3) != 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=memory_format)


def _empty_gradient(parameter: Tensor) -> Tensor:
    """A gradient in its parameter's memory format, as ``empty_gradient`` in csrc/ops.cpp makes it."""
    channels_last = parameter.dim() == 4 and parameter.stride(1) == 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device, memory_format=memory_format)


def _check(check: Callable, tensors: Sequence[Tensor | None], stride, directions=(0, 0, 0, 0)) -> None:
    """Refuse what the kernels refuse."""
    with torch._C._DisableAutocast():
        checks.feature_map(tensors[0])
        check(*tensors)
    checks.stride_pair(stride)
    names(directions)


def _fake_depthwise(operator, backward_operator, check: Callable, tensors: int) -> None:
    def result(x, *rest):
        _check(check, (x, *rest[: tensors - 1]), *rest[tensors - 1 :])
        stride_h, stride_w = rest[tensors - 1]
        N, C, H, W = x.shape
        return _empty(x, N, C, (H + stride_h - 1) // stride_h, (W + stride_w - 1) // stride_w)

    @torch.library.register_fake(operator, lib=_library)
    def forward(*args):
        return result(*args)

    @torch.library.register_fake(backward_operator, lib=_library)
    def backward(grad, x, *rest):
        *rest, wanted = rest
        checks.gradient(grad, result(x, *rest))
        if len(wanted) != tensors:
            raise ValueError(f"wanted has {len(wanted)} entries; accepted are {tensors}")
        parameters = rest[: tensors - 1]
        given = [want and parameter is not None for want, parameter in zip(wanted[1:], parameters)]
        return (
            _empty(x, *x.shape) if wanted[0] else x.new_empty(0),
            *(_empty_gradient(parameter) if g else x.new_empty(0) for g, parameter in zip(given, parameters)),
        )


def _fake_pad(operator, name: str, sign: int) -> None:
    @torch.library.register_fake(operator, lib=_library)
    def pad(x, kernel_size, directions):
        _check_pad(name, sign, x, kernel_size, directions)
        N, C, H, W = x.shape
        return _empty(x, N, C, H + sign * (kernel_size - 1), W + sign * (kernel_size - 1))


def _check_pad(name: str, sign: int, x: Tensor, kernel_size: int, directions: Sequence[int]) -> None:
    checks.feature_map(x, name)
    checks.even_kernel(kernel_size)
    names(directions)
    if sign < 0 and (x.shape[2] < kernel_size or x.shape[3] < kernel_size):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; accepted are H and W of at least {kernel_size}")


def _complete_depthwise(name: str, tensors: int) -> None:
    operator, backward_operator = getattr(_ops, name).default, getattr(_ops, f"{name}_backward").default
    check, function = getattr(checks, name), getattr(reference, name)

    def plain(*args):
        _check(check, args[:tensors], *args[tensors:])
        stride, *directions = args[tensors:]
        return function(*args[:tensors], stride, *map(names, directions))

    _differentiate(operator, _depthwise_gradient(operator, backward_operator, plain, tensors), plain)
    _fake_depthwise(operator, backward_operator, check, tensors)
    _autocast(operator, tensors)
    _vmap(operator)
    _select(operator)
    _select(backward_operator)


def _complete_pad(operator, transpose, function: Callable, name: str, sign: int) -> None:
    def plain(x, kernel_size, directions):
        _check_pad(name, sign, x, kernel_size, directions)
        return function(x, kernel_size, names(directions))

    _differentiate(operator, _pad_gradient(operator, transpose), plain)
    _fake_pad(operator, name, sign)
    _vmap(operator)
    _select(operator)


_symmetric_crop2d = _ops.symmetric_pad2d_backward.default
_complete_pad(symmetric_pad2d, _symmetric_crop2d, reference.symmetric_pad2d, "x", 1)
_complete_pad(_symmetric_crop2d, symmetric_pad2d, reference.symmetric_crop2d, "grad", -1)
_complete_depthwise("even_depthwise_conv2d", 3)
_complete_depthwise("separable_depthwise_conv2d", 5)
_complete_depthwise("xsep_conv2d", 7)
