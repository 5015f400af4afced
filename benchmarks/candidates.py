"""The ways to do what an operator does, and the convolutions that it replaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from evenconv_cuda import functional, reference
from evenconv_cuda.directions import SYMMETRIC, group_sizes

from .cases import Case
from .left_out import leave_out, leaving_out
from .limits import short

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
EXACT = ("fused", "pad+concat", "in 3×3")
REPLACED = ("K×K", "3×3")
FORMS = (*EXACT, *REPLACED)
"""``EXACT`` compute what the operator does: fused, in plain PyTorch, and with the even kernel in the corner of an odd
one, so that no pad is needed. ``REPLACED`` are depthwise convolutions of K×K and 3×3, in whose place it stands."""
WIDENED = {f"{form} via float32": form for form in EXACT[1:]}
"""The same for narrow dtypes, cast to float32 and back, where a device is slow with them."""
NARROW = (*EXACT, *WIDENED)

# How far a step may be from the float64 one, relative to the largest value, to be timed at all.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}

One, Result = TypeVar("One"), TypeVar("Result")


@dataclass(frozen=True)
class Corner:
    """Where even kernels lie in odd ones: in the corner that the direction of their group of channels picks."""

    channels: int
    """The dimension of the weight whose groups have directions."""
    directions: tuple[str, ...]

    def place(self, weight: Tensor) -> Tensor:
        """The odd kernels, zero beside the even ones."""
        odd = weight.new_zeros(*weight.shape[:2], *(size + 1 for size in weight.shape[2:]))
        for into, part in zip(self._parts(odd), weight.split(group_sizes(weight.shape[self.channels]), self.channels)):
            into.copy_(part)
        return odd

    def take(self, odd: Tensor) -> Tensor:
        """The even kernels."""
        return torch.cat(self._parts(odd), self.channels)

    def _parts(self, odd: Tensor) -> list[Tensor]:
        groups = odd.split(group_sizes(odd.shape[self.channels]), self.channels)
        ends = {"T": slice(None, -1), "L": slice(None, -1), "B": slice(1, None), "R": slice(1, None)}
        return [group[..., ends[d[0]], ends[d[1]]] for group, d in zip(groups, self.directions)]


@dataclass
class Candidate:
    """One form in one layout and dtype, on several sets of tensors, one after the other."""

    function: Callable[..., Tensor]
    sets: list[tuple[Tensor, Tensor]]  # x and the result's gradient
    weights: list[Tensor]
    exact: list[Tensor] = field(default_factory=list)
    """The first set's result, dx and weights' gradients in float64."""
    corner: Corner | None = None
    """Where the kernel of the first weight lies in it, if that is larger."""
    turns: Iterator[int] = field(default_factory=count)
    """Counts calls. All that walk the same sets share it: none is given what the one before it has read."""
    error: float | None = None
    """The largest of the step's results, each relative to the largest value of the float64 one; None before a check."""

    def infer(self) -> Tensor:
        """Result of the first set, without a graph."""
        with torch.no_grad():
            return self.function(self.sets[0][0], *self.weights)

    def forward(self) -> Tensor:
        """Result of the first set, with its graph."""
        leaves = [tensor.detach().requires_grad_() for tensor in (self.sets[0][0], *self.weights)]
        return self.function(*leaves)

    def step(self) -> list[Tensor]:
        """Result and gradients of the first set."""
        return _step(self.function, *self.sets[0], self.weights)

    def forwards(self) -> Callable[[], Tensor]:
        return self._in_turn(self.sets, torch.no_grad()(lambda pair: self.function(pair[0], *self.weights)))

    def steps(self) -> Callable[[], list[Tensor]]:
        return self._in_turn(self.sets, lambda pair: _step(self.function, *pair, self.weights))

    def backwards(self) -> Callable[[], tuple[Tensor, ...]]:
        """The backward of forwards that are run here and kept."""
        kept = []
        for x, grad in self.sets:
            leaves = [tensor.detach().requires_grad_() for tensor in (x, *self.weights)]
            kept.append((self.function(*leaves), leaves, grad))
        return self._in_turn(kept, lambda one: torch.autograd.grad(*one, retain_graph=True))

    def copies(self) -> Callable[[], Tensor]:
        """A copy of x to memory that the system has handed out before."""
        pairs = [(x.clone(), x) for x, _ in self.sets]
        return self._in_turn(pairs, lambda pair: pair[0].copy_(pair[1]))

    def _in_turn(self, each: list[One], call: Callable[[One], Result]) -> Callable[[], Result]:
        return lambda: call(each[next(self.turns) % len(each)])


def candidates(
    case: Case,
    dtype: torch.dtype,
    device: str = "cpu",
    sets: int = 1,
    forms: tuple[str, ...] = FORMS,
) -> dict[str, Candidate]:
    """Every form that the operator has in every layout, by name "form, layout".

    A form that fails, or whose result or gradients are wrong, is left out, with a line that says so.
    """
    generator = torch.Generator(device).manual_seed(0)

    def random(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(size, generator=generator, dtype=dtype, device=device)

    weights = [random(*shape) / math.prod(shape[1:]) ** 0.5 for shape in _weights(case)]
    found = _forms(case, weights, random)
    plain = found["pad+concat"].function
    result = plain(random(1, case.C, case.H, case.H), *weights).shape[1:]
    shapes = (case.N, case.C, case.H, case.H), (case.N, *result)
    tensors = [[random(*shape, dtype=torch.float32) for shape in shapes] for _ in range(sets)]
    first = [tensor.double() for tensor in tensors[0]]
    exact = _step(plain, *first, weights)
    of_replaced = {
        name: _step(found[name].function, *first, found[name].weights)
        for name in REPLACED
        if name in found and name in forms
    }
    usable = {}
    for layout, memory_format in LAYOUTS.items():
        low = [tuple(t.to(dtype).contiguous(memory_format=memory_format) for t in pair) for pair in tensors]
        turns = count()
        for name in (name for name in forms if name in found):
            form = found[name]
            parameters = [weight.to(dtype).contiguous(memory_format=memory_format) for weight in form.weights]
            candidate = Candidate(
                form.function, low, parameters, of_replaced.get(name, exact), form.corner, turns=turns
            )
            with leaving_out(f"{name}, {layout}, eager, for {case} in {short(dtype)}"):
                if is_right(f"{name}, {layout}, eager", candidate, case):
                    usable[f"{name}, {layout}"] = candidate
    return usable


def is_right(name: str, candidate: Candidate, case: Case, replayed: list[Tensor] | None = None) -> bool:
    """Whether the candidate may be timed: its forward, and its step or what of one was ``replayed``, are near enough.

    Notes the largest error, and a line says so if it is too large.
    """
    results = candidate.step() if replayed is None else replayed
    dtype = results[0].dtype
    if candidate.corner is not None:
        results = [*results[:2], candidate.corner.take(results[2]), *results[3:]]
    pairs = [*zip(results, candidate.exact, strict=True), (candidate.infer(), candidate.exact[0])]
    errors = [relative_error(found, exact) for found, exact in pairs]
    right = all(error <= TOLERANCE[dtype] for error in errors)
    candidate.error = max(errors)
    if not right:
        leave_out(f"{name}, for {case} in {short(dtype)}", f"wrong by {', '.join(f'{e:.1e}' for e in errors)}")
    return right


def relative_error(found: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    if found.shape != exact.shape:
        return math.inf
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


def compiled(candidate: Candidate) -> Candidate:
    """The same through torch.compile, on a GPU with a choice of kernels by measurement."""
    on_gpu = candidate.sets[0][0].is_cuda
    mode = "max-autotune-no-cudagraphs" if on_gpu else "default"
    return replace(candidate, function=torch.compile(candidate.function, mode=mode, dynamic=False))


@dataclass(frozen=True)
class _Form:
    function: Callable[..., Tensor]
    weights: list[Tensor]
    corner: Corner | None = None


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


def _forms(case: Case, weights: list[Tensor], random: Callable) -> dict[str, _Form]:
    options = {"kernel_size": case.K} if case.operator == "symmetric_pad2d" else {"stride": case.stride}
    found = {
        "fused": _Form(partial(getattr(functional, case.operator), **options), weights),
        "pad+concat": _Form(partial(getattr(reference, case.operator), **options), weights),
    }
    if case.operator in ("even_conv2d", "even_depthwise_conv2d"):
        groups = 1 if case.operator == "even_conv2d" else case.C
        corner = Corner(1 if groups == 1 else 0, SYMMETRIC)
        function = partial(centred, stride=case.stride, groups=groups)
        found["in 3×3"] = _Form(function, [corner.place(weights[0])], corner)
    if case.operator == "xsep_conv2d":
        corner = Corner(0, ("BR",) * 4)
        found["in 3×3"] = _Form(partial(embedded, stride=case.stride), [corner.place(weights[0]), *weights[1:]], corner)
    if case.operator in ("separable_depthwise_conv2d", "xsep_conv2d"):
        for form, size in (("K×K", case.K), ("3×3", 3)):
            function = partial(centred, stride=case.stride, groups=case.C)
            found[form] = _Form(function, [random(case.C, 1, size, size) / size])
    widened = {name: found[form] for name, form in WIDENED.items() if form in found}
    return found | {name: replace(form, function=via_float32(form.function)) for name, form in widened.items()}


def via_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def widened(x: Tensor, *weights: Tensor) -> Tensor:
        return function(x.float(), *(weight.float() for weight in weights)).to(x.dtype)

    return widened


def centred(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)


def embedded(x: Tensor, weight_even: Tensor, weight_row: Tensor, weight_col: Tensor, stride: int) -> Tensor:
    """The 2×2 in the corner of a 3×3, then 1×K and K×1."""
    even = centred(x, weight_even, 1, x.shape[1])
    return reference.separable_depthwise_conv2d(even, weight_row, weight_col, stride=stride)


def _step(function, x, grad, weights) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]
