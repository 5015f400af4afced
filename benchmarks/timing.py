"""Timing several candidates in one process so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median, quantiles

import torch

Call = Callable[[], object]


def interleaved(candidates: dict[str, Call], rounds: int, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Milliseconds of each candidate: median and quartiles over ``rounds``, each of which runs every candidate once.

    What disturbs the machine disturbs all candidates alike; ratios of medians are what to read. On a GPU the times are
    those between events.
    """
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    run = _cuda_round if torch.device(device).type == "cuda" else _round
    for _ in range(rounds):
        for name, milliseconds in run(candidates).items():
            times[name].append(milliseconds)
    summary = {}
    for name, values in times.items():
        low, _, high = quantiles(values, n=4)
        summary[name] = {"median_ms": median(values), "quartiles_ms": [low, high]}
    return summary


def _round(candidates: dict[str, Call]) -> dict[str, float]:
    times = {}
    for name, call in candidates.items():
        start = time.perf_counter()
        call()
        times[name] = 1e3 * (time.perf_counter() - start)
    return times


def _cuda_round(candidates: dict[str, Call]) -> dict[str, float]:
    """All calls are queued before the GPU is waited for, behind a pause that lets the CPU run ahead: the time from a
    call's start event to its end event is then the GPU's own, unless the CPU is the slower of the two."""
    events = {}
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000)
    for name, call in candidates.items():
        events[name] = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        events[name][0].record()
        call()
        events[name][1].record()
    torch.cuda.synchronize()
    return {name: start.elapsed_time(end) for name, (start, end) in events.items()}
