"""What each compiled CUDA kernel takes of a GPU: compiles every source with nvcc and holds it to a budget.

    python -m benchmarks.resources [--architecture 90]

Registers decide how many threads a multiprocessor holds, and what does not fit into them is spilled to memory, so more
registers than the budget's and any spill are failures. A stack frame without spills is not: 64-bit divisions, which are
calls, have one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("-O3", "-std=c++17", "--expt-relaxed-constexpr")

# Registers of a thread at most. Those of a multiprocessor are enough for three blocks of 128 threads with 168 each, for
# two with 255, the most that a thread can have. The chains' are by layout and K (0: any sizes, 1: no row and column
# pass).
THREE_BLOCKS, TWO_BLOCKS = 168, 255
BUDGET = {
    "chain_forward": {
        "contiguous": {
            0: TWO_BLOCKS,
            **dict.fromkeys((1, 3, 5, 7), THREE_BLOCKS),
            **dict.fromkeys((9, 11), TWO_BLOCKS),
        },
        "channels_last": {
            0: TWO_BLOCKS,
            **dict.fromkeys((1, 3, 5), THREE_BLOCKS),
            **dict.fromkeys((7, 9, 11), TWO_BLOCKS),
        },
    },
    "chain_backward": dict.fromkeys(("contiguous", "channels_last"), dict.fromkeys((0, 1, 3, 5, 7, 9, 11), TWO_BLOCKS)),
    "gather": 40,
    "reduce": 32,
}


@dataclass(frozen=True)
class Kernel:
    """A kernel as compiled for an architecture: bytes and registers are those of a thread, shared_bytes of a block."""

    name: str  # with its template arguments
    registers: int
    stack_bytes: int
    spilled_bytes: int  # stored and loaded
    shared_bytes: int  # static; the launch adds to it
    cubin: Path

    @property
    def budget(self) -> int:
        template, arguments = re.fullmatch(r"(\w+)<(.*)>", self.name).groups()
        budget = BUDGET[template]
        if isinstance(budget, int):
            return budget
        _, interleaved, _, _, K = arguments.split(", ")
        return budget["channels_last" if interleaved == "true" else "contiguous"][int(K)]

    @property
    def fits(self) -> bool:
        return self.spilled_bytes == 0 and self.registers <= self.budget


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME")
    return shutil.which(f"{home}/bin/nvcc" if home else "nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def compile_kernels(architecture: str = "90", root: Path = ROOT) -> list[Kernel]:
    """Every kernel of csrc/cuda, compiled on all cores or, for sources as they were then, found under build/."""
    sources = sorted((root / "csrc" / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cubins = pool.map(lambda source: _compile(source, architecture, root), sources)
        return [kernel for cubin in cubins for kernel in _read(cubin)]


def _compile(source: Path, architecture: str, root: Path) -> Path:
    """Writes the cubin, and what ptxas says beside it."""
    nvcc = find_nvcc()
    command = [nvcc, *FLAGS, f"-arch=sm_{architecture}", "-Xptxas=-v", "-cubin", str(source)]
    version = subprocess.run([nvcc, "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + " ".join(command).encode())
    for path in [source, *sorted((root / "csrc").glob("*.h")), *sorted((root / "csrc" / "cuda").glob("*.h"))]:
        digest.update(path.read_bytes())
    cubin = root / "build" / "cubins" / f"{source.stem}-sm_{architecture}-{digest.hexdigest()[:16]}.cubin"
    log = cubin.with_suffix(".log")
    if not log.exists():
        cubin.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([*command, "-o", str(cubin)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        log.write_text(done.stderr)
    return cubin


def _read(cubin: Path) -> list[Kernel]:
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers(?:.*?(\d+) bytes smem)?",
        cubin.with_suffix(".log").read_text(),
        re.DOTALL,
    )
    return [
        Kernel(_demangle(symbol), int(registers), int(stack), int(stores) + int(loads), int(shared or 0), cubin)
        for symbol, stack, stores, loads, registers, shared in found
    ]


def _demangle(symbol: str) -> str:
    name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout
    return re.search(r"(\w+<.*>)\(", name)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--architecture", default="90", help="such as 80 or 90 (default)")
    options = parser.parse_args()
    if find_nvcc() is None:
        sys.exit("benchmarks.resources needs nvcc: install the CUDA toolkit, or name it in CUDA_HOME")
    kernels = compile_kernels(options.architecture)
    print(f"{'kernel':56}{'registers':>10}{'budget':>8}{'spilled':>9}{'stack':>7}{'shared':>8}")
    for kernel in kernels:
        print(
            f"{kernel.name:56}{kernel.registers:10}{kernel.budget:8}{kernel.spilled_bytes:9}{kernel.stack_bytes:7}"
            f"{kernel.shared_bytes:8}{'' if kernel.fits else '  over'}"
        )
    over = sum(not kernel.fits for kernel in kernels)
    print(f"{len(kernels)} kernels for sm_{options.architecture}, {over} over the budget or with spills")
    sys.exit(over > 0)


if __name__ == "__main__":
    main()
