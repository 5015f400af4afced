"""The command's plain-text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..text import table
from .erosion import Erosion

POSTER = {
    "c2": (44, "< 0.001"),
    "c2sp": (54, "0.08"),
    "c3": (54, "0.056"),
    "c4": (54, "0.0016"),
    "c4sp": (54, "0.029"),
    "c5": (54, "0.015"),
}
"""Layer and Q there, read off the plot of arXiv 1903.08385's poster, give or take 10 %."""

POSTER_DEPTH = max(depth for depth, _ in POSTER.values())


def name(kind: str) -> str:
    """As the paper writes it: C2sp."""
    return kind.replace("c", "C", 1)


def number(value: float) -> str:
    return f"{value:#.3g}"


def activation_table(runs: Mapping[str, Erosion], depths: Sequence[int]) -> str:
    """Q_n / Q_0, a row per kind, a column per depth."""
    rows = [[name(kind), *(number(run.activation[depth].item()) for depth in depths)] for kind, run in runs.items()]
    return table([["layer", *map(str, depths)], *rows])


def centroid_table(centroids: Mapping[str, Tensor], depths: Sequence[int]) -> str:
    """Row and column of the impulse's centroid, a row per kind, a column per depth."""
    rows = [[name(kind), *(place(moved[depth]) for depth in depths)] for kind, moved in centroids.items()]
    return table([["layer", *map(str, depths)], *rows])


def poster_table(images: Mapping[str, Erosion] | None, noise: Mapping[str, Erosion]) -> str:
    """The poster's figures, and the same depths of what was run here."""
    heading = ["layer", "n", "poster", "random maps", *([] if images is None else ["these maps"])]
    rows = [heading]
    for kind in noise:
        depth, shown = POSTER[kind]
        measured = [runs[kind].activation for runs in (noise, images) if runs is not None]
        rows.append([name(kind), str(depth), shown, *(number(q[depth].item()) for q in measured)])
    return table(rows)


def place(moved: Tensor) -> str:
    row, column = (round(value, 2) + 0.0 for value in moved.tolist())
    return f"{row:g}, {column:g}"
