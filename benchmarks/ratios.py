"""Which rows are compared with which: what tables, figures and the guard agree on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from statistics import median as middle

from .cases import Case

UNFUSED = ("pad+concat", "in 3×3", "pad+concat via float32", "in 3×3 via float32", "onnxruntime")
"""Candidates that compute what the operator does, without it."""
CUDNN_BENCHMARK, GRAPH, KEPT = "cudnn.benchmark", "CUDA graph", "memory kept"
"""Modes beside eager and compiled: cuDNN's choice of algorithms by measurement; a graph's replay; an allocator that
gives nothing back to the system."""
APART = (GRAPH, KEPT)
"""Modes that spare all candidates what a step otherwise takes: launches, and memory fresh from the system."""
ORIGINALS = ("c3", "depthwise")
"""Convolutions of the networks as they were, before even kernels replaced them."""
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}

CASE = [field.name for field in fields(Case)]


def ordinary(rows: Iterable[dict]) -> list[dict]:
    """Those on the maps of networks: all but the sweeps'."""
    return [row for row in rows if not row["group"].startswith("sweep")]


def by_case(rows: Iterable[dict]) -> dict[Case, list[dict]]:
    found: dict[Case, list[dict]] = defaultdict(list)
    for row in rows:
        found[Case(**{name: row[name] for name in CASE})].append(row)
    return dict(found)


def wanted(rows: Iterable[dict], *candidates: str, **where: str) -> list[dict]:
    """Rows of these candidates with these values. Modes that stand apart count only where ``mode`` asks for them."""
    return [
        row
        for row in rows
        if row["candidate"] in candidates
        and all(row[name] == value for name, value in where.items())
        and ("mode" in where or row["mode"] not in APART)
    ]


def fastest(rows: Iterable[dict], *candidates: str, **where: str) -> dict | None:
    """Of the wanted rows that of the least median."""
    return min(wanted(rows, *candidates, **where), key=median, default=None)


def median(row: dict) -> float:
    """Milliseconds."""
    return row["ms"]["median"]


def blocks_of(rows: Iterable[dict]) -> int:
    """In how many blocks all of them were measured."""
    return min((len(row["ms"]["blocks"]) for row in rows), default=0)


def compared(slow: Sequence[dict], fast: Sequence[dict]) -> list[float]:
    """How many times faster the fastest of ``fast`` is than the fastest of ``slow``, in each block by itself.

    Of two processes, with and without cuDNN's choice by measurement, what the one says that says less.
    """
    of_processes = [
        [[row for row in rows if (row["mode"] == CUDNN_BENCHMARK) == apart] for rows in (slow, fast)]
        for apart in (False, True)
    ]
    return min((_of_blocks(*both) for both in of_processes if all(both)), key=middle, default=[])


def _of_blocks(slow: Sequence[dict], fast: Sequence[dict]) -> list[float]:
    least = [
        [min(row["ms"]["blocks"][block] for row in rows) for block in range(blocks_of([*slow, *fast]))]
        for rows in (slow, fast)
    ]
    return [of_slow / of_fast for of_slow, of_fast in zip(*least)]


def over(slow: Sequence[dict], fast: Sequence[dict]) -> float | None:
    """The middle of what the blocks say; None if either is missing."""
    return middle(found) if (found := compared(slow, fast)) else None


def against(rows: Sequence[dict], *candidates: str, **where: str) -> float | None:
    """How many times faster the fastest fused row is than the fastest of the candidates, both with these values."""
    return over(wanted(rows, *candidates, **where), wanted(rows, "fused", **where))


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
