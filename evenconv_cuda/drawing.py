"""How figures look."""

from __future__ import annotations

from matplotlib.axes import Axes

INK, GREY = "#222222", "#6b6b6b"

COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#222222")
"""Okabe and Ito's palette, told apart with any colour vision."""


def style(axes: Axes, title: str, x_label: str, y_label: str, grid: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x_label, color=GREY)
    axes.set_ylabel(y_label, color=GREY)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
