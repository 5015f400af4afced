"""Everything that only a GPU can tell, most important first, within nine minutes and without a network.

    make gpu-check    (or python3 -m benchmarks.gpu [part ...])

Builds the package in place for this GPU, then runs the parts one after the other, each in a process of its own with a
time limit: one that fails or hangs does not stop the others. After each, the folder named by OUT (default
build/gpu-check) holds results.json, summary.md and log.txt. The exit code is 0 if all parts passed; a goal that is
missed is a finding, not a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from .summary import Outcome, write

ROOT = Path(__file__).resolve().parents[2]
TOTAL_SECONDS = 530
LEAST_SECONDS = 5  # with less left, a part is not begun


@dataclass(frozen=True)
class Part:
    """A command (after python), whose exit code is 0 if it passed, and which may write JSON to the file {json}."""

    name: str
    seconds: int
    command: tuple[str, ...]
    before: tuple[str, ...] = ()  # what python itself runs under
    environment: dict[str, str] = field(default_factory=dict)


def module(name: str, seconds: int, *arguments: str, part: str | None = None, **more) -> Part:
    command = ("-m", f"benchmarks.gpu.{name}", "--out", "{json}", *arguments)
    return Part(part or name, seconds, command, **more)


def sanitizer(tool: str, seconds: int) -> Part:
    before = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "86")
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return module("smoke", seconds, "--few", part=tool, before=before, environment=environment)


TESTS = (
    "tests/test_operators.py",
    "tests/test_determinism.py",
    "tests/test_derivatives.py",
    "tests/test_dispatcher.py",
    "tests/test_nn.py",
)
PARTS = (
    Part("build", 300, ("setup.py", "build_ext", "--inplace")),
    module("smoke", 60),
    module("speed", 100),
    Part("tests", 150, ("-m", "pytest", "--maxfail=10", "-k", "cuda and not cuda_on_host", *TESTS)),
    sanitizer("memcheck", 60),
    sanitizer("racecheck", 60),
    module("large", 40),
    module("behaviour", 40),
    module("memory", 30),
    module("small", 40),
    module("speed", 120, "--compiled", part="speed, compiled"),
    module("speed", 90, "--more", part="speed, more"),
)


def why_not() -> str | None:
    """Why nothing can be checked here, or None."""
    try:
        import torch
    except ImportError:
        return "this Python has no PyTorch"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no GPU here"
    return None


def gpu_environment() -> dict[str, str]:
    """Of every part: the architecture of this GPU, unless one is given."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    return {"TORCH_CUDA_ARCH_LIST": os.environ.get("TORCH_CUDA_ARCH_LIST", f"{major}.{minor}")}


def run_part(part: Part, seconds: float, log: Path, environment: dict[str, str]) -> Outcome:
    """Runs it for so many seconds at most; its output goes to the end of the log."""
    with tempfile.TemporaryDirectory() as scratch, open(log, "a") as output:
        found = Path(scratch) / "found.json"
        command = [*part.before, sys.executable, *(word.format(json=found) for word in part.command)]
        output.write(f"\n== {part.name}: {' '.join(command)}\n")
        output.flush()
        before, begun = output.tell(), time.monotonic()
        status, reason = _end_of(command, seconds, output, {**environment, **part.environment})
        text = log.read_bytes()[before:].decode(errors="replace")
        if status == "failed" and part.before and "not supported" in text:
            status, reason = "skipped", f"{command[0]} does not support this device"
        try:
            data = json.loads(found.read_text())
        except (OSError, ValueError):  # it writes none, or was stopped while it wrote
            data = {}
    return Outcome(part.name, status, reason, time.monotonic() - begun, data, text.strip().splitlines()[-12:])


def _end_of(command: list[str], seconds: float, output, environment: dict[str, str]) -> tuple[str, str]:
    try:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError:
        return "skipped", f"there is no {command[0]} here"
    try:
        code = child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with what it started
        child.wait()
        return "stopped", f"after its {seconds:.0f} s"
    return ("failed", f"exit code {code}") if code else ("passed", "")


def run_all(parts: tuple[Part, ...], folder: Path, environment: dict[str, str], total: float) -> list[Outcome]:
    """Runs the parts until the time is over, and writes what is known after each."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    log.write_text("")
    end = time.monotonic() + total
    outcomes: list[Outcome] = []
    for part in parts:
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            outcomes.append(Outcome(part.name, "stopped", "not begun: the time was over"))
        else:
            print(f"{part.name} ...", flush=True)
            outcomes.append(run_part(part, min(part.seconds, left), log, environment))
            print(outcomes[-1].line, flush=True)
        write(outcomes, folder)
    return outcomes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"default: all, {', '.join(part.name for part in PARTS)}")
    names = parser.parse_args(arguments).parts
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"parts holds {sorted(unknown)}; accepted are {[part.name for part in PARTS]}")
    reason = why_not()
    if reason:
        sys.exit(f"gpu-check needs a GPU: {reason}")
    folder = Path(os.environ.get("OUT") or ROOT / "build" / "gpu-check")
    parts = tuple(part for part in PARTS if not names or part.name in names)
    outcomes = run_all(parts, folder, gpu_environment(), TOTAL_SECONDS)
    print((folder / "summary.md").read_text())
    sys.exit(any(outcome.status != "passed" for outcome in outcomes))


if __name__ == "__main__":
    main()
