"""The ways to do what an operator does, and the convolutions that it replaces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor

from evenconv_cuda import functional, reference
from evenconv_cuda.directions import SYMMETRIC, group_sizes

from .cases import Case

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
EXACT = ("fused", "pad+concat", "in 3×3")
REPLACED = ("K×K", "3×3")
FORMS = (*EXACT, *REPLACED)
"""``EXACT`` compute what the operator does: fused, in plain PyTorch, and with the even kernel in the corner of an odd
one, so that no pad is needed. ``REPLACED`` are depthwise convolutions of K×K and 3×3, in whose place it stands."""

# How far a step may be from the float64 one, relative to the largest value, to be timed at all.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
CHECKED_IMAGES = 2  # float64 is slow


@dataclass
class Candidate:
    """One form in one layout and dtype, on several sets of tensors, one after the other."""

    function: Callable[..., Tensor]
    sets: list[tuple[Tensor, Tensor]]  # x and the result's gradient
    weights: list[Tensor]
    error: float | None = None
    """Of result and dx, relative to the largest value of the float64 ones; None for what is replaced."""

    def forward(self) -> Tensor:
        """Result of the first set, with its graph."""
        leaves = [tensor.detach().requires_grad_() for tensor in (self.sets[0][0], *self.weights)]
        return self.function(*leaves)

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

    def copies(self) -> Callable[[], Tensor]:
        """A copy of x, for each set in turn."""
        to, sets = torch.empty_like(self.sets[0][0]), cycle([x for x, _ in self.sets])
        return lambda: to.copy_(next(sets))


def candidates(
    case: Case,
    dtype: torch.dtype,
    device: str = "cpu",
    sets: int = 1,
    forms: tuple[str, ...] = FORMS,
) -> dict[str, Candidate]:
    """Every form that the operator has in every layout, by name "form, layout".

    A form whose result is wrong is left out, with a line that says so.
    """
    generator = torch.Generator(device).manual_seed(0)

    def random(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(size, generator=generator, dtype=dtype, device=device)

    weights = [random(*shape) / math.prod(shape[1:]) ** 0.5 for shape in _weights(case)]
    found = _forms(case, weights, random)
    result = found["fused"][0](random(1, case.C, case.H, case.H), *weights).shape[1:]
    shapes = (case.N, case.C, case.H, case.H), (case.N, *result)
    tensors = [[random(*shape, dtype=torch.float32) for shape in shapes] for _ in range(sets)]
    few = slice(0, CHECKED_IMAGES)
    exact = _step(found["pad+concat"][0], *(tensor[few].double() for tensor in tensors[0]), weights)
    usable = {}
    for layout, memory_format in LAYOUTS.items():
        low = [tuple(t.to(dtype).contiguous(memory_format=memory_format) for t in pair) for pair in tensors]
        for form in forms:
            if form not in found:
                continue
            function, parameters = found[form]
            candidate = Candidate(function, low, [weight.to(dtype) for weight in parameters])
            if form in EXACT:
                checked = _step(function, *(tensor[few] for tensor in low[0]), candidate.weights)
                candidate.error = _error(checked[:2], exact[:2])
                if not candidate.error <= TOLERANCE[dtype]:
                    print(f"{form}, {layout} is wrong for {case} in {dtype} (by {candidate.error:.1e}): not timed")
                    continue
            usable[f"{form}, {layout}"] = candidate
    return usable


def compiled(candidate: Candidate) -> Candidate:
    """The same through torch.compile, on a GPU with a choice of kernels by measurement."""
    on_gpu = candidate.sets[0][0].is_cuda
    mode = "max-autotune-no-cudagraphs" if on_gpu else "default"
    return replace(candidate, function=torch.compile(candidate.function, mode=mode, dynamic=False))


def with_cudnn_benchmark(call: Callable[[], object]) -> Callable[[], object]:
    """The call with cuDNN's choice of algorithms by measurement."""
    return partial(_with_cudnn_benchmark, call)


def _with_cudnn_benchmark(call):
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        return call()


def _weights(case: Case) -> list[tuple[int, ...]]:
    """Shapes of the operator's weights."""
    C, K = case.C, case.K
    bands = [(C, 1, 1, K), (C, 1, K, 1)]
    return {
        "symmetric_pad2d": [],
        "even_conv2d": [(C, C, K, K)],
        "even_depthwise_conv2d": [(C, 1, K, K)],
        "separable_depthwise_conv2d": bands,
        "xsep_conv2d": [(C, 1, 2, 2), *bands],
    }[case.operator]


def _forms(
    case: Case, weights: list[Tensor], random: Callable
) -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """The operator's forms: a function and its weights."""
    options = {"kernel_size": case.K} if case.operator == "symmetric_pad2d" else {"stride": case.stride}
    found = {
        "fused": (partial(getattr(functional, case.operator), **options), weights),
        "pad+concat": (partial(getattr(reference, case.operator), **options), weights),
    }
    if case.operator in ("even_conv2d", "even_depthwise_conv2d"):
        groups = 1 if case.operator == "even_conv2d" else case.C
        corner = in_corner(weights[0], 1 if groups == 1 else 0, SYMMETRIC)
        found["in 3×3"] = partial(centred, stride=case.stride, groups=groups), [corner]
    if case.operator == "xsep_conv2d":
        found["in 3×3"] = partial(embedded, stride=case.stride), [in_corner(weights[0], 0, ("BR",) * 4), *weights[1:]]
    if case.operator in ("separable_depthwise_conv2d", "xsep_conv2d"):
        for form, size in (("K×K", case.K), ("3×3", 3)):
            found[form] = partial(centred, stride=case.stride, groups=case.C), [random(case.C, 1, size, size) / size]
    return found


def in_corner(weight: Tensor, channels: int, directions: tuple[str, ...]) -> Tensor:
    """An even kernel in the corner of an odd one that each group of channels (in dimension ``channels``) picks."""
    placed = []
    for part, direction in zip(weight.split(group_sizes(weight.shape[channels]), channels), directions):
        top, left = int(direction[0] == "B"), int(direction[1] == "R")
        placed.append(F.pad(part, (left, 1 - left, top, 1 - top)))
    return torch.cat(placed, channels)


def centred(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)


def embedded(x: Tensor, weight_even: Tensor, weight_row: Tensor, weight_col: Tensor, stride: int) -> Tensor:
    """The 2×2 in the corner of a 3×3, then 1×K and K×1."""
    even = centred(x, weight_even, 1, x.shape[1])
    return reference.separable_depthwise_conv2d(even, weight_row, weight_col, stride=stride)


def _step(function, x, grad, weights) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
    y = function(*leaves)
    return [y, *torch.autograd.grad(y, leaves, grad)]


def _error(values, exact) -> float:
    """Of result and dx; weights' gradients differ in form."""
    return max(((v.double() - e).abs().max() / e.abs().max()).item() for v, e in zip(values, exact))
