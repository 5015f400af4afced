"""One XSepConv training step (forward and backward) on the CPU, against PyTorch's own forms of it.

    python -m benchmarks.ops [--quick] [--rounds N] [--threads N] [--output FILE]

Prints a table of ratios and writes every median, with machine, versions and date, as JSON. A ratio above 1 means that
the fused operator, in its faster layout unless the column names one, takes less time.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from tqdm import tqdm

from .candidates import LAYOUTS, steps
from .machine import description
from .timing import interleaved

RESULTS = Path(__file__).parent / "results"

# (N, C, H = W, K): depthwise layers of MobileNet- and EfficientNet-like networks.
SHAPES = (
    (16, 96, 56, 7),
    (16, 192, 28, 7),
    (16, 384, 14, 7),
    (32, 64, 32, 3),
    (32, 96, 28, 5),
    (32, 240, 14, 5),
    (64, 576, 7, 5),
    (4, 128, 56, 15),
    (8, 32, 112, 7),
)
UNFUSED = ("pad+concat", "in 3×3")
COLUMNS = {
    "vs fastest": "the fastest of pad+concat and 2×2-in-3×3, NCHW and channels_last",
    "NCHW": "the faster of the two forms in NCHW, against fused in NCHW",
    "channels_last": "the faster of the two forms in channels_last, against fused in channels_last",
    "vs K×K": "the K×K depthwise convolution that XSepConv replaces, in its faster layout",
    "bf16 vs fastest": "as the first column, all in bfloat16",
    "bf16 vs fp32": "fused float32 against fused bfloat16",
}


def ratios(times: dict[torch.dtype, dict[str, dict]]) -> dict[str, float]:
    """The table's row from the medians of every candidate by dtype."""

    def best(dtype: torch.dtype, forms: tuple[str, ...], layouts=tuple(LAYOUTS)) -> float:
        names = [f"{form}, {layout}" for form in forms for layout in layouts]
        return min(times[dtype][name]["median_ms"] for name in names if name in times[dtype])

    fp32, bf16 = torch.float32, torch.bfloat16
    fused = best(fp32, ("fused",))
    return {
        "vs fastest": best(fp32, UNFUSED) / fused,
        "NCHW": best(fp32, UNFUSED, ("NCHW",)) / best(fp32, ("fused",), ("NCHW",)),
        "channels_last": best(fp32, UNFUSED, ("channels_last",)) / best(fp32, ("fused",), ("channels_last",)),
        "vs K×K": best(fp32, ("K×K",)) / fused,
        "bf16 vs fastest": best(bf16, UNFUSED) / best(bf16, ("fused",)),
        "bf16 vs fp32": fused / best(bf16, ("fused",)),
    }


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def table(rows: dict[str, dict[str, float]]) -> str:
    """Ratios as a Markdown table, with geometric mean and minimum."""
    lines = ["| N, C, H=W, K | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    summary = {"geometric mean": geometric_mean, "minimum": min}
    shown = rows | {name: {c: f([row[c] for row in rows.values()]) for c in COLUMNS} for name, f in summary.items()}
    lines += [f"| {name} | " + " | ".join(f"{row[c]:.2f}" for c in COLUMNS) + " |" for name, row in shown.items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three shapes, few rounds: a look, not a result")
    parser.add_argument("--rounds", type=int, default=None, help="timed rounds per shape (default 25, quick 3)")
    parser.add_argument("--threads", type=int, default=None, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--output", type=Path, default=RESULTS / "ops-cpu.json", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 2:
        parser.error(f"--rounds is {options.rounds}; accepted are 2 and more")
    if options.threads:
        torch.set_num_threads(options.threads)
    shapes = SHAPES[4:7] if options.quick else SHAPES
    rounds = options.rounds or (3 if options.quick else 25)

    machine = description()
    rows, medians = {}, []
    for shape in tqdm(shapes, desc="XSepConv step", unit="shape"):
        times = {dtype: interleaved(steps(shape, dtype), rounds) for dtype in (torch.float32, torch.bfloat16)}
        rows[", ".join(map(str, shape))] = ratios(times)
        medians.append({"shape": shape, **{str(dtype): values for dtype, values in times.items()}})

    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    print(table(rows))
    print("\n".join(f"{name}: {meaning}" for name, meaning in COLUMNS.items()))
    result = {"machine": machine, "rounds": rounds, "ratios": rows, "milliseconds": medians}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
