"""Every operator against every other way to do it: forward, backward and step, time and memory.

    python -m benchmarks.ops [--quick] [--device cpu] [--rounds N] [--threads N] [--only TEXT] [--output FILE]

One process; the candidates of a case are interleaved, over inputs that together do not fit into the cache, in several
blocks minutes apart; medians with their spread. Result and all gradients of a candidate are compared with float64
first: a wrong one is reported and not timed. CUDA graphs replay on one set of inputs, which a cache may keep.
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

from .candidates import EXACT, Candidate, candidates, compiled, is_right, with_cudnn_benchmark
from .cases import OTHERS, SWEEPS, XSEP, Case
from .command import BLOCKS, parse, write
from .gpu.behaviour import captured
from .limits import Limits, copies_of, measure_limits, needs, sets_for, short
from .memory import keep_memory, peak_bytes
from .onnx_runtime import onnx_forward, why_no_onnx
from .ratios import CASE, GRAPH, KEPT, UNFUSED
from .results import merged
from .timing import interleaved

FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
PASSES = {"forward": Candidate.forwards, "backward": Candidate.backwards, "step": Candidate.steps}
GRAPH_BYTES = 10 << 20
"""Of x: with less, launches count, and steps are timed as CUDA graphs too."""
LARGE_BYTES = 32 << 20
"""Of x: what glibc takes from the system anew each time."""
ROUNDS, QUICK_ROUNDS, SECONDS = 9, 3, 3


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
    """A row for each case, dtype, pass, form, layout and mode.

    ``thorough`` measures, in float32, torch.compile, onnxruntime and memory too; ``eager`` names the eager mode.
    """
    turns = [*product(range(blocks), cases, dtypes)]
    with tqdm(turns, unit="case", disable=not sys.stderr.isatty()) as bar:
        measured = []
        for block, case, dtype in bar:
            bar.set_description(f"{case} {short(dtype)}")
            found = candidates(case, dtype, device, sets_for(case, dtype, device))
            extra = thorough and dtype == FP32
            rows = _timed(found, case, dtype, rounds, device, passes, extra, eager)
            measured.append(_with_memory(rows, found, device) if extra and block == 0 else rows)
    return merged(measured)


def related(rows: Sequence[dict], limits: Limits) -> list[dict]:
    """The rows with their time in copies of x, in the same layout, and of what computes the operator, with its share of
    the machine's roofline."""

    def place(row: dict) -> tuple:
        return *(row[name] for name in (*CASE, "dtype", "layout")), row["mode"] == KEPT

    copies = {place(row): row["ms"]["median"] for row in rows if row["candidate"] == "copy"}
    found = []
    for row in rows:
        row = row | {"times_copy": row["ms"]["median"] / copies[place(row)]}
        if row["candidate"] in ("fused", *UNFUSED):
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
        calls.setdefault(("forward", "copy", layout, eager), candidate.copies())
        for what in passes:
            calls[what, form, layout, eager] = PASSES[what](candidate)
        errors[form, layout, eager] = candidate.error
        for mode, variant in _variants(form, candidate, case, device, thorough).items():
            if is_right(f"{name}, {mode}", variant, variant.step(), case):
                chosen = [what for what in passes if what != "backward" or mode != "compiled"]
                calls |= {(what, form, layout, mode): PASSES[what](variant) for what in chosen}
                errors[form, layout, mode] = variant.error
        if _in_graphs(candidate, passes):
            graph, results = captured(candidate.step)
            graph.replay()
            replayed = replace(candidate)
            if is_right(f"{name}, {GRAPH}", replayed, results, case):
                calls["step", form, layout, GRAPH] = graph.replay
                errors[form, layout, GRAPH] = replayed.error
    times = interleaved(calls, rounds, device, SECONDS)
    if thorough and _for_onnx(found, case, device):
        # By itself, since its threads wait actively for a while, into the time of what comes next.
        call = {("forward", "onnxruntime", "NCHW", eager): onnx_forward(case, found["fused, NCHW"])}
        times |= interleaved(call, rounds, device, SECONDS)
    rows = []
    for (what, form, layout, mode), ms in times.items():
        row = asdict(case) | {"dtype": short(dtype), "pass": what, "candidate": form, "layout": layout, "mode": mode}
        error = errors.get((form, layout, mode))
        rows.append(row | {"ms": ms} | ({} if error is None else {"error": float(f"{error:.1e}")}))
    return rows


def _variants(form: str, candidate: Candidate, case: Case, device: str, thorough: bool) -> dict[str, Candidate]:
    """A candidate in the modes, beside eager, that it is measured in."""
    modes = {}
    if thorough and form in EXACT[1:]:
        modes["compiled"] = compiled(candidate)
    # The dense fused operator has a convolution of cuDNN's too.
    if torch.device(device).type == "cuda" and (form != "fused" or case.operator == "even_conv2d"):
        modes["cudnn.benchmark"] = with_cudnn_benchmark(candidate)
    return modes


def _in_graphs(candidate: Candidate, passes: Sequence[str]) -> bool:
    x = candidate.sets[0][0]
    return "step" in passes and x.is_cuda and x.nbytes < GRAPH_BYTES


def _for_onnx(found: dict[str, Candidate], case: Case, device: str) -> bool:
    return "fused, NCHW" in found and case.operator == "xsep_conv2d" and device == "cpu" and why_no_onnx() is None


def _with_memory(rows: Sequence[dict], found: dict[str, Candidate], device: str) -> list[dict]:
    """The rows, with what eager steps save and take."""
    more = []
    for row in rows:
        candidate = found.get(f"{row['candidate']}, {row['layout']}")
        if candidate is not None and (row["pass"], row["mode"]) == ("step", "eager"):
            saved, peak = saved_bytes(candidate.forward), peak_bytes(candidate.steps(), device)
            row = row | {"saved_bytes": saved, "peak_bytes": peak}
        more.append(row)
    return more


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
    device, rounds, blocks = options.device, options.rounds, options.blocks
    dtypes = (FP32, BF16) if device == "cpu" else (FP32, BF16, FP16)
    limits = [measure_limits(device, dtypes)]
    rows = measure(ordinary, dtypes, rounds, device, thorough=not options.quick, blocks=blocks)
    rows += measure(sweeps, (FP32,), rounds, device, ("forward", "step"), blocks=blocks)
    limits.append(measure_limits(device, dtypes))
    large = [case for case in ordinary if 4 * case.N * case.C * case.H**2 >= LARGE_BYTES]
    if device == "cpu" and not options.quick and keep_memory():
        rows += measure(large, (FP32,), rounds, blocks=blocks, eager=KEPT)
    highest = Limits.highest([*limits, copies_of(rows)])
    rows = related(rows, highest)
    for row in rows:
        if row["candidate"] == "fused":
            print(f"{row['ms']['median']:9.3f} ms  {row['times_copy']:6.2f} × copy  {row['pass']:8}", *_shown(row))
    write(options, rows, limits=asdict(highest))


def _shown(row: dict) -> tuple:
    size = f"{row['N']}×{row['C']}×{row['H']}², K = {row['K']}"
    return row["operator"], size, row["dtype"], row["layout"], row["mode"]


if __name__ == "__main__":
    main()
