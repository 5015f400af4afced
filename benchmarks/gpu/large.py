"""Maps of more than 2^31 elements, forward and backward: their last images give what these give alone.

python -m benchmarks.gpu.large [--device cuda] [--out FILE]
"""

from __future__ import annotations

import torch

from evenconv_cuda import functional

from ..candidates import LAYOUTS
from .arguments import parse
from .report import Report

SHAPE = (2740, 250, 56, 56)  # 2.15 · 10^9 elements: 4 GiB of bfloat16 each for x, result, gradient and dx
K = 7


def run(report: Report, device: str, shape: tuple[int, int, int, int] = SHAPE) -> None:
    C = shape[1]
    generator = torch.Generator(device).manual_seed(0)

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device, dtype=torch.bfloat16)

    weights = [random(C, 1, 2, 2) / 2, random(C, 1, 1, K) / K, random(C, 1, K, 1) / K]
    for layout, memory_format in LAYOUTS.items():
        x = torch.empty(shape, device=device, dtype=torch.bfloat16, memory_format=memory_format).normal_()
        grad = torch.zeros_like(x)
        grad[-2:].normal_()  # so that the weights' gradients are those of the last images, too

        def step(x: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
            leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
            y = functional.xsep_conv2d(*leaves)
            return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

        with report.guard(f"{x.numel()} elements, {layout}"):
            y, dx, *found = step(x, grad)
            y_last, dx_last, *expected = step(x[-2:].clone(memory_format=memory_format), grad[-2:])
            y_first, dx_first, *_ = step(x[:2].clone(memory_format=memory_format), grad[:2])
            equal = {
                "first images": torch.equal(y[:2], y_first) and torch.equal(dx[:2], dx_first),
                "last images": torch.equal(y[-2:], y_last) and torch.equal(dx[-2:], dx_last),
                "no gradient where none came": not dx[:-2].any(),
            }
            for what, passed in equal.items():
                report.check(f"{x.numel()} elements, {layout}: {what}", passed)
            error = max(((f.double() - e.double()).norm() / e.double().norm()).item() for f, e in zip(found, expected))
            report.check(f"{x.numel()} elements, {layout}: weights' gradients", error < 1e-2, f"off by {error:.2g}")
            del y, dx, found


if __name__ == "__main__":
    parse(__doc__, run)
