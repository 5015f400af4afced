"""What became slower or faster between two results, beyond the noise.

    python -m benchmarks.compare OLD NEW    # folders of results, or two files of the same kind

Rows are matched by what was measured. A machine that is slower today is slower with everything, if not with all alike:
its drift is what the rows that are not this package's say, of those that were measured with the row, where there are
any, from their lower to their upper decile. A row has changed if, with either divided out, its blocks lie apart, its
quartiles too, and its median by more than 5 % to the same side. The exit status is 1 if a fused row became slower.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median as middle
from statistics import quantiles

from evenconv_cuda.options import existing
from evenconv_cuda.text import table

from .ratios import APART, CASE, CUDNN_BENCHMARK, is_fused, median
from .results import MODELS, identity, load

CHANGE = 1.05


@dataclass(frozen=True)
class Change:
    """A row in both results; ``ratio`` is new / old without the machine's median drift."""

    row: dict
    old: float
    new: float
    ratio: float


@dataclass(frozen=True)
class Comparison:
    drift: float | None
    """New / old of what is not fused; None if nothing of that is in both, and then nothing was divided out."""
    changed: list[Change]
    missing: list[dict]
    new: list[dict]

    @property
    def slower(self) -> list[Change]:
        return [change for change in self.changed if is_fused(change.row) and change.ratio > 1]


def compare(old: Sequence[dict], new: Sequence[dict]) -> Comparison:
    before, after = ({identity(row): row for row in rows} for rows in (old, new))
    both = [(before[key], after[key]) for key in before if key in after]
    of_all, of_turn = [], defaultdict(list)
    for a, b in both:
        if not is_fused(a):
            of_all.append(median(b) / median(a))
            of_turn[_turn(a)].append(of_all[-1])
    drift = middle(of_all) if of_all else None
    changed = []
    for a, b in both:
        drifts = of_turn.get(_turn(a), of_all or [1.0])
        if _changed(a, b, drifts):
            changed.append(Change(b, median(a), median(b), median(b) / median(a) / middle(drifts)))
    return Comparison(
        drift,
        sorted(changed, key=lambda change: -change.ratio),
        [row for key, row in before.items() if key not in after],
        [row for key, row in after.items() if key not in before],
    )


def _turn(row: dict) -> tuple:
    """Of all rows that were measured together."""
    names = (*CASE, "dtype") if "candidate" in row else ("model", "layout", "precision")
    return *(row[name] for name in names), row["mode"] if row["mode"] in (*APART, CUDNN_BENCHMARK) else None


def _changed(old: dict, new: dict, drifts: Sequence[float]) -> bool:
    tenths = quantiles([*drifts, *drifts], n=10, method="inclusive")  # which wants at least two
    ratios = [median(new) / median(old) / drift for drift in (tenths[0], tenths[-1])]
    one_sided = all(ratio > CHANGE for ratio in ratios) or all(ratio < 1 / CHANGE for ratio in ratios)
    return one_sided and all(_apart(old, new, drift) for drift in (tenths[0], tenths[-1]))


def _apart(old: dict, new: dict, drift: float) -> bool:
    ranges = [
        ((min(row["ms"]["blocks"]), max(row["ms"]["blocks"])), (row["ms"]["p25"], row["ms"]["p75"]))
        for row in (old, new)
    ]
    overlap = any(low / drift <= top and bottom <= high / drift for (bottom, top), (low, high) in zip(*ranges))
    return not overlap


def read(path: Path) -> tuple[str, dict[str, list[dict]]]:
    """Name of the machine, and the rows of a folder's result files, or of one, by the files' kind."""
    if path.is_dir():
        try:
            found = load(path)
        except (FileNotFoundError, ValueError) as error:
            sys.exit(str(error))
        return found.machine["name"], {kind: rows for kind in ("ops", "models") if (rows := getattr(found, kind))}
    content = json.loads(path.read_text())
    rows = content["rows"]
    return content["machine"]["name"], {"ops" if rows and "candidate" in rows[0] else "models": rows}


def described(comparison: Comparison) -> str:
    drift = comparison.drift
    lines = [
        f"The machine: {drift:.3f} × as long as before; divided out, case by case."
        if drift
        else "Nothing unfused in both: as measured."
    ]
    if comparison.changed:
        head = ("", "old ms", "new ms", "times as long", "")
        rows = [
            (_name(change.row), f"{change.old:.4g}", f"{change.new:.4g}", f"{change.ratio:.2f}", _verdict(change))
            for change in comparison.changed
        ]
        lines.append(table([head, *rows]))
    else:
        lines.append("Nothing changed beyond the noise.")
    for title, rows in (("missing", comparison.missing), ("new", comparison.new)):
        lines += [f"{title}: {_name(row)}" for row in rows]
    return "\n".join(lines)


def _verdict(change: Change) -> str:
    return ("slower" if change.ratio > 1 else "faster") + (", fused" if is_fused(change.row) else "")


def _name(row: dict) -> str:
    if "candidate" not in row:
        return " ".join(str(row[name]) for name in MODELS)
    size = f"{row['N']}×{row['C']}×{row['H']}² K={row['K']}" + (f" / {row['stride']}" if row["stride"] > 1 else "")
    rest = " ".join(row[name] for name in ("dtype", "pass", "candidate", "layout", "mode"))
    return f"{row['operator']} {size} {rest}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=existing, metavar="OLD", help="folder of results or one of its files")
    parser.add_argument("new", type=existing, metavar="NEW")
    options = parser.parse_args(arguments)
    (of_old, old), (of_new, new) = read(options.old), read(options.new)
    if not old.keys() & new.keys():
        parser.error(
            f"{options.old} has {', '.join(old)} and {options.new} {', '.join(new)}; accepted are two of a kind"
        )
    if of_old != of_new:
        print(f"Of two machines: {of_old} and {of_new}.\n")
    slower = 0
    for kind in (kind for kind in old if kind in new):
        comparison = compare(old[kind], new[kind])
        slower += len(comparison.slower)
        print(f"{kind}\n{described(comparison)}\n")
    if slower:
        sys.exit(f"{slower} fused {'row' if slower == 1 else 'rows'} became slower")


if __name__ == "__main__":
    main()
