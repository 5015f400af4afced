"""How fast this machine can be at all: what it copies, what it multiplies, and what an operator needs of both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .cases import Case
from .machine import last_level_cache
from .ratios import ITEMSIZE, tensor_bytes
from .timing import interleaved

COPIED_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
MATRIX = {"cpu": (512, 1536), "cuda": (4096, 8192)}
"""Sides of matrices."""
MAPS = {"cpu": ((8, 64, 56), (8, 128, 28)), "cuda": ((128, 128, 56), (128, 256, 28))}
"""N, C and H of dense 3×3 convolutions."""
ROUNDS = 9


@dataclass(frozen=True)
class Limits:
    """Bytes read and written a second by a copy, and operations a second by dtype."""

    copy_bytes_per_s: float
    flops_per_s: dict[str, float]

    def flops(self, dtype: str) -> float:
        """Operations a second on maps of this dtype; what is faster in float32 may be computed in that."""
        return max(self.flops_per_s[name] for name in {dtype, "float32"} & set(self.flops_per_s))

    def milliseconds(self, moved: int, flops: int, dtype: str) -> float:
        """What so many bytes and operations take at the least, side by side."""
        return 1e3 * max(moved / self.copy_bytes_per_s, flops / self.flops(dtype))

    @classmethod
    def highest(cls, measured: Iterable[Limits]) -> Limits:
        measured = [*measured]
        names = dict.fromkeys(name for one in measured for name in one.flops_per_s)
        return cls(
            max(one.copy_bytes_per_s for one in measured),
            {name: max(one.flops_per_s.get(name, 0) for one in measured) for name in names},
        )


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def measure_limits(device: str, dtypes: tuple[torch.dtype, ...]) -> Limits:
    """By a copy, and by the fastest of matrix products and dense convolutions."""
    kind = torch.device(device).type
    source = torch.ones(COPIED_BYTES[kind] // 4, device=device)
    target = torch.empty_like(source)
    calls, flops = {"copy": lambda: target.copy_(source)}, {}
    for dtype in dtypes:
        for side in MATRIX[kind]:
            matrix = torch.ones(side, side, device=device, dtype=dtype)
            calls[dtype, side] = lambda matrix=matrix: matrix @ matrix
            flops[dtype, side] = 2 * side**3
        for N, C, H in MAPS[kind]:
            x = torch.ones(N, C, H, H, device=device, dtype=dtype).to(memory_format=torch.channels_last)
            weight = torch.ones(C, C, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
            calls[dtype, N, C, H] = lambda x=x, weight=weight: F.conv2d(x, weight, padding=1)
            flops[dtype, N, C, H] = 2 * N * C * H**2 * C * 9
    seconds = {name: min(times) / 1e3 for name, times in interleaved(calls, ROUNDS, device).items()}
    copied = 2 * COPIED_BYTES[kind] / seconds["copy"]
    rates = [Limits(copied, {short(name[0]): flops[name] / seconds[name]}) for name in flops]
    return Limits.highest(rates)


def copies_of(rows: Iterable[dict]) -> Limits:
    """What the fastest copy among these rows moved a second."""
    copies = [2e3 * tensor_bytes(row) / row["ms"]["min"] for row in rows if row["candidate"] == "copy"]
    return Limits(max(copies, default=0.0), {})


def sets_for(case: Case, dtype: torch.dtype, device: str) -> int:
    """Sets of tensors that together do not fit into the cache."""
    one = 2 * case.N * case.C * case.H**2 * dtype.itemsize
    return max(2, math.ceil(rotated_bytes(device) / one))


def rotated_bytes(device: str) -> int:
    """Of x and gradient of all sets of tensors: twice the last cache of a CPU, several times a GPU's."""
    return 256 << 20 if torch.device(device).type == "cuda" else max(64 << 20, 2 * (last_level_cache() or 0))


def needs(case: Case, dtype: str, what: str) -> tuple[int, int]:
    """Bytes and floating-point operations that a pass of the operator cannot do without.

    A forward reads x and writes y; a backward reads the gradient of y, and x if there are weights, and writes that of
    x. A product is of a tap and what it meets on the map, padding left out, once for the result, once for the gradient
    of x and once for those of the weights.
    """
    maps, side = case.N * case.C, math.ceil(case.H / case.stride)
    even, strided = _met(case.H, 2, 1), _met(case.H, case.K, case.stride)
    x, y = maps * case.H**2, maps * side**2
    if case.operator == "symmetric_pad2d":
        y = maps * (case.H + case.K - 1) ** 2
    separable = maps * strided * (case.H + side)
    products = {
        "symmetric_pad2d": 0,
        "even_conv2d": maps * case.C * strided**2,
        "even_depthwise_conv2d": maps * strided**2,
        "separable_depthwise_conv2d": separable,
        "xsep_conv2d": maps * even**2 + separable,
    }[case.operator]
    forward, backward = x + y, x + y + (x if products else 0)
    elements = {"forward": forward, "backward": backward, "step": forward + backward}[what]
    times = {"forward": 1, "backward": 2, "step": 3}[what]
    return elements * ITEMSIZE[dtype], 2 * products * times


def _met(size: int, kernel: int, stride: int) -> int:
    """How often a tap of the kernel meets the map along a line of this size."""
    first = range(-((kernel - 1) // 2), size - (kernel - 1) // 2, stride)
    return sum(0 <= begin + tap < size for begin in first for tap in range(kernel))
