"""The ways to run one XSepConv training step, and the K×K depthwise convolution that it replaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from evenconv_cuda import functional, reference

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}

# How far a float32 or bfloat16 step may be from the float64 one, relative to the largest value, to be timed at all.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2}


def embedded(x: Tensor, weight_even: Tensor, weight_row: Tensor, weight_col: Tensor) -> Tensor:
    """The 2×2 in the corner of a 3×3 (exactly equal), so that no pad is needed; then 1×K and K×1."""
    even = F.conv2d(x, weight_even, padding=1, groups=x.shape[1])
    return reference.separable_depthwise_conv2d(even, weight_row, weight_col)


def single(x: Tensor, weight: Tensor) -> Tensor:
    """The K×K depthwise convolution."""
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=x.shape[1])


FORMS: dict[str, Callable[..., Tensor]] = {
    "fused": functional.xsep_conv2d,
    "pad+concat": reference.xsep_conv2d,
    "in 3×3": embedded,
    "K×K": single,
}


def steps(shape: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, Callable[[], list[Tensor]]]:
    """Forward and backward of every form in every layout for (N, C, H = W, K), by name "form, layout".

    A form whose result is wrong is left out, with a line that says so.
    """
    N, C, H, K = shape
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    x, grad = random(N, C, H, H), random(N, C, H, H)
    even, row, col = random(C, 1, 2, 2) / 2, random(C, 1, 1, K) / K, random(C, 1, K, 1) / K
    in_corner = F.pad(even, (1, 0, 1, 0))
    weights = {"fused": (even, row, col), "pad+concat": (even, row, col), "in 3×3": (in_corner, row, col)}
    weights["K×K"] = (random(C, 1, K, K) / K,)

    few = slice(0, 2)  # images that the check looks at: float64 is slow
    exact = _step(reference.xsep_conv2d, x[few], weights["fused"], grad[few])
    found = {}
    for form, function in FORMS.items():
        for layout, memory_format in LAYOUTS.items():
            low = [tensor.to(dtype).contiguous(memory_format=memory_format) for tensor in (x, grad)]
            parameters = [weight.to(dtype) for weight in weights[form]]
            checked = _step(function, low[0][few], parameters, low[1][few])
            if form != "K×K" and not _agrees(checked[:2], exact[:2], TOLERANCE[dtype]):
                print(f"{form}, {layout} is wrong for {shape} in {dtype} and is not timed")
                continue
            found[f"{form}, {layout}"] = partial(_step, function, low[0], parameters, low[1])
    return found


def _step(function, x, weights, grad) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
    y = function(*leaves)
    return [y, *torch.autograd.grad(y, leaves, grad)]


def _agrees(values, exact, tolerance) -> bool:
    """Of result and dx; weights' gradients differ in form."""
    return all((v.double() - e).abs().max() <= tolerance * e.abs().max() for v, e in zip(values, exact))
