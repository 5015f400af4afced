"""What a kernel must do beside being right: the same bits every time, in a graph, on any stream and device.

python -m benchmarks.gpu.behaviour [--device cuda] [--out FILE]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..candidates import Candidate, candidates
from ..cases import Case
from ..timing import captured
from .arguments import parse
from .report import Report

SHAPE = (16, 48, 30, 7)
RUNS = 20


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    names = ("result", "dx", *(f"gradient of weight {i}" for i in range(len(expected) - 2)))
    wrong = [name for name, a, b in zip(names, found, expected) if not torch.equal(a.to(b.device), b)]
    if wrong:
        raise AssertionError(f"differs in {', '.join(wrong)}")


def deterministic(candidate: Candidate) -> str:
    first = candidate.step()
    for _ in range(RUNS):
        same(candidate.step(), first)
    return f"{RUNS} runs"


def in_graph(candidate: Candidate) -> None:
    """A replay gives what a call gives, also after the input has changed."""
    graph, results = captured(candidate.step)
    for _ in range(2):
        candidate.sets[0][0].mul_(-1.5)
        graph.replay()
        torch.cuda.synchronize()
        same(results, candidate.step())


def on_side_stream(candidate: Candidate) -> None:
    """What a side stream still writes when the call is queued there is what the call reads."""
    expected = candidate.step()
    x, grad = candidate.sets[0]
    late = torch.zeros_like(x)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(x)
        found = Candidate(candidate.function, [(late, grad)], candidate.weights).step()
    side.synchronize()
    same(found, expected)


def on_second_device(candidate: Candidate) -> str:
    """With the first device current."""
    if torch.cuda.device_count() < 2:
        return "not tried: there is one device"
    moved = [tuple(tensor.to("cuda:1") for tensor in pair) for pair in candidate.sets]
    weights = [weight.to("cuda:1") for weight in candidate.weights]
    same(Candidate(candidate.function, moved, weights).step(), candidate.step())
    return ""


def run(report: Report, device: str, shape: tuple[int, int, int, int] = SHAPE) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for name, candidate in candidates(Case(*shape), dtype, device, forms=("fused",)).items():
            checks: dict[str, Callable] = {"the same bits": deterministic}
            if torch.device(device).type == "cuda":
                checks |= {"CUDA graph": in_graph, "side stream": on_side_stream, "second device": on_second_device}
            for what, check in checks.items():
                label = f"{what}, {name}, {str(dtype).removeprefix('torch.')}"
                report.run(label, lambda check=check, candidate=candidate: check(candidate))


if __name__ == "__main__":
    parse(__doc__, run)
