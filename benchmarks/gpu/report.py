"""What a part of the check found, in a file that is complete after every finding."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from .goals import Goal


class Report:
    """Checks, which must pass, goals, which may be missed, and data: written to a file as they come, so that a part
    that is stopped leaves what it had."""

    def __init__(self, path: Path | None = None):
        self.path = path
        self.checks: list[dict] = []
        self.goals: list[Goal] = []
        self.data: dict = {}

    def check(self, name: str, passed: bool, detail: str = "") -> None:
        self.checks.append({"name": name, "passed": bool(passed), "detail": detail})
        print(f"{'ok  ' if passed else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)
        self._write()

    def goal(self, goal: Goal) -> None:
        self.goals.append(goal)
        print(goal, flush=True)
        self._write()

    def note(self, name: str, value: object) -> None:
        self.data[name] = value
        self._write()

    def run(self, name: str, check: Callable[[], str | None]) -> None:
        """Passes unless it raises; what it returns is the detail."""
        with self.guard(name):
            self.check(name, True, check() or "")

    @contextmanager
    def guard(self, name: str):
        """An exception inside is a check that failed, and the rest goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            self.check(name, False, f"{type(error).__name__}: {lines[0]}")

    @property
    def passed(self) -> bool:
        return bool(self.checks or self.goals) and all(check["passed"] for check in self.checks)

    def _write(self) -> None:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            found = {"checks": self.checks, "goals": [asdict(goal) for goal in self.goals], "data": self.data}
            self.path.write_text(json.dumps(found, indent=1) + "\n")
