"""Whether the fused operators still are as much faster than the others as they were: ratios, not times.

    python -m benchmarks.guard [--device cpu] [--rounds N] [--threads N]

A few shapes are measured. A step has to keep 70 % of the committed ratio to the fastest unfused form, if results of
such a machine are committed, and XSepConv's has to be faster by the least factor that the project has set itself.
What fails is measured once more, so that it takes two disturbances to fail; then the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evenconv_cuda.options import positive
from evenconv_cuda.text import table

from .cases import OTHERS, XSEP, Case
from .command import device, rounds
from .machine import description, set_up
from .ops import measure
from .ratios import UNFUSED, against, by_case, ordinary
from .results import load, machines

KEPT_SHARE = 0.7
LEAST = {"cpu": 1.2, "cuda": 1.3}
"""Of XSepConv's step in float32, by device."""
GUARDED = (
    *{case.group: case for case in reversed(XSEP)}.values(),
    *{case.operator: case for case in reversed(OTHERS)}.values(),
)
"""The first XSepConv of each group and the first case of each other operator."""


@dataclass(frozen=True)
class Check:
    case: Case
    measured: float | None
    """None where the fused operator was wrong, or nothing was there to compare with."""
    committed: float | None
    least: float

    @property
    def passed(self) -> bool:
        return self.measured is not None and self.measured >= self.least


def ratios(rows: Iterable[dict]) -> dict[Case, float | None]:
    """Of eager steps in float32, the fastest unfused to the fastest fused one."""
    step = {"pass": "step", "dtype": "float32", "mode": "eager"}
    return {case: against(found, *UNFUSED, **step) for case, found in by_case(rows).items()}


def check(measured: Iterable[dict], committed: Iterable[dict], cases: Sequence[Case], device: str) -> list[Check]:
    now, before = ratios(measured), ratios(committed)
    checks = []
    for case in cases:
        old = before.get(case)
        least = max(LEAST[device] if case.operator == "xsep_conv2d" else 0, KEPT_SHARE * (old or 0))
        checks.append(Check(case, now.get(case), old, least))
    return checks


def guard(measured: Callable[[Sequence[Case]], Iterable[dict]], committed: Iterable[dict], device: str) -> list[Check]:
    """Checks of all guarded cases; those that fail are measured again."""
    checks = {one.case: one for one in check(measured(GUARDED), committed, GUARDED, device)}
    failed = [case for case, one in checks.items() if not one.passed]
    if failed:
        checks |= {one.case: one for one in check(measured(failed), committed, failed, device)}
    return list(checks.values())


def described(checks: Iterable[Check]) -> str:
    rows = [
        (
            str(one.case),
            _number(one.measured),
            _number(one.committed),
            f"{one.least:.2f}",
            "" if one.passed else "FAILED",
        )
        for one in checks
    ]
    return table([("step: fastest unfused / fused", "now", "committed", "at least", ""), *rows])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", type=device, default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--rounds", type=rounds, default=7, help="timed rounds of a block (default: %(default)s)")
    add("--threads", type=positive, help="threads of PyTorch (default: its own choice)")
    options = parser.parse_args(arguments)
    set_up(options.threads, cudnn_benchmark=False)
    slug = description(options.device)["slug"]
    committed = [row for folder in machines() if folder.name == slug for row in ordinary(load(folder).ops)]
    if not committed:
        print(f"No results of {slug} are committed: only XSepConv's least factor is checked.")

    def measured(cases: Sequence[Case]) -> list[dict]:
        return measure(cases, rounds=options.rounds, device=options.device, passes=("step",))

    checks = guard(measured, committed, options.device)
    print(described(checks))
    failed = sum(not one.passed for one in checks)
    if failed:
        sys.exit(f"{failed} of {len(checks)} failed")


if __name__ == "__main__":
    main()
