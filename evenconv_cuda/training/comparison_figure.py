"""The comparison as a figure: accuracy over the epochs and at the end, and what each network costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..drawing import COLORS, GREY, INK, style

if TYPE_CHECKING:
    from .comparison import Outcome

COSTS: dict[str, tuple[Callable[[Outcome], float], str]] = {
    "Parameters, k": (lambda outcome: outcome.params / 1e3, "%.1f"),
    "MACs, M": (lambda outcome: outcome.macs / 1e6, "%.1f"),
    "Step time, ms": (lambda outcome: outcome.step_seconds * 1e3, "%.1f"),
    "Peak memory, MiB": (lambda outcome: outcome.peak_memory / 2**20, "%.0f"),
    "Saved for backward, MiB": (lambda outcome: outcome.saved_bytes / 2**20, "%.1f"),
}


def draw(outcomes: Sequence[Outcome], conditions: str, path: Path) -> None:
    height = 4.6 + 0.45 * len(outcomes)
    figure = Figure(figsize=(13, height), dpi=130, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.12)
    above, below = figure.subfigures(2, 1, height_ratios=(3.6, height - 3.6))
    curves, final = above.subplots(1, 2, width_ratios=(3, 2))
    colors = [COLORS[index % len(COLORS)] for index in range(len(outcomes))]
    draw_curves(curves, outcomes, colors)
    draw_final(final, outcomes, colors)
    panels = below.subplots(1, len(COSTS), sharey=True)
    for axes, (title, (cost, shown)) in zip(panels, COSTS.items()):
        draw_cost(axes, title, outcomes, cost, shown, colors)
    figure.suptitle(conditions, fontsize=9.5, color=GREY, wrap=True)
    figure.savefig(path, format="png")


def draw_curves(axes: Axes, outcomes: Sequence[Outcome], colors: Sequence[str]) -> None:
    """The mean over the seeds as a line, from the lowest to the highest as a band."""
    for outcome, color in zip(outcomes, colors):
        values = np.array(outcome.curves)
        epochs = np.arange(1, values.shape[1] + 1)
        axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        axes.plot(epochs, values.mean(0), color=color, linewidth=1.6, label=outcome.model)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.margins(x=0.01)
    axes.legend(frameon=False, loc="lower right")
    style(axes, "Test accuracy, mean and range of the seeds", "epoch", "", grid="both")


def draw_final(axes: Axes, outcomes: Sequence[Outcome], colors: Sequence[str]) -> None:
    """A dot for each seed, a bar from one deviation below the mean to one above."""
    for row, (outcome, color) in enumerate(zip(outcomes, colors)):
        axes.scatter(outcome.accuracies, [row] * len(outcome.accuracies), s=26, color=color, alpha=0.6, linewidths=0)
        axes.errorbar(
            outcome.accuracy, row, xerr=outcome.deviation, fmt="|", color=INK, markersize=16, capsize=4, linewidth=1.2
        )
        axes.text(1.02, row, outcome.row()[1], transform=axes.get_yaxis_transform(), va="center", color=INK)
    axes.set_yticks(range(len(outcomes)), [outcome.model for outcome in outcomes])
    axes.set_ylim(len(outcomes) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    style(axes, "After the last epoch, mean ± deviation", "", "", grid="x")


def draw_cost(
    axes: Axes,
    title: str,
    outcomes: Sequence[Outcome],
    cost: Callable[[Outcome], float],
    shown: str,
    colors: Sequence[str],
) -> None:
    bars = axes.barh([outcome.model for outcome in outcomes], [cost(outcome) for outcome in outcomes], color=colors)
    axes.bar_label(bars, fmt=shown, padding=4, color=INK, fontsize=9)
    if axes.get_subplotspec().is_first_col():
        axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    style(axes, title, "", "", grid="x")
