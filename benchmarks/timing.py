"""Timing several candidates in one process so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from statistics import median, quantiles
from typing import TypeVar

import torch

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


def interleaved(
    candidates: dict[Name, Call], rounds: int, device: str = "cpu", at_most_s: float | None = None
) -> dict[Name, dict[str, float]]:
    """Milliseconds of each candidate: median and spread over ``rounds``, each of which runs every candidate once.

    What disturbs the machine disturbs all candidates alike; ratios of medians are what to read. A first round warms up
    and does not count. After ``at_most_s`` seconds no further round starts, once there are five. On a GPU the times are
    those between events.
    """
    for call in candidates.values():
        call()
    times: dict[Name, list[float]] = {name: [] for name in candidates}
    run = _cuda_round if torch.device(device).type == "cuda" else _round
    start = time.perf_counter()
    for number in range(rounds):
        if number >= 5 and at_most_s is not None and time.perf_counter() - start > at_most_s:
            break
        for name, milliseconds in run(candidates).items():
            times[name].append(milliseconds)
    return {name: spread(values) for name, values in times.items()}


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Median, quartiles, outer deciles, least, and how many there are."""
    deciles, quarters = quantiles(milliseconds, n=10), quantiles(milliseconds, n=4)
    return {
        "median": median(milliseconds),
        "p10": deciles[0],
        "p25": quarters[0],
        "p75": quarters[2],
        "p90": deciles[-1],
        "min": min(milliseconds),
        "rounds": len(milliseconds),
    }


def _round(candidates: dict[Name, Call]) -> dict[Name, float]:
    times = {}
    for name, call in candidates.items():
        start = time.perf_counter()
        call()
        times[name] = 1e3 * (time.perf_counter() - start)
    return times


def _cuda_round(candidates: dict[Name, Call]) -> dict[Name, float]:
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
