"""Which rows are compared with which: what tables, figures and the guard agree on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields

from .cases import Case

UNFUSED = ("pad+concat", "in 3×3", "onnxruntime")
"""Candidates that compute what the operator does, without it."""
GRAPH = "CUDA graph"
ORIGINALS = ("c3", "depthwise")
"""Convolutions of the networks as they were, before even kernels replaced them."""
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}

CASE = [field.name for field in fields(Case)]


def by_case(rows: Iterable[dict]) -> dict[Case, list[dict]]:
    found: dict[Case, list[dict]] = defaultdict(list)
    for row in rows:
        found[Case(**{name: row[name] for name in CASE})].append(row)
    return dict(found)


def fastest(rows: Iterable[dict], *candidates: str, **where: str) -> dict | None:
    """The row of the least median with one of these candidates and these values.

    CUDA graphs, which spare a step its launches, count only where ``mode`` asks for them.
    """
    wanted = [
        row
        for row in rows
        if row["candidate"] in candidates
        and all(row[name] == value for name, value in where.items())
        and ("mode" in where or row["mode"] != GRAPH)
    ]
    return min(wanted, key=median, default=None)


def median(row: dict) -> float:
    return row["ms"]["median"]


def over(slow: dict | None, fast: dict | None) -> float | None:
    """How many times faster ``fast`` is; None if either is missing."""
    return None if slow is None or fast is None else median(slow) / median(fast)


def against(rows: Sequence[dict], *candidates: str, **where: str) -> float | None:
    """How many times faster the fastest fused row is than the fastest of the candidates, both with these values."""
    return over(fastest(rows, *candidates, **where), fastest(rows, "fused", **where))


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def is_fused(row: dict) -> bool:
    """Whether a row of either file runs this package's operators."""
    if "candidate" in row:
        return row["candidate"] == "fused"
    return row["backend"] == "fused" and row["conv"] not in ORIGINALS


def tensor_bytes(row: dict) -> int:
    """T: the bytes of x."""
    return row["N"] * row["C"] * row["H"] ** 2 * ITEMSIZE[row["dtype"]]


def needed(row: dict) -> tuple[int, int]:
    """Bytes and floating-point operations that XSepConv's forward or step cannot do without.

    A forward reads x and writes y; a backward reads x and the gradient of y, writes that of x, and multiplies once for
    the gradient of x and once for those of the weights.
    """
    side = math.ceil(row["H"] / row["stride"])
    maps = row["N"] * row["C"]
    x, between, y = maps * row["H"] ** 2, maps * row["H"] * side, maps * side**2
    flops = 2 * (4 * x + row["K"] * (between + y))
    elements = {"forward": x + y, "step": 3 * x + 2 * y}[row["pass"]]
    return elements * ITEMSIZE[row["dtype"]], flops * {"forward": 1, "step": 3}[row["pass"]]
