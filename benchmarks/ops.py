"""Every operator against every other way to do it: forward, backward and step, time and memory.

    python -m benchmarks.ops [--quick] [--device cpu] [--rounds N] [--threads N] [--only TEXT] [--output FILE]

One process; the candidates of a case are interleaved, over inputs that together do not fit into the cache; medians with
their spread. Result and dx of each eager form are compared with float64 first: a wrong one is reported and not timed.
Writes every row as JSON; ``python -m benchmarks.report`` makes tables and figures of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from tqdm import tqdm

from .candidates import EXACT, Candidate, candidates, compiled, with_cudnn_benchmark
from .cases import COMPILED, OTHERS, SWEEPS, XSEP, Case
from .command import parse, write
from .gpu.behaviour import captured
from .limits import Limits, measure_limits, needs, sets_for, short
from .memory import peak_bytes, saved_bytes
from .onnx_runtime import onnx_forward, why_no_onnx
from .timing import interleaved

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
PASSES = {"forward": Candidate.forwards, "backward": Candidate.backwards, "step": Candidate.steps}
GRAPH_BYTES = 10 << 20
"""Of x: with less, launches count, and steps are timed as CUDA graphs too."""
ROUNDS, QUICK_ROUNDS, SECONDS = 25, 5, 8


def measure(
    cases: Sequence[Case],
    dtypes: Sequence[torch.dtype] = (FP32,),
    rounds: int = ROUNDS,
    device: str = "cpu",
    limits: Limits | None = None,
    passes: Sequence[str] = tuple(PASSES),
    thorough: bool = False,
) -> list[dict]:
    """A row for each case, dtype, pass, form, layout and mode.

    ``limits`` adds the share of the machine's roofline; ``thorough`` measures, in float32, onnxruntime, memory and for
    some cases torch.compile too.
    """
    rows = []
    with tqdm(total=len(cases) * len(dtypes), unit="case", disable=not sys.stderr.isatty()) as bar:
        for case in cases:
            for dtype in dtypes:
                bar.set_description(f"{case} {short(dtype)}")
                rows += _rows(case, dtype, rounds, device, limits, passes, thorough and dtype == FP32)
                bar.update()
    return rows


def _rows(case, dtype, rounds, device, limits, passes, thorough) -> list[dict]:
    torch._dynamo.reset()  # what was compiled for the case before
    found = candidates(case, dtype, device, sets_for(case, dtype, device))
    calls = {}
    for name, candidate in found.items():
        form, layout = name.split(", ")
        calls.setdefault(("forward", "copy", layout, "eager"), candidate.copies())
        for what in passes:
            variants = _variants(what, form, candidate, device, thorough and case in COMPILED)
            calls |= {(what, form, layout, mode): call for mode, call in variants.items()}
    fused = found.get("fused, NCHW")
    if thorough and fused and case.operator == "xsep_conv2d" and device == "cpu" and why_no_onnx() is None:
        calls["forward", "onnxruntime", "NCHW", "eager"] = onnx_forward(case, fused)
    times = interleaved(calls, rounds, device, SECONDS)
    rows = []
    for (what, form, layout, mode), ms in times.items():
        row = asdict(case) | {"dtype": short(dtype), "pass": what, "candidate": form, "layout": layout, "mode": mode}
        row |= {"ms": ms, "times_copy": ms["median"] / times["forward", "copy", layout, "eager"]["median"]}
        candidate = found.get(f"{form}, {layout}")
        if candidate is not None:
            row["error"] = candidate.error
            if limits is not None:
                row["roofline"] = limits.milliseconds(*needs(candidate, what), dtype) / ms["median"]
            if thorough and what == "step" and mode == "eager":
                row["saved_bytes"] = saved_bytes(candidate.forward)
                row["peak_bytes"] = peak_bytes(candidate.steps(), device)
        rows.append(row)
    return rows


def _variants(what: str, form: str, candidate: Candidate, device: str, with_compiled: bool) -> dict[str, Callable]:
    """A pass of a candidate in every mode that it is measured in."""
    make = PASSES[what]
    calls = {"eager": make(candidate)}
    on_gpu = torch.device(device).type == "cuda"
    if with_compiled and what != "backward" and form in EXACT[1:]:
        calls["compiled"] = make(compiled(candidate))
    if on_gpu and form != "fused":
        calls["cudnn.benchmark"] = with_cudnn_benchmark(make(candidate))
    if on_gpu and what == "step" and candidate.sets[0][0].nbytes < GRAPH_BYTES:
        calls["CUDA graph"] = captured(candidate.step)[0].replay
    return calls


def main(arguments: list[str] | None = None) -> None:
    options = parse("ops", __doc__, ROUNDS, QUICK_ROUNDS, arguments)

    def chosen(cases: Sequence[Case]) -> list[Case]:
        kept = [case for case in cases if options.only in f"{case} {case.group}"]
        return list({case.operator: case for case in kept}.values()) if options.quick else kept

    ordinary, sweeps = chosen((*XSEP, *OTHERS)), [] if options.quick else chosen(SWEEPS)
    if not ordinary and not sweeps:
        options.refuse(f"--only is {options.only!r}; accepted is a part of an operator's, a size's or a group's name")
    if (reason := why_no_onnx()) is not None:
        print(f"onnxruntime is left out: {reason}")
    device = options.device
    dtypes = (FP32, BF16) if device == "cpu" else (FP32, BF16, FP16)
    limits = measure_limits(device, dtypes)
    rows = measure(ordinary, dtypes, options.rounds, device, limits, thorough=not options.quick)
    rows += measure(sweeps, (FP32,), options.rounds, device, limits, passes=("forward", "step"))
    for row in rows:
        if row["candidate"] == "fused":
            print(f"{row['ms']['median']:9.3f} ms  {row['times_copy']:6.2f} × copy  {row['pass']:8}", *_shown(row))
    write(options, rows, limits=asdict(limits))


def _shown(row: dict) -> tuple:
    return row["operator"], f"{row['N']}×{row['C']}×{row['H']}², K = {row['K']}", row["dtype"], row["layout"]


if __name__ == "__main__":
    main()
