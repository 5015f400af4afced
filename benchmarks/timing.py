"""Timing several candidates in one process so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median, quantiles


def interleaved(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each candidate: median and quartiles over ``rounds``, each of which runs every candidate once.

    What disturbs the machine disturbs all candidates alike; ratios of medians are what to read.
    """
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    summary = {}
    for name, values in times.items():
        low, _, high = quantiles(values, n=4)
        summary[name] = {"median_ms": median(values), "quartiles_ms": [low, high]}
    return summary
