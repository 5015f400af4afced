"""What the CUDA kernels of XSepConv should cost on an H200, predicted from their machine code and launch plans.

    python -m benchmarks.predict [--json FILE]

No GPU is needed, and nothing here is measured. Times are the largest of three bounds, as if they overlapped perfectly:

- memory: the bytes that the plan reads and writes, at the bandwidth of a device copy;
- issue: the instructions of the kernel's hot loop (benchmarks/sass.py says which), at one per cycle for each of the
  four schedulers of an SM, on the SM that has the most blocks. Whole warps count, and rows that a block computes for
  its neighbours; what a block does before and after its loop and the longer way at a map's sides do not;
- shared: the cycles of the loop's accesses to shared memory without bank conflicts.

Waiting for memory with too few warps is in none of them: look at the warps per SM.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from evenconv_cuda.extension import load_extension

from .disassembly import find_nvdisasm, functions
from .h200 import Gpu, blocks_per_sm
from .resources import Kernel, compile_kernels, find_nvcc
from .sass import CLASSES, Turn, hot_turn

CPP_TYPES = {"float32": "float", "bfloat16": "__nv_bfloat16"}

# N, C, H = W: the stages of a network that halves the map and doubles the channels. All have 51 million elements,
# 196 MiB in float32 and 98 MiB in bfloat16, well past the L2, so that rows compare.
SHAPES = ((64, 64, 112), (128, 128, 56), (256, 256, 28), (512, 512, 14), (1024, 1024, 7))
EVEN = 2
BANDS = (3, 5, 7)
LARGE_BAND, LARGE_BAND_SHAPES = 31, (SHAPES[1], SHAPES[2])  # where RepLKNet has its large kernels


@dataclass(frozen=True)
class Call:
    """XSepConv with a 2×2, in one direction."""

    backward: bool
    dtype: str
    channels_last: bool
    shape: tuple[int, int, int]  # N, C, H = W
    K: int

    @property
    def label(self) -> str:
        layout = "channels_last" if self.channels_last else "NCHW"
        return f"{'backward' if self.backward else 'forward'} {self.dtype} {layout}"

    @property
    def plan(self) -> dict:
        N, C, H = self.shape
        K = self.K
        plan_of = load_extension().cuda_plan
        return plan_of((N, C, H, H), self.dtype, self.channels_last, EVEN, K, K, (1, 1), self.backward)

    def kernel_name(self, plan: dict) -> str:
        template = "chain_backward" if self.backward else "chain_forward"
        layout = "true" if self.channels_last else "false"
        return f"{template}<{CPP_TYPES[self.dtype]}, {layout}, {plan['unit_bytes']}, {EVEN}, {plan['band']}>"

    @property
    def bytes(self) -> int:
        N, C, H = self.shape
        return N * C * H * H * (4 if self.dtype == "float32" else 2)


def arithmetic(call: Call, columns: int) -> float:
    """Floating-point instructions that each element needs. Forward, the taps. Backward, those of the recomputed even
    and row pass, of three weights' gradients, and of three transposed passes, of which the row pass also gives the
    columns that the even one needs beside a thread's own; and three biases' gradients."""
    taps, K = EVEN**2, call.K
    if not call.backward:
        return taps + 2 * K
    return 3 * taps + 4 * K + K * (columns + EVEN) / columns + 3


def traffic(call: Call, plan: dict) -> float:
    """Bytes of global memory in T, computed from the plan: rows and columns that blocks share are read by each of them,
    partial sums are written and read once. Weights, 0.1 % and less here, are left out."""
    _, C, H = call.shape
    rows = plan["bands"] * min(plan["steps"], H) / H if plan["bands"] > 1 else 1
    columns = plan["column_tiles"] * min(plan["tiles"] * plan["columns"], H) / H if plan["column_tiles"] > 1 else 1
    read = rows * columns
    if not call.backward:
        return read + 1
    return 2 * read + 1 + 2 * 4 * plan["splits"] * plan["gradients"] * C / call.bytes


def own_elements(plan: dict) -> int:
    """Of a thread, in one turn of the loop."""
    return plan["step_rows"] * plan["columns"] * plan["lanes"]


def turns(plan: dict) -> int:
    """Of the loop, in one block."""
    return math.ceil(plan["images_per_chunk"] / plan["images"]) * math.ceil(plan["steps"] / plan["step_rows"])


@dataclass(frozen=True)
class Prediction:
    call: Call
    kernel: str
    registers: int
    shared_bytes: int
    threads: int
    blocks: int
    blocks_per_sm: int
    warps_per_sm: int  # at once, where there are blocks enough
    instructions_per_element: float  # of a thread's own
    classes_per_element: dict[str, float]
    issued_per_element: float  # with halos, warm-up rows and lanes that idle
    traffic_T: float
    memory_us: float
    issue_us: float
    shared_us: float
    copy_us: float
    predicted_us: float
    limit: str
    copies: float


def predict(call: Call, kernel: Kernel, turn: Turn, gpu: Gpu) -> Prediction:
    plan = call.plan
    N, C, H = call.shape
    own = own_elements(plan)
    warps = math.ceil(plan["threads"] / 32)
    held = blocks_per_sm(gpu, plan["threads"], kernel.registers, plan["shared_bytes"])
    busiest = math.ceil(plan["blocks"] / gpu.sms)
    warp_turns = busiest * turns(plan) * warps
    in_T = traffic(call, plan)
    times = {
        "memory": 1e6 * in_T * call.bytes / gpu.bandwidth,
        "issue": 1e6 * warp_turns * turn.instructions / gpu.schedulers / gpu.clock,
        "shared": 1e6 * warp_turns * turn.shared_wavefronts / gpu.clock,
    }
    copy_us = 1e6 * 2 * call.bytes / gpu.bandwidth
    limit = max(times, key=times.get)
    return Prediction(
        call=call,
        kernel=kernel.name,
        registers=kernel.registers,
        shared_bytes=plan["shared_bytes"],
        threads=plan["threads"],
        blocks=plan["blocks"],
        blocks_per_sm=held,
        warps_per_sm=min(held, busiest) * warps,
        instructions_per_element=turn.instructions / own,
        classes_per_element={name: turn.classes[name] / own for name in CLASSES},
        issued_per_element=plan["blocks"] * turns(plan) * warps * 32 * turn.instructions / (N * C * H * H),
        traffic_T=in_T,
        **{f"{name}_us": time for name, time in times.items()},
        copy_us=copy_us,
        predicted_us=times[limit],
        limit=limit,
        copies=times[limit] / copy_us,
    )


def calls() -> list[Call]:
    """Every kernel of the list, for its shapes."""
    cases = [(shape, K) for K in BANDS for shape in SHAPES] + [(shape, LARGE_BAND) for shape in LARGE_BAND_SHAPES]
    return [
        Call(backward, dtype, channels_last, shape, K)
        for backward in (False, True)
        for dtype in CPP_TYPES
        for channels_last in (False, True)
        for shape, K in cases
    ]


def predictions(gpu: Gpu) -> list[Prediction]:
    kernels = {kernel.name: kernel for kernel in compile_kernels("90")}
    found = []
    for call in calls():
        plan = call.plan
        kernel = kernels[call.kernel_name(plan)]
        code = functions(kernel.cubin)[kernel.name]
        turn = hot_turn(
            code, plan["step_rows"] * plan["unit_bytes"], own_elements(plan) * arithmetic(call, plan["columns"])
        )
        found.append(predict(call, kernel, turn, gpu))
    return found


GOALS = (  # goal, direction, dtype, K, copies
    ("G1", "forward", "float32", 3, 1.15),
    ("G1", "forward", "float32", 7, 1.15),
    ("G1", "forward", "bfloat16", 3, 1.2),
    ("G1", "forward", "bfloat16", 7, 1.45),
    ("G2", "backward", "float32", 3, 1.8),
    ("G2", "backward", "float32", 7, 2.0),
    ("G2", "backward", "bfloat16", 3, 2.4),
    ("G2", "backward", "bfloat16", 7, 3.3),
)
FLOOR_T = 18  # a training step of 2×2-in-3×3 and two convolutions: 6 T forward, 12 T backward


def goals(found: list[Prediction]) -> list[str]:
    """The goals that a prediction can be held against, in the better layout of each shape, from the best to the worst.

    Of what PyTorch needs only a floor is known, its traffic at the bandwidth of a copy; G5 and G10 are held against
    that. The real thing is slower, so a ratio to it is better than the one to its floor.
    """

    def copies(direction: str, dtype: str, K: int) -> dict[tuple[int, int, int], float]:
        best: dict[tuple[int, int, int], float] = {}
        for p in found:
            if p.call.label.startswith(f"{direction} {dtype} ") and p.call.K == K:
                best[p.call.shape] = min(best.get(p.call.shape, math.inf), p.copies)
        return best

    lines = []
    for goal, direction, dtype, K, limit in GOALS:
        values = copies(direction, dtype, K).values()
        within = sum(value <= limit for value in values)
        lines.append(
            f"{goal} {direction} {dtype} K={K}: predicted {min(values):.2f} to {max(values):.2f} copies, goal {limit}, "
            f"within it {within} of {len(values)} shapes"
        )
    for dtype, least in (("float32", 1.5), ("bfloat16", 1.0)):
        forward = copies("forward", dtype, 7).values()
        lines.append(
            f"G5 {dtype}: forward K=7 predicted {min(forward):.2f} to {max(forward):.2f} times "
            "the floor of one 3×3 depthwise"
        )
        back = copies("backward", dtype, LARGE_BAND)
        steps = [value + back[shape] for shape, value in copies("forward", dtype, LARGE_BAND).items()]
        faster = [FLOOR_T / 2 / step for step in steps]
        lines.append(
            f"G10 {dtype}: step K={LARGE_BAND} predicted {min(faster):.2f} to {max(faster):.2f} "
            f"times as fast as the floor of 2×2-in-3×3, goal {least} against the real one"
        )
    return lines


def table(found: list[Prediction]) -> str:
    """A line for each kernel and shape."""
    lines = [
        "kernel, N C H=W K | registers | shared bytes | threads×blocks | blocks, warps per SM | "
        "instructions/element (issued) | T | µs of memory, issue, shared | predicted µs | times a copy"
    ]
    for p in found:
        lines.append(
            f"{p.call.label:31s} {' '.join(f'{size:4d}' for size in p.call.shape)} K={p.call.K:<2d} | "
            f"{p.registers:3d} | {p.shared_bytes:5d} | {p.threads:3d}×{p.blocks:<5d} | "
            f"{p.blocks_per_sm:2d}, {p.warps_per_sm:2d} | "
            f"{p.instructions_per_element:6.1f} ({p.issued_per_element:6.1f}) | {p.traffic_T:.3f} | "
            f"{p.memory_us:5.0f} {p.issue_us:5.0f} {p.shared_us:5.0f} | "
            f"{p.predicted_us:5.0f} {p.limit:6s} | {p.copies:.2f}"
        )
    return "\n".join(lines)


def class_table(found: list[Prediction]) -> str:
    """Instructions for each element of a thread's own, by class, once for each kernel."""
    lines = ["kernel, K (instructions/element) | " + " | ".join(f"{name:>8s}" for name in CLASSES)]
    for (label, K), p in {(p.call.label, p.call.K): p for p in found}.items():
        lines.append(f"{label:31s} K={K:<2d} | " + " | ".join(f"{p.classes_per_element[c]:8.2f}" for c in CLASSES))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write everything to this file, too")
    options = parser.parse_args(arguments)
    for tool, found in (("nvcc", find_nvcc()), ("nvdisasm", find_nvdisasm())):
        if found is None:
            sys.exit(f"benchmarks.predict needs {tool}: install the CUDA toolkit (nvdisasm: or nvidia-cuda-nvdisasm)")
    gpu = Gpu()
    found = predictions(gpu)
    print("PREDICTED for one H200, not measured\n")
    print(class_table(found), table(found), "\n".join(goals(found)), sep="\n\n")
    if options.json:
        result = {"predicted": True, "gpu": asdict(gpu), "kernels": [asdict(p) for p in found], "goals": goals(found)}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
