"""What the figures share: colours, axes, title and legend."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from evenconv_cuda.demo.figure import COLORS, INK

from .tables import provenance

PALETTE = {
    "fused": COLORS["fused"],
    "in 3×3": "#009E73",
    "pad+concat": COLORS["reference"],
    "K×K": "#CC79A7",
    "onnxruntime": "#56B4E9",
}
"""Okabe and Ito's, as the demo's, whose reference pad + concat is."""
MARKERS = {"in 3×3": "s", "pad+concat": "v", "K×K": "D", "onnxruntime": "^"}
PASS_TITLES = {"forward": "Forward", "step": "Training step"}
LOSS = "#c1272d"
LIMIT = "limit of copying"


def titled(figure: Figure, title: str, machine: dict) -> Figure:
    figure.suptitle(f"{title}\n{provenance(machine)}", fontsize=12, color=INK)
    return figure


def mark(form: str) -> dict:
    """How a form's points look."""
    look = {"marker": MARKERS.get(form, "o"), "markersize": 6.5 if form in MARKERS else 8, "markeredgecolor": "white"}
    return {"color": PALETTE[form], "label": form, "linestyle": "none", **look}


def plain_log(axis: Axis) -> None:
    """Ticks at 1, 2, 5, 10 … as plain numbers, over many decades at 1, 10 … only."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One for all panels, each label once."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    names = [name for name in (*PALETTE, LIMIT) if name in found]
    figure.legend([found[name] for name in names], names, loc="outside lower center", ncols=len(names), frameon=False)
