"""What a step keeps and takes of the GPU's memory: G7, G8's partial sums, and that no layout is copied in secret (G6).

python -m benchmarks.gpu.memory [--device cuda] [--out FILE]
"""

from __future__ import annotations

import torch

from evenconv_cuda.extension import load_extension
from evenconv_cuda.saved import saved_bytes

from ..candidates import LAYOUTS, candidates
from ..cases import Case
from ..memory import peak_bytes
from .arguments import parse
from .goals import Goal
from .report import Report

SHAPE = (64, 128, 56, 7)
PEAK_SHARE = 0.62  # of the 3×3 embedding's
PARTIAL_SHARE = 0.01  # of T


def run(report: Report, device: str, shape: tuple[int, int, int, int] = SHAPE) -> None:
    N, C, H, K = shape
    for dtype in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        found = candidates(Case(*shape), dtype, device, forms=("fused", "in 3×3"))
        T = N * C * H * H * dtype.itemsize
        for layout in LAYOUTS:
            fused, embedded = found[f"fused, {layout}"], found[f"in 3×3, {layout}"]
            weights = sum(weight.untyped_storage().nbytes() for weight in fused.weights)
            saved = saved_bytes(fused.forward)
            where = f"{short} {layout}"
            report.goal(Goal("G7 saved bytes, in those of x and the weights", where, saved / (T + weights), 1))
            plan = load_extension().cuda_plan((N, C, H, H), short, layout == "channels_last", 2, K, K, backward=True)
            partial = plan["splits"] * plan["gradients"] * C * 4 / T
            report.goal(Goal("G8 partial sums, in T", where, partial, PARTIAL_SHARE))
            if torch.device(device).type != "cuda":
                continue
            with torch.no_grad():
                forward = peak_bytes(fused.forwards(), device)
            report.goal(Goal("G6 bytes that a forward allocates, in T", where, forward / T, 1.02))
            share = peak_bytes(fused.steps(), device) / peak_bytes(embedded.steps(), device)
            report.goal(Goal("G7 peak of a step, in that of in 3×3", where, share, PEAK_SHARE))


if __name__ == "__main__":
    parse(__doc__, run)
