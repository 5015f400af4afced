"""Loss and accuracy over the epochs as a figure."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..drawing import COLORS, INK, style

PARTS = {"train": COLORS[1], "test": COLORS[0]}


def draw(rows: list[dict], title: str, path: Path) -> None:
    figure = Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    loss, accuracy = figure.subplots(1, 2)
    curves(loss, rows, "loss", "{:.3f}")
    style(loss, "Cross-entropy", "epoch", "", grid="both")
    curves(accuracy, rows, "accuracy", "{:.2%}")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    style(accuracy, "Accuracy", "epoch", "", grid="both")
    figure.suptitle(title, fontsize=12, color=INK)
    figure.savefig(path, format="png")


def curves(axes: Axes, rows: list[dict], metric: str, shown: str) -> None:
    """A line for each part of the data, its last value in the legend."""
    epochs = [row["epoch"] for row in rows]
    for part, color in PARTS.items():
        values = [row[f"{part}_{metric}"] for row in rows]
        marker = "o" if len(rows) < 30 else None
        label = f"{part}  {shown.format(values[-1])}"
        axes.plot(epochs, values, color=color, linewidth=1.8, marker=marker, markersize=3.5, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.legend(frameon=False, title=f"after epoch {epochs[-1]}", alignment="left")
