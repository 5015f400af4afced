"""What networks trained under one recipe came to: a row for each, as text, Markdown and JSON."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from dataclasses import asdict, dataclass
from statistics import mean, median, stdev

from ..text import markdown, mebibytes, table
from .comparison_figure import draw

NAME = "comparison"
HEAD = ("network", "test accuracy", "params", "MACs", "step time", "peak memory", "saved bytes")


@dataclass(frozen=True)
class Outcome:
    """One network over its seeds: ``curves`` are test accuracies by seed and epoch, ``accuracies`` the last of each.

    ``step_seconds`` is the median of the runs, ``peak_memory`` and ``saved_bytes`` are bytes, the former the largest.
    """

    model: str
    accuracies: list[float]
    accuracy: float
    deviation: float | None
    params: int
    macs: int
    step_seconds: float
    peak_memory: int
    saved_bytes: int
    curves: list[list[float]]

    @classmethod
    def of(cls, model: str, runs: list[dict]) -> Outcome:
        accuracies = [run["accuracy"] for run in runs]
        return cls(
            model,
            accuracies,
            mean(accuracies),
            stdev(accuracies) if len(runs) > 1 else None,
            *(runs[0][count] for count in ("params", "macs")),
            median(run["step_seconds"] for run in runs),
            max(run["peak_memory"] for run in runs),
            runs[0]["saved_bytes"],
            [[row["test_accuracy"] for row in run["epochs"]] for run in runs],
        )

    def row(self) -> tuple[str | int, ...]:
        deviation = "" if self.deviation is None else f" ± {100 * self.deviation:.2f}"
        return (
            self.model,
            f"{100 * self.accuracy:.2f}{deviation} %",
            self.params,
            self.macs,
            f"{1e3 * self.step_seconds:.1f} ms",
            mebibytes(self.peak_memory),
            mebibytes(self.saved_bytes),
        )


def leave_comparison(summaries: list[dict], options: Namespace) -> str:
    """Write Markdown, text, JSON and figure to ``options.out``; the text."""
    runs: dict[str, list[dict]] = {}
    for summary in summaries:
        runs.setdefault(summary["recipe"]["model"], []).append(summary)
    outcomes = [Outcome.of(model, of_model) for model, of_model in runs.items()]
    command = shlex.join(["python", "-m", "evenconv_cuda", *options.arguments])
    conditions = described(summaries)
    rows = [HEAD, *(outcome.row() for outcome in outcomes)]
    plain = f"{conditions}\n\n{table(rows)}\n\n{NOTE}\n"
    written = {
        "md": f"{conditions}\n\n```\n{command}\n```\n\n{markdown(rows)}\n\n{NOTE}\n",
        "txt": f"{command}\n\n{plain}",
        "json": json.dumps(
            {
                "command": command,
                "conditions": conditions,
                "networks": [asdict(outcome) for outcome in outcomes],
                "runs": summaries,
            },
            indent=2,
        )
        + "\n",
    }
    for ending, text in written.items():
        (options.out / f"{NAME}.{ending}").write_text(text)
    draw(outcomes, conditions, options.out / f"{NAME}.png")
    return f"{plain}\nTable, figure and data: {options.out / NAME}.md, .txt, .png, .json"


NOTE = (
    "Accuracy after the last epoch: mean ± sample deviation over the seeds. MACs of one image; saved bytes of one "
    "process's batch, counted in float32; step time with data, without evaluation; peak memory as the allocator counts "
    "on a GPU, the whole process's resident set on a CPU."
)


def described(summaries: list[dict]) -> str:
    recipe, images = summaries[0]["recipe"], summaries[0]["images"]
    seeds = len({summary["recipe"]["seed"] for summary in summaries})
    devices = "; ".join(dict.fromkeys(summary["device"] for summary in summaries))
    versions = ", ".join(dict.fromkeys(f"torch {summary['versions']['torch']}" for summary in summaries))
    width = f", width {recipe['width']}" if recipe["width"] else ""
    parts = [
        f"{recipe['data']}, {images['train']:,} training and {images['test']:,} test images{width}",
        f"{recipe['epochs']} epochs, batches of {recipe['batch_size']}, precision {recipe['precision']}",
        f"{recipe['backend']} backend",
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}",
        devices,
        versions,
    ]
    return "; ".join(parts)
