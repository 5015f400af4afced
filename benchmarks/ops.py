"""Every operator against every other way to do it: forward, backward and step, time and memory.

    python -m benchmarks.ops [--quick] [--device cpu] [--rounds N] [--threads N] [--only TEXT] [--output FILE]
    python -m benchmarks.ops --device cuda --cudnn-benchmark

One process; the candidates of a case are interleaved, over inputs that together do not fit into the cache, in several
blocks minutes apart; medians with their spread. Result and all gradients of a candidate are compared with float64
first: a wrong one is reported and not timed. onnxruntime, whose threads wait actively, is timed by itself. CUDA graphs
replay on one set of inputs, which a cache may keep. cuDNN takes the algorithm that it has taken for a size before, so
its choice by measurement has a process and a file of its own.
Writes every row as JSON; ``python -m benchmarks.report`` makes tables and figures of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product

import torch
from tqdm import tqdm

from evenconv_cuda.saved import saved_bytes

from .candidates import EXACT, FORMS, NARROW, Candidate, candidates, compiled, is_right
from .cases import COMPILED, OTHERS, SWEEPS, XSEP, Case
from .command import BLOCKS, parse, write
from .left_out import leaving_out
from .limits import Limits, copies_of, measure_limits, needs, sets_for, short
from .memory import keep_memory, peak_bytes
from .onnx_runtime import onnx_forward, why_no_onnx
from .ratios import CASE, CUDNN_BENCHMARK, GRAPH, KEPT, UNFUSED
from .results import merged
from .timing import captured, interleaved

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
PASSES = {"forward": Candidate.forwards, "backward": Candidate.backwards, "step": Candidate.steps}
GRAPH_BYTES = 10 << 20
"""Of x: with less, launches count, and steps are timed as CUDA graphs too."""
LARGE_BYTES = 32 << 20
"""Of x: what glibc takes from the system anew each time."""
ROUNDS, QUICK_ROUNDS, SECONDS = 9, 3, 2


def measure(
    cases: Sequence[Case],
    dtypes: Sequence[torch.dtype] = (FP32,),
    rounds: int = ROUNDS,
    device: str = "cpu",
    passes: Sequence[str] = tuple(PASSES),
    thorough: bool = False,
    blocks: int = BLOCKS,
    eager: str = "eager",
) -> list[dict]:
    """A row for each case, dtype, pass, form, layout and mode; in narrow dtypes without backward by itself and without
    the convolutions that are replaced.

    ``thorough`` measures in float32, on a GPU in every dtype, torch.compile and CUDA graphs too, and in float32
    onnxruntime and memory; ``eager`` names the eager mode.
    """
    turns = [*product(range(blocks), cases, dtypes)]
    with tqdm(turns, unit="case", disable=not sys.stderr.isatty()) as bar:
        measured = []
        for block, case, dtype in bar:
            bar.set_description(f"{case} {short(dtype)}")
            narrow = dtype != FP32
            asked = [what for what in passes if what != "backward" or not narrow]
            more = thorough and (not narrow or torch.device(device).type == "cuda")
            with_memory = thorough and not narrow and block == 0
            with leaving_out(f"{case} in {short(dtype)}"):
                found = candidates(case, dtype, device, sets_for(case, dtype, device), NARROW if narrow else FORMS)
                rows = _timed(found, case, dtype, rounds, device, asked, more, eager)
                measured.append(_with_memory(rows, found, device) if with_memory else rows)
    return merged(measured, blocks)


def related(rows: Sequence[dict], limits: Limits) -> list[dict]:
    """The rows with their time in copies of x, in the same layout, and of what computes the operator, with its share of
    the machine's roofline; but for CUDA graphs, whose inputs a cache may keep."""

    def place(row: dict) -> tuple:
        return *(row[name] for name in (*CASE, "dtype", "layout")), row["mode"] == KEPT

    copies = {place(row): row["ms"]["median"] for row in rows if row["candidate"] == "copy"}
    found = []
    for row in rows:
        if row["mode"] != GRAPH:
            row = row | {"times_copy": row["ms"]["median"] / copies[place(row)]}
        if row["candidate"] in ("fused", *UNFUSED) and row["mode"] != GRAPH:
            moved, flops = needs(Case(**{name: row[name] for name in CASE}), row["dtype"], row["pass"])
            row["roofline"] = limits.milliseconds(moved, flops, row["dtype"]) / row["ms"]["median"]
        found.append(row)
    return found


def _timed(found, case, dtype, rounds, device, passes, thorough, eager) -> list[dict]:
    """A block: rows with the times of all rounds."""
    torch._dynamo.reset()  # what was compiled for the case before
    calls, errors = {}, {}
    for name, candidate in found.items():
        form, layout = name.split(", ")
        if ("forward", "copy", layout, eager) not in calls:
            calls["forward", "copy", layout, eager] = candidate.copies()
        for what in passes:
            calls[what, form, layout, eager] = PASSES[what](candidate)
        errors[form, layout, eager] = candidate.error
        if thorough and form in EXACT[1:] and case in COMPILED:
            with leaving_out(f"{name}, compiled, for {case} in {short(dtype)}"):
                variant = compiled(candidate)
                if is_right(f"{name}, compiled", variant, case):
                    of_variant = {what: PASSES[what](variant) for what in passes if what != "backward"}
                    calls |= {(what, form, layout, "compiled"): call for what, call in of_variant.items()}
                    errors[form, layout, "compiled"] = variant.error
        if thorough and candidate.sets[0][0].is_cuda and candidate.sets[0][0].nbytes < GRAPH_BYTES:
            with leaving_out(f"{name}, {GRAPH}, for {case} in {short(dtype)}"):
                graph, results = captured(candidate.step)
                graph.replay()
                replayed = replace(candidate)
                if is_right(f"{name}, {GRAPH}", replayed, case, results):
                    calls["step", form, layout, GRAPH] = graph.replay
                    errors[form, layout, GRAPH] = replayed.error
    times = interleaved(calls, rounds, device, SECONDS)
    if (thorough or eager == KEPT) and "forward" in passes and _for_onnx(found, case, dtype, device):
        # By itself, since its threads wait actively for a while, into the time of what comes next.
        with leaving_out(f"onnxruntime, for {case}"):
            call = onnx_forward(case, found["fused, NCHW"])
            if call is not None:
                times |= interleaved({("forward", "onnxruntime", "NCHW", eager): call}, rounds, device, SECONDS)
    rows = []
    for (what, form, layout, mode), ms in times.items():
        row = asdict(case) | {"dtype": short(dtype), "pass": what, "candidate": form, "layout": layout, "mode": mode}
        error = errors.get((form, layout, mode))
        rows.append(row | {"ms": ms} | ({} if error is None else {"error": float(f"{error:.1e}")}))
    return rows


def _for_onnx(found: dict[str, Candidate], case: Case, dtype: torch.dtype, device: str) -> bool:
    return case.operator == "xsep_conv2d" and dtype == FP32 and "fused, NCHW" in found and why_no_onnx(device) is None


def _with_memory(rows: Sequence[dict], found: dict[str, Candidate], device: str) -> list[dict]:
    """The rows, with what eager steps save and take."""
    more = []
    for row in rows:
        candidate = found.get(f"{row['candidate']}, {row['layout']}")
        if candidate is not None and (row["pass"], row["mode"]) == ("step", "eager"):
            with leaving_out(f"memory of {row['candidate']}, {row['layout']}, for {row['operator']}"):
                saved, peak = saved_bytes(candidate.forward), peak_bytes(candidate.steps(), device)
                row = row | {"saved_bytes": saved, "peak_bytes": peak}
        more.append(row)
    return more


def main(arguments: list[str] | None = None) -> None:
    options = parse("ops", __doc__, ROUNDS, QUICK_ROUNDS, arguments)

    def chosen(cases: Sequence[Case]) -> list[Case]:
        kept = [case for case in cases if options.only in f"{case} {case.group}"]
        return list({case.operator: case for case in reversed(kept)}.values()) if options.quick else kept

    ordinary, sweeps = chosen((*XSEP, *OTHERS)), [] if options.quick else chosen(SWEEPS)
    if not ordinary and not sweeps:
        options.refuse(f"--only is {options.only!r}; accepted is a part of an operator's, a size's or a group's name")
    if (reason := why_no_onnx(options.device)) is not None:
        print(f"onnxruntime is left out: {reason}")
    device, rounds, blocks = options.device, options.rounds, options.blocks
    dtypes = (FP32, BF16) if device == "cpu" else (FP32, BF16, FP16)
    eager = CUDNN_BENCHMARK if options.cudnn_benchmark else "eager"
    thorough = not options.quick and not options.cudnn_benchmark
    limits = [measure_limits(device, dtypes)]
    rows = measure(ordinary, dtypes, rounds, device, thorough=thorough, blocks=blocks, eager=eager)
    rows += measure(sweeps, (FP32,), rounds, device, ("forward", "step"), blocks=blocks, eager=eager)
    with leaving_out("the machine's limits at the end"):
        limits.append(measure_limits(device, dtypes))
    large = [case for case in ordinary if case in XSEP and 4 * case.N * case.C * case.H**2 >= LARGE_BYTES]
    if device == "cpu" and not options.quick and keep_memory():
        rows += measure(large, (FP32,), rounds, passes=("forward", "step"), blocks=blocks, eager=KEPT)
    highest = Limits.highest([*limits, copies_of(rows)])
    rows = related(rows, highest)
    write(options, rows, limits=asdict(highest))
    for row in rows:
        if row["candidate"] == "fused":
            copies = f"{row['times_copy']:6.2f} × copy" if "times_copy" in row else " " * 13
            print(f"{row['ms']['median']:9.3f} ms  {copies}  {row['pass']:8}", *_shown(row))


def _shown(row: dict) -> tuple:
    size = f"{row['N']}×{row['C']}×{row['H']}², K = {row['K']}"
    return row["operator"], size, row["dtype"], row["layout"], row["mode"]


if __name__ == "__main__":
    main()
