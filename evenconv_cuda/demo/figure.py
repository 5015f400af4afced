"""The comparison as a figure: loss curves, step times and bytes saved for backward."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..drawing import GREY, INK, style
from ..machine import describe
from .report import FIRST_STEPS, loss_difference
from .training import Run

COLORS = {"fused": "#0072B2", "reference": "#E69F00"}
"""Blue and orange of Okabe and Ito's palette, told apart with any colour vision."""


def draw(runs: list[Run], device: torch.device, path: Path) -> None:
    figure = Figure(figsize=(11, 7), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    loss, times, saved = figure.subplot_mosaic([["loss", "loss"], ["times", "saved"]]).values()
    draw_losses(loss, runs)
    draw_times(times, runs)
    draw_saved(saved, runs)
    figure.suptitle(
        f"One network, the same weights and batches, two backends\n{describe(device)}, torch {torch.__version__}",
        fontsize=12,
        color=INK,
    )
    figure.savefig(path, format="png")


def draw_losses(axes: Axes, runs: list[Run]) -> None:
    """The reference as a wide band, the fused run as a thin line on it: they overlap."""
    fused, reference = runs
    axes.plot(reference.losses, color=COLORS["reference"], alpha=0.6, linewidth=6, label="reference")
    axes.plot(fused.losses, color=COLORS["fused"], linewidth=1.3, label="fused")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.01)
    style(axes, "Training loss", "step", "cross-entropy", grid="both")
    axes.legend(frameon=False, loc="upper right")
    compared = min(FIRST_STEPS, len(fused.losses))
    note = f"largest loss difference in the first {compared} steps: {loss_difference(runs):.1e}\ntest accuracy: "
    note += ", ".join(f"{run.backend} {run.accuracy:.1%}" for run in runs)
    axes.text(0.015, 0.06, note, transform=axes.transAxes, color=GREY, linespacing=1.5)


def draw_times(axes: Axes, runs: list[Run]) -> None:
    """A dot per step, scattered within its backend's row, and a tick at the median."""
    limit = 2e3 * max(run.step_time for run in runs)
    generator = torch.Generator().manual_seed(0)
    for row, run in enumerate(runs):
        times = torch.tensor(run.steady_times).mul(1e3).clamp(max=limit)
        scatter = row + 0.4 * (torch.rand(len(times), generator=generator) - 0.5)
        axes.scatter(times, scatter, s=14, color=COLORS[run.backend], alpha=0.45, linewidths=0, clip_on=False)
        middle = 1e3 * run.step_time
        axes.vlines(middle, row - 0.27, row + 0.27, color=INK, linewidth=2)
        axes.annotate(
            f"median {middle:.1f} ms", (middle, row - 0.29), ha="center", va="bottom", color=INK, annotation_clip=False
        )
    axes.set_xlim(0, limit)
    axes.set_yticks(range(len(runs)), [run.backend for run in runs])
    axes.set_ylim(len(runs) - 0.5, -0.5)
    ratio = runs[1].step_time / runs[0].step_time
    label = "milliseconds (slower steps lie at the edge)"
    style(axes, f"Training step: the reference takes {ratio:.2f} × as long", label, "", grid="x")


def draw_saved(axes: Axes, runs: list[Run]) -> None:
    names = [run.backend for run in runs]
    mebibytes = [run.saved_bytes / 2**20 for run in runs]
    bars = axes.barh(names, mebibytes, color=[COLORS[name] for name in names], height=0.5)
    axes.bar_label(bars, fmt="%.1f MiB", padding=6, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    ratio = mebibytes[1] / mebibytes[0]
    style(axes, f"Saved for backward: the reference keeps {ratio:.2f} × as much", "MiB", "", grid="x")
