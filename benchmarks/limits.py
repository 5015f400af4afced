"""How fast this machine can be at all: what it copies, what it multiplies, and what an operator needs of both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from .candidates import Candidate
from .cases import Case
from .timing import interleaved

ROTATED_BYTES = {"cpu": 64 << 20, "cuda": 256 << 20}
"""Of x and gradient of all sets of tensors: twice the last-level cache of most processors, several times a GPU's L2."""
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
MATRIX = {"cpu": 1536, "cuda": 8192}
ROUNDS = 9


@dataclass(frozen=True)
class Limits:
    """Bytes read and written a second by a copy, and operations a second of a matrix product by dtype."""

    copy_bytes_per_s: float
    flops_per_s: dict[str, float]

    def milliseconds(self, moved: int, flops: int, dtype: torch.dtype) -> float:
        """What so many bytes and operations take at the least, side by side."""
        return 1e3 * max(moved / self.copy_bytes_per_s, flops / self.flops_per_s[short(dtype)])


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measure_limits(device: str, dtypes: tuple[torch.dtype, ...]) -> Limits:
    kind = torch.device(device).type
    source = torch.ones(COPIED_BYTES[kind] // 4, device=device)
    target = torch.empty_like(source)
    calls = {"copy": lambda: target.copy_(source)}
    for dtype in dtypes:
        matrix = torch.ones(MATRIX[kind], MATRIX[kind], device=device, dtype=dtype)
        calls[short(dtype)] = lambda matrix=matrix: matrix @ matrix
    times = {name: spread["min"] / 1e3 for name, spread in interleaved(calls, ROUNDS, device).items()}
    flops = 2 * MATRIX[kind] ** 3
    return Limits(
        2 * COPIED_BYTES[kind] / times.pop("copy"), {name: flops / seconds for name, seconds in times.items()}
    )


def sets_for(case: Case, dtype: torch.dtype, device: str) -> int:
    """Sets of tensors that together do not fit into the cache."""
    one = 2 * case.N * case.C * case.H**2 * dtype.itemsize
    return max(2, math.ceil(ROTATED_BYTES[torch.device(device).type] / one))


def needs(candidate: Candidate, passes: str) -> tuple[int, int]:
    """Bytes that a pass has to move (every map it is given read once, every map it gives written once) and operations.

    A forward reads x and writes y; a backward reads x and the gradient of y and writes that of x.
    """
    x, grad = (tensor.to("meta") for tensor in candidate.sets[0])
    weights = [weight.to("meta") for weight in candidate.weights]
    forward = x.nbytes + grad.nbytes
    backward = (2 * x.nbytes if weights else x.nbytes) + grad.nbytes
    leaves = [tensor.requires_grad_() for tensor in (x, *weights)]
    with FlopCounterMode(display=False) as first:
        y = candidate.function(*leaves)
    with FlopCounterMode(display=False) as second:
        torch.autograd.grad(y, leaves, grad)
    moved = {"forward": forward, "backward": backward, "step": forward + backward}[passes]
    flops = {"forward": (first,), "backward": (second,), "step": (first, second)}[passes]
    return moved, sum(counter.get_total_flops() for counter in flops)
