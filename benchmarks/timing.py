"""Timing several candidates in one process so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import chain
from random import Random
from statistics import median, quantiles
from typing import TypeVar

import torch

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)
LEAST_ROUNDS = 5
CYCLES_PER_S, LEAST_PAUSE_S = 3e9, 1e-4
"""Of a GPU, at most about; and what even a call that is queued at once is given."""
_random = Random(0)


def interleaved(
    candidates: dict[Name, Call], rounds: int, device: str = "cpu", at_most_s: float | None = None, ahead: bool = True
) -> dict[Name, list[float]]:
    """Milliseconds of each candidate in each of ``rounds`` rounds; a round runs every candidate once, in random order.

    What disturbs the machine disturbs all candidates alike; ratios of medians are what to read. A first round warms up
    and does not count. After ``at_most_s`` seconds no further round starts, once there are a few. On a GPU the times
    are those between events: the GPU's own if the CPU queues ``ahead``, else with launches, as in a program.
    """
    for call in candidates.values():
        call()
    times: dict[Name, list[float]] = {name: [] for name in candidates}
    on_gpu = torch.device(device).type == "cuda"
    run = partial(_cuda_round, ahead=ahead) if on_gpu else _round
    order = [*candidates.items()]
    start = time.perf_counter()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and at_most_s is not None and time.perf_counter() - start > at_most_s:
            break
        _random.shuffle(order)
        for name, milliseconds in run(order).items():
            times[name].append(milliseconds)
    return times


def captured(step: Callable[[], list[torch.Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[torch.Tensor]]:
    """A CUDA graph of the step, and the tensors that a replay fills."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            results = step()
    finally:
        torch.cuda.set_stream(stream)  # which a capture that fails does not
    return graph, results


def spread(blocks: Sequence[Sequence[float]]) -> dict[str, float | list[float]]:
    """Of milliseconds: median, quartiles, outer deciles, least and count of all, and the median of each block."""
    every = [*chain.from_iterable(blocks)]
    tenths, quarters = (quantiles(every, n=n, method="inclusive") for n in (10, 4))
    found = {"median": median(every), "p10": tenths[0], "p25": quarters[0], "p75": quarters[2], "p90": tenths[-1]}
    found = {name: _four_digits(value) for name, value in (found | {"min": min(every)}).items()}
    return found | {"rounds": len(every), "blocks": [_four_digits(median(block)) for block in blocks]}


def _four_digits(value: float) -> float:
    return float(f"{value:.4g}")


def _round(candidates: Sequence[tuple[Name, Call]]) -> dict[Name, float]:
    times = {}
    for name, call in candidates:
        start = time.perf_counter()
        call()
        times[name] = 1e3 * (time.perf_counter() - start)
    return times


def _cuda_round(candidates: Sequence[tuple[Name, Call]], ahead: bool) -> dict[Name, float]:
    """To run ahead, the CPU queues each call once to see how long that takes, then again while the GPU pauses for twice
    as long: the time from the call's start event to its end event is then the GPU's own."""
    times = {}
    for name, call in candidates:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        if ahead:
            before = time.perf_counter()
            call()
            queueing = time.perf_counter() - before
            torch.cuda.synchronize()
            torch.cuda._sleep(int((2 * queueing + LEAST_PAUSE_S) * CYCLES_PER_S))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times[name] = start.elapsed_time(end)
    return times
