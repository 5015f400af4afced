"""The networks in a figure: speed and saved bytes of each, as multiples of the network that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from evenconv_cuda.demo.figure import COLORS, GREY, INK, style

from .plotting import titled
from .ratios import ORIGINALS, median, over
from .results import Results

ORIGINAL = "#8f8f8f"
PRECISIONS = {"float32": (1.0, -0.2), "bfloat16": (0.5, 0.2)}
"""How opaque the bars of each are, and where in their row."""
MODEL_GAP = 1.9
HALO = [Stroke(linewidth=2.5, foreground="white"), Normal()]

Network = tuple[str, str, str]
"""Model, convolution and backend."""


def models(result: Results) -> Figure:
    """A row per network, each in its faster layout; speeds are compared in the middle one of the blocks."""
    rows = [row for row in result.models if row["mode"] == "eager"]
    places: dict[Network, float] = {}
    for network in dict.fromkeys(map(_network, rows)):
        new = network[0] not in {model for model, _, _ in places}
        places[network] = max(places.values(), default=-1.0) + (MODEL_GAP if new else 1)
    figure = Figure(figsize=(12, 1.1 + 0.34 * max(places.values())), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    speed, saved = figure.subplots(1, 2, sharey=True)
    _draw(speed, rows, places, "images_per_s", "{:,.0f}/s", lambda own, original: over(original, own))
    _draw(saved, rows, places, "saved_bytes", "{:,.0f} MiB", _of_saved, unit=2**20)
    speed.set_yticks(list(places.values()), [_label(network) for network in places], color=INK)
    speed.set_ylim(max(places.values()) + 0.6, -0.3)
    for model in dict.fromkeys(model for model, _, _ in places):
        top = min(place for network, place in places.items() if network[0] == model)
        speed.annotate(
            model,
            (0, top - 0.78),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            weight="bold",
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=10,
        )
    style(speed, "Images a second, in the original's: more is better", "", "", "x")
    style(saved, "Bytes saved for backward, in the original's: less is better", "", "", "x")
    return titled(
        figure, "Training steps of the papers' networks: float32, and paler bfloat16 autocast", result.head("models")
    )


def _of_saved(own: Sequence[dict], original: Sequence[dict]) -> float:
    return _faster(own)["saved_bytes"] / _faster(original)["saved_bytes"]


def _draw(
    axes: Axes,
    rows: list[dict],
    places: dict[Network, float],
    field: str,
    shown: str,
    relative: Callable[[Sequence[dict], Sequence[dict]], float],
    unit: float = 1,
) -> None:
    for precision, (alpha, offset) in PRECISIONS.items():
        found: dict[Network, list[dict]] = {network: [] for network in places}
        for row in rows:
            if row["precision"] == precision and row.get(field):
                found[_network(row)].append(row)
        originals = {model: own for (model, conv, _), own in found.items() if conv in ORIGINALS and own}
        for network, own in found.items():
            model, conv, backend = network
            if not own or model not in originals:
                continue
            width, place = relative(own, originals[model]), places[network] + offset
            color = ORIGINAL if conv in ORIGINALS else COLORS[backend]
            axes.barh(place, width, height=0.36, color=color, alpha=alpha)
            axes.annotate(
                shown.format(_faster(own)[field] / unit),
                (width, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=GREY,
                fontsize=7.5,
                path_effects=HALO,
            )
    axes.axvline(1, color=INK, linewidth=1.2, linestyle="--", zorder=0)
    axes.margins(x=0.14)
    axes.tick_params(axis="y", length=0)


def _faster(rows: Iterable[dict]) -> dict:
    return min(rows, key=median)


def _network(row: dict) -> Network:
    return row["model"], row["conv"], row["backend"]


def _label(network: Network) -> str:
    _, conv, backend = network
    return f"{conv}, the original" if conv in ORIGINALS else f"{conv}, {backend}"
