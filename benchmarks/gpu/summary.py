"""What all parts found so far, as results.json and as a summary to read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..machine import gpu_description
from .goals import Goal, evaluate


@dataclass(frozen=True)
class Outcome:
    """How a part ended: passed, failed, stopped (its time was over) or skipped (not possible here)."""

    part: str
    status: str
    reason: str = ""
    seconds: float = 0
    found: dict = field(default_factory=dict)  # checks, goals and data that it wrote, however it ended
    tail: list[str] = field(default_factory=list)  # last lines of its output

    @property
    def line(self) -> str:
        checks = self.found.get("checks", [])
        counted = f", {sum(check['passed'] for check in checks)} of {len(checks)} checks" if checks else ""
        return f"{self.status} {self.part} in {self.seconds:.0f} s{counted}{': ' if self.reason else ''}{self.reason}"


def goals_of(outcomes: list[Outcome]) -> list[Goal]:
    """Those that the parts state, and those that follow from the times of all of them."""
    measured, goals = [], []
    for outcome in outcomes:
        measured += outcome.found.get("data", {}).get("measured", [])
        goals += [Goal(**goal) for goal in outcome.found.get("goals", [])]
    return sorted(evaluate(measured) + goals, key=lambda goal: int(goal.name.split()[0].removeprefix("G")))


def text(outcomes: list[Outcome], machine: dict) -> str:
    goals = goals_of(outcomes)
    lines = ["# gpu-check", "", ", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    lines += ["| part | ended | s | |", "|---|---|---|---|"]
    for outcome in outcomes:
        failed = [check["name"] for check in outcome.found.get("checks", []) if not check["passed"]]
        detail = "; ".join(filter(None, [outcome.reason, ", ".join(failed)]))
        lines.append(f"| {outcome.part} | {outcome.status} | {outcome.seconds:.0f} | {detail} |")
    lines += ["", f"Goals: {sum(goal.met for goal in goals)} of {len(goals)} met.", ""]
    lines += [f"    {goal}" for goal in goals]
    for outcome in outcomes:
        if outcome.status in ("failed", "stopped") and outcome.tail:
            lines += ["", f"Last lines of {outcome.part}:", "", *(f"    {line}" for line in outcome.tail)]
    return "\n".join(lines) + "\n"


def write(outcomes: list[Outcome], folder: Path) -> None:
    machine = gpu_description()
    result = {
        "machine": machine,
        "parts": [
            {"part": o.part, "status": o.status, "reason": o.reason, "seconds": o.seconds, **o.found} for o in outcomes
        ],
        "goals": [{**asdict(goal), "met": goal.met} for goal in goals_of(outcomes)],
    }
    (folder / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (folder / "summary.md").write_text(text(outcomes, machine))
