"""The ways to run XSepConv forward and backward, and the K×K depthwise convolution that it replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor

from evenconv_cuda import functional, reference

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}

# How far a step may be from the float64 one, relative to the largest value, to be timed at all.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}


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


@dataclass
class Candidate:
    """One form in one layout and dtype, on several sets of tensors, one after the other."""

    function: Callable[..., Tensor]
    sets: list[tuple[Tensor, Tensor]]  # x and the result's gradient
    weights: list[Tensor]

    def step(self) -> list[Tensor]:
        """Result and gradients of the first set."""
        return _step(self.function, *self.sets[0], self.weights)

    def forwards(self) -> Callable[[], Tensor]:
        sets = cycle([x for x, _ in self.sets])
        return torch.no_grad()(lambda: self.function(next(sets), *self.weights))

    def steps(self) -> Callable[[], list[Tensor]]:
        sets = cycle(self.sets)
        return lambda: _step(self.function, *next(sets), self.weights)

    def backwards(self) -> Callable[[], tuple[Tensor, ...]]:
        """The backward of forwards that are run here and kept."""
        kept = []
        for x, grad in self.sets:
            leaves = [tensor.detach().requires_grad_() for tensor in (x, *self.weights)]
            kept.append((self.function(*leaves), leaves, grad))
        sets = cycle(kept)
        return lambda: torch.autograd.grad(*next(sets), retain_graph=True)


def candidates(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: str = "cpu",
    sets: int = 1,
    forms: tuple[str, ...] = tuple(FORMS),
) -> dict[str, Candidate]:
    """Every form in every layout for (N, C, H = W, K), by name "form, layout".

    A form whose result is wrong is left out, with a line that says so.
    """
    N, C, H, K = shape
    generator = torch.Generator(device).manual_seed(0)

    def random(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(size, generator=generator, dtype=dtype, device=device)

    tensors = [[random(N, C, H, H, dtype=torch.float32) for _ in ("x", "grad")] for _ in range(sets)]
    even, row, col = random(C, 1, 2, 2) / 2, random(C, 1, 1, K) / K, random(C, 1, K, 1) / K
    in_corner = F.pad(even, (1, 0, 1, 0))
    weights = {"fused": (even, row, col), "pad+concat": (even, row, col), "in 3×3": (in_corner, row, col)}
    weights["K×K"] = (random(C, 1, K, K) / K,)

    few = slice(0, 2)  # images that the check looks at: float64 is slow
    exact = _step(reference.xsep_conv2d, *(tensor[few].double() for tensor in tensors[0]), weights["fused"])
    found = {}
    for layout, memory_format in LAYOUTS.items():
        low = [tuple(t.to(dtype).contiguous(memory_format=memory_format) for t in pair) for pair in tensors]
        for form in forms:
            parameters = [weight.to(dtype) for weight in weights[form]]
            checked = _step(FORMS[form], *(tensor[few] for tensor in low[0]), parameters)
            if form != "K×K" and not _agrees(checked[:2], exact[:2], TOLERANCE[dtype]):
                print(f"{form}, {layout} is wrong for {shape} in {dtype} and is not timed")
                continue
            found[f"{form}, {layout}"] = Candidate(FORMS[form], low, parameters)
    return found


def steps(shape: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, Callable[[], list[Tensor]]]:
    """Forward and backward of every candidate on the CPU."""
    return {name: candidate.step for name, candidate in candidates(shape, dtype).items()}


def compiled(candidate: Candidate) -> Candidate:
    """The same through torch.compile, which tries several kernels for each part."""
    function = torch.compile(candidate.function, mode="max-autotune-no-cudagraphs", dynamic=False)
    return Candidate(function, candidate.sets, candidate.weights)


def with_cudnn_benchmark(call: Callable[[], object]) -> Callable[[], object]:
    """The call with cuDNN's choice of algorithms by measurement."""
    return partial(_with_cudnn_benchmark, call)


def _with_cudnn_benchmark(call):
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        return call()


def _step(function, x, grad, weights) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
    y = function(*leaves)
    return [y, *torch.autograd.grad(y, leaves, grad)]


def _agrees(values, exact, tolerance) -> bool:
    """Of result and dx; weights' gradients differ in form."""
    return all((v.double() - e).abs().max() <= tolerance * e.abs().max() for v, e in zip(values, exact))
