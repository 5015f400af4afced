"""The comparison as a figure: activation and centroid over depth, and the maps themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from .erosion import Erosion
from .report import name, number

COLORS = {"2": "#0072B2", "3": "#222222", "4": "#D55E00", "5": "#009E73"}
"""By kernel size, of Okabe and Ito's palette, told apart with any colour vision."""

INK, GREY = "#222222", "#6b6b6b"
CENTRE = {
    "color": "white",
    "markersize": 9,
    "markeredgewidth": 1.3,
    "path_effects": [Stroke(linewidth=3, foreground="black"), Normal()],
}
FLOOR = 1e-6
"""Where the axis of activations ends: less is nothing."""


def draw(runs: Mapping[str, Erosion], centroids: Mapping[str, Tensor], described: str, path: Path) -> None:
    """Curves on the left, a row of maps per kind on the right, as a PNG."""
    columns = len(next(iter(runs.values())).maps)
    height = max(6.5, 1.3 + 1.22 * len(runs))
    cell = min((height - 1.3) / len(runs), 1.7)
    width = 5.7 + cell * columns
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    figure.suptitle("Information erosion: layers of one kind, one after another", fontsize=14, color=INK)
    curves, maps = figure.subfigures(1, 2, width_ratios=(5.2, width - 5.2))
    above, below = curves.subplots(2, 1, height_ratios=(1.45, 1))
    draw_activations(above, runs)
    draw_centroids(below, centroids)
    draw_maps(maps, runs)
    figure.supxlabel(described, fontsize=9, color=GREY)
    figure.savefig(path, format="png")


def draw_activations(axes: Axes, runs: Mapping[str, Erosion]) -> None:
    lowest = 1.0
    for kind, run in sorted(runs.items(), key=lambda item: -item[1].activation[-1]):
        values = run.activation.clamp(min=FLOOR / 10)
        lowest = min(lowest, values.min().item())
        axes.plot(values, **line(kind), linewidth=2, label=f"{name(kind)}  {number(run.activation[-1].item())}")
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(lowest / 1.5, FLOOR))
    axes.legend(
        frameon=False, loc="lower left", handlelength=2.6, title=f"after {len(values) - 1} layers", fontsize=9.5
    )
    style(axes, "What is left: mean |F| after n layers / before the first", "")


def draw_centroids(axes: Axes, centroids: Mapping[str, Tensor]) -> None:
    """Kinds that move alike share a label and lie on each other, the wider below."""
    groups: dict[float, list[str]] = {}
    for kind, moved in centroids.items():
        groups.setdefault(round(moved[-1, 0].item(), 2) + 0.0, []).append(kind)
    for last, kinds in groups.items():
        for below, kind in enumerate(reversed(kinds)):
            width = 2 + 2.2 * (len(kinds) - 1 - below)
            axes.plot(centroids[kind][:, 0], **line(kind), linewidth=width, alpha=1 if width == 2 else 0.55)
        depth = len(centroids[kinds[0]]) - 1
        what = f"{last / depth:+.2g} pixel a layer, to the top left" if last else "no drift"
        label, offset = f"{', '.join(map(name, kinds))}: {what}", 0 if last else -9
        axes.annotate(
            label,
            (0 if last else depth, last),
            xytext=(0, offset),
            textcoords="offset points",
            ha="left" if last else "right",
            va="bottom" if last else "top",
            color=INK,
        )
    axes.margins(y=0.12)
    style(axes, "Where an impulse goes: its centroid's row (the column is alike)", "layers")


def draw_maps(figure: SubFigure, runs: Mapping[str, Erosion]) -> None:
    """Each map scaled by its own maximum; a cross marks its centre."""
    depths = list(next(iter(runs.values())).maps)
    grid = figure.subplots(len(runs), len(depths), squeeze=False)
    for kind, run, row in zip(runs, runs.values(), grid):
        for depth, axes in zip(depths, row):
            features = run.maps[depth]
            axes.imshow(
                features.numpy(), cmap="magma", vmin=0, vmax=features.max().item() or 1, interpolation="nearest"
            )
            rows, columns = features.shape
            axes.plot((columns - 1) / 2, (rows - 1) / 2, "+", **CENTRE)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if kind == next(iter(runs)):
                axes.set_title("before" if depth == 0 else f"n = {depth}", fontsize=10, color=INK)
        row[0].set_ylabel(name(kind), rotation=0, ha="right", va="center", fontsize=12, color=INK)
    figure.supxlabel("each map scaled by its own maximum; + is the centre", fontsize=9, color=GREY)


def line(kind: str) -> dict[str, str]:
    """A colour for each size; dashes for plain even kernels, which drift."""
    size, symmetric = kind[1], kind.endswith("sp")
    return {"color": COLORS[size], "linestyle": "--" if size in "24" and not symmetric else "-"}


def style(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x_label, color=GREY)
    axes.margins(x=0.01)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
