"""A few calls of every operator against the reference in float64.

python -m benchmarks.gpu.smoke [--few] [--device cuda] [--out FILE]
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from evenconv_cuda import build_info, functional, reference

from .arguments import parse
from .report import Report

# Of a result, relative to the norm of the exact one.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
DTYPES = tuple(TOLERANCE)
LAYOUTS = ("NCHW", "channels_last", "sliced")
SHAPES = ((3, 12, 14, 15), (2, 5, 33, 9))
DIRECTIONS = ("BR", "TL", "BL", "TR")


def operators(C: int, K: int) -> dict[str, tuple[tuple[tuple[int, ...], ...], dict]]:
    """By name: shapes of the weights and biases, and options."""
    even, row, col = (C, 1, 2, 2), (C, 1, 1, K), (C, 1, K, 1)
    return {
        "even_depthwise_conv2d": ((even, (C,)), {"directions": DIRECTIONS}),
        "separable_depthwise_conv2d": ((row, col, (C,), (C,)), {"stride": 2}),
        "xsep_conv2d": ((even, row, col, (C,), (C,), (C,)), {"directions": "TL"}),
        "symmetric_pad2d": ((), {"kernel_size": 4, "directions": DIRECTIONS}),
    }


def as_layout(x: Tensor, layout: str) -> Tensor:
    if layout == "sliced":  # no access of it is aligned to more than an element
        wider = x.new_zeros(x.shape[0], x.shape[1], x.shape[2], x.shape[3] + 3)
        wider[..., 1:-2] = x
        return wider[..., 1:-2]
    return x.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else x


def results(module, name: str, tensors: list[Tensor], options: dict, dtype: torch.dtype) -> list[Tensor]:
    """The result, and the gradients of all tensors for a fixed gradient of it, which ``dtype`` can hold."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    y = getattr(module, name)(*leaves, **options)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(y.shape, generator=generator).to(y.device, dtype).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def largest_error(name: str, shape: tuple, K: int, dtype: torch.dtype, layout: str, device: str) -> float:
    """Over the result and all gradients, as a share of their norm."""
    generator = torch.Generator().manual_seed(0)
    sizes, options = operators(shape[1], K)[name]
    tensors = [torch.randn(shape, generator=generator).to(device, dtype)]
    tensors += [(torch.randn(size, generator=generator) / max(size[1:], default=1)).to(device, dtype) for size in sizes]
    tensors[0] = as_layout(tensors[0], layout)
    found = results(functional, name, tensors, options, dtype)
    exact = results(reference, name, [tensor.double().contiguous() for tensor in tensors], options, dtype)
    errors = [((f.double() - e).norm() / e.norm().clamp_min(1e-30)).item() for f, e in zip(found, exact)]
    return max(errors)


def run(report: Report, device: str, few: bool = False) -> None:
    """``few``: what is worth its time under compute-sanitizer."""
    if torch.device(device).type == "cuda":
        report.check("the binary has CUDA kernels", build_info()["cuda"])
    dtypes = (torch.float32, torch.bfloat16) if few else DTYPES
    shapes, bands = (SHAPES[:1], (7,)) if few else (SHAPES, (3, 7, 31))
    for name in operators(1, 1):
        for dtype, layout in itertools.product(dtypes, LAYOUTS):
            label = f"{name} {str(dtype).removeprefix('torch.')} {layout}"
            with report.guard(label):
                error = max(largest_error(name, shape, K, dtype, layout, device) for shape in shapes for K in bands)
                report.check(label, error <= TOLERANCE[dtype], f"relative error {error:.2g}")


if __name__ == "__main__":
    parse(__doc__, run, few="one shape, one K, two dtypes")
