"""Small tensors, where launches count (G9), and the share of a backward that the sums over blocks take (G8).

python -m benchmarks.gpu.small [--device cuda] [--out FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from ..candidates import candidates
from ..cases import Case
from .arguments import parse
from .behaviour import captured
from .goals import Goal
from .report import Report

SMALL = ((16, 64, 28, 7), (8, 128, 14, 5))  # N, C, H = W, K: T of at most 3.1 MiB
LARGE = (128, 128, 56, 7)
CALLS, ROUNDS = 20, 9
EAGER_TIMES, GRAPH_TIMES, REDUCE_SHARE = 3, 2, 0.03


def per_call(candidate_calls: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, float]:
    """Milliseconds of a call in a row of calls, launches included: medians, interleaved."""

    def wait():
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()

    times: dict[str, list[float]] = {name: [] for name in candidate_calls}
    for _ in range(rounds + 1):
        for name, call in candidate_calls.items():
            wait()
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            wait()
            times[name].append(1e3 * (time.perf_counter() - start) / CALLS)
    return {name: median(values[1:]) for name, values in times.items()}


def kernels(call: Callable[[], object]) -> list[tuple[str, float]]:
    """Name and microseconds of each kernel that a call launches, as the profiler sees them."""
    from torch.profiler import ProfilerActivity, profile

    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        call()
        torch.cuda.synchronize()
    return [(event.name, event.device_time) for event in recorded.events() if event.device_time > 0]


def against_eager(times: dict[str, float]) -> float:
    """How many times as fast as the fastest other candidate the faster fused one is."""
    fused = min(value for name, value in times.items() if name.startswith("fused"))
    return min(value for name, value in times.items() if not name.startswith("fused")) / fused


def run(report: Report, device: str, shapes=SMALL, large=LARGE, rounds: int = ROUNDS) -> None:
    on_gpu = torch.device(device).type == "cuda"
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            label = f"{', '.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"
            found = candidates(Case(*shape), dtype, device, forms=("fused", "pad+concat", "in 3×3"))
            with report.guard(f"steps, {label}"):
                times = per_call({name: candidate.steps() for name, candidate in found.items()}, device, rounds)
                report.note(f"milliseconds of a step, {label}", times)
                report.goal(Goal("G9 step against eager", label, against_eager(times), EAGER_TIMES, at_least=True))
            if on_gpu:
                with report.guard(f"steps in CUDA graphs, {label}"):
                    graphs = {name: captured(candidate.step)[0].replay for name, candidate in found.items()}
                    times = per_call(graphs, device, rounds)
                    report.note(f"milliseconds of a step in a CUDA graph, {label}", times)
                    times = against_eager(times)
                    report.goal(Goal("G9 step against eager, CUDA graphs", label, times, GRAPH_TIMES, at_least=True))
    if on_gpu:
        with report.guard("launches"):
            count_launches(report, device, shapes[0], large)


def count_launches(report: Report, device: str, small: tuple, large: tuple) -> None:
    fused = candidates(Case(*small), torch.float32, device, forms=("fused",))["fused, NCHW"]
    forward, backward = kernels(fused.forwards()), kernels(fused.backwards())
    if not forward:
        return report.note("launches", "the profiler sees no kernels here")
    report.goal(Goal("G9 launches of a forward", "", len(forward), 1))
    report.goal(Goal("G9 launches of a backward", "", len(backward), 2))
    for dtype in (torch.float32, torch.bfloat16):
        fused = candidates(Case(*large), dtype, device, forms=("fused",))["fused, NCHW"]
        times = kernels(fused.backwards())
        share = sum(time for name, time in times if "reduce" in name) / sum(time for _, time in times)
        report.goal(Goal("G8 time of a backward for the sums over blocks", str(dtype), share, REDUCE_SHARE))


if __name__ == "__main__":
    parse(__doc__, run)
