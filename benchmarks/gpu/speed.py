"""Times of the fused operator and of what it replaces, shape by shape, the most telling first.

    python -m benchmarks.gpu.speed [--compiled | --more] [--device cuda] [--out FILE]

All candidates of a shape and dtype are timed in one process, interleaved, over inputs that together do not fit into the
L2; medians. cuDNN chooses its algorithms by measurement. The file holds every median.
"""

from __future__ import annotations

from statistics import median

import torch

from ..candidates import EXACT, candidates, compiled
from ..cases import Case
from ..limits import sets_for
from ..timing import interleaved
from .arguments import parse
from .goals import evaluate
from .report import Report

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16

# N, C, H = W, K and dtype: first what most goals speak of.
FIRST = (
    ((128, 128, 56, 7), BF16),
    ((128, 128, 56, 7), FP32),
    ((128, 128, 56, 3), BF16),
    ((128, 128, 56, 3), FP32),
    ((512, 512, 14, 7), BF16),
    ((512, 512, 14, 7), FP32),
)
COMPILED = FIRST[:4]
MORE = (
    ((128, 128, 56, 31), FP32),
    ((128, 128, 56, 31), BF16),
    ((128, 128, 56, 31), FP16),
    ((256, 256, 28, 7), FP32),
    ((256, 256, 28, 7), BF16),
    ((1024, 1024, 7, 5), FP32),
    ((1024, 1024, 7, 5), BF16),
    ((64, 64, 112, 3), FP32),
    ((64, 64, 112, 3), BF16),
    ((256, 240, 28, 5), FP16),
)
ROUNDS = 15


def calls_of(shape, dtype, device: str, with_compiled: bool, sets: int) -> dict[str, object]:
    """Calls by name "what | form, layout | variant"."""
    found = candidates(Case(*shape), dtype, device, sets, (*EXACT, "K×K"))
    calls = {f"copy | {name}": c.copies() for name, c in found.items() if name.startswith("fused")}
    for name, candidate in found.items():
        forms = {"eager": candidate}
        if with_compiled and name.split(",")[0] in ("pad+concat", "in 3×3"):
            forms = {"compiled": compiled(candidate)}
        elif with_compiled and not name.startswith("fused"):
            continue
        for variant, form in forms.items():
            calls[f"forward | {name} | {variant}"] = form.forwards()
            calls[f"step | {name} | {variant}"] = form.steps()
            if name.startswith("fused"):
                calls[f"backward | {name} | {variant}"] = form.backwards()
    if not with_compiled:
        for name, candidate in candidates(Case(*shape), dtype, device, sets, ("3×3",)).items():
            calls[f"forward | {name} | eager"] = candidate.forwards()
    return calls


def run(report: Report, device: str, compiled: bool = False, more: bool = False, shapes=None, rounds: int = ROUNDS):
    """``compiled``: torch.compile's max-autotune in place of the eager forms."""
    shapes = shapes or (COMPILED if compiled else MORE if more else FIRST)
    measured = []
    for shape, dtype in shapes:
        label = f"{', '.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"
        with report.guard(f"timing {label}"):
            sets = sets_for(Case(*shape), dtype, device) if torch.device(device).type == "cuda" else 1
            times = interleaved(calls_of(shape, dtype, device, compiled, sets), rounds, device)
            medians = {name: median(milliseconds) for name, milliseconds in times.items()}
            measured.append({"shape": shape, "dtype": str(dtype).removeprefix("torch."), "milliseconds": medians})
            report.note("measured", measured)
            for name, milliseconds in sorted(medians.items(), key=lambda item: item[1]):
                print(f"  {milliseconds:9.4f} ms  {name}")
            report.check(f"timing {label}", True, f"{len(medians)} candidates")
            print(*(f"  {goal}" for goal in evaluate(measured[-1:])), sep="\n", flush=True)
        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    parse(__doc__, run, compiled="torch.compile's forms", more="the other shapes, and K = 31")
