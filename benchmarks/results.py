"""Result files: ops.json, ops-cudnn-benchmark.json and models.json in benchmarks/results/<machine>."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .left_out import leave_out
from .ratios import CASE
from .timing import spread

OPS = (*CASE, "dtype", "pass", "candidate", "layout", "mode")
MODELS = ("model", "conv", "backend", "layout", "precision", "mode", "batch", "size")
"""What a row measures, by which rows are matched."""
FOLDER = Path(__file__).parent / "results"


@dataclass
class Results:
    """What was measured on one machine; a row is one candidate's time."""

    machine: dict
    limits: dict = field(default_factory=dict)
    ops: list[dict] = field(default_factory=list)
    models: list[dict] = field(default_factory=list)
    models_machine: dict | None = None
    """The machine as it was when the models were measured, if not with the operators."""

    def head(self, kind: str) -> dict:
        """The machine as it was for ``ops`` or ``models``."""
        return self.models_machine or self.machine if kind == "models" else self.machine


def identity(row: dict) -> tuple:
    return tuple(row[name] for name in (OPS if "candidate" in row else MODELS))


def merged(turns: Iterable[Iterable[dict]], blocks: int) -> list[dict]:
    """One row for what each of so many blocks has a row of, the times of which become their spread."""
    rows: dict[tuple, dict] = {}
    times: dict[tuple, list[list[float]]] = {}
    for row in (row for turn in turns for row in turn):
        rows.setdefault(identity(row), row)
        times.setdefault(identity(row), []).append(row["ms"])
    for key in [key for key, of_blocks in times.items() if len(of_blocks) < blocks]:
        leave_out(" ".join(map(str, key)), "it is missing in a block")
        del rows[key]
    return [row | {"ms": spread(times[key])} for key, row in rows.items()]


def load(folder: Path) -> Results:
    read = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    ops, by_measurement, models = (read.get(name, {}) for name in ("ops", "ops-cudnn-benchmark", "models"))
    commits = [str(content["machine"]["commit"]) for content in (ops, by_measurement) if content]
    if len(set(commits)) > 1:
        raise ValueError(f"{folder}: ops.json and ops-cudnn-benchmark.json are of commits {' and '.join(commits)}")
    rows = ops.get("rows", []) + by_measurement.get("rows", [])
    machine = ops.get("machine") or models.get("machine")
    if machine is None:
        raise FileNotFoundError(f"{folder} holds neither ops.json nor models.json")
    return Results(machine, ops.get("limits", {}), rows, models.get("rows", []), models.get("machine"))


def machines() -> list[Path]:
    """Folders that hold results, CPUs first."""
    folders = {path.parent for name in ("ops", "models") for path in FOLDER.glob(f"*/{name}.json")}
    return sorted(folders, key=lambda folder: (load(folder).machine["device"] != "cpu", folder.name))


def save(content: dict, path: Path) -> None:
    """One row to a line, so that differences can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in content["rows"])
    head = json.dumps({name: value for name, value in content.items() if name != "rows"}, indent=1, ensure_ascii=False)
    path.write_text(f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n')
