"""XSepConv in figures: bars of every shape, sweeps over N, H and K, and the roofline."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from evenconv_cuda.demo.figure import GREY, INK, style

from .cases import Case
from .columns import FLOAT32
from .limits import Limits, needs
from .plotting import LIMIT, LOSS, MARKERS, PALETTE, PASS_TITLES, legend, mark, plain_log, titled
from .ratios import UNFUSED, against, by_case, fastest, median
from .results import Results
from .tables import XSEP, of_operator, sizes


def limit(case: Case, what: str) -> float:
    """Copies of x that the maps take that a pass reads and writes."""
    moved, _ = needs(case, "float32", what)
    return moved / (2 * 4 * case.N * case.C * case.H**2)


def bars(result: Results) -> Figure:
    """A row per shape, in copies of x: for the fused operator a bar from the limit on, a mark for each other way."""
    cases = by_case(of_operator(result, XSEP))
    figure = Figure(figsize=(12, 1.9 + 0.36 * len(cases)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, what in zip(panels, PASS_TITLES):
        _draw_bars(axes, cases, what)
    panels[0].set_yticks(range(len(cases)), [f"{case.group}   {sizes(case)}" for case in cases], color=INK)
    legend(figure, panels)
    return titled(
        figure,
        "XSepConv, float32: time in copies of x (N, C, H=W, K), each in its fastest layout and mode",
        result.machine,
    )


def _draw_bars(axes: Axes, cases: dict[Case, list[dict]], what: str) -> None:
    where = FLOAT32 | {"pass": what}
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    for place, (case, rows) in enumerate(cases.items()):
        found = {form: fastest(rows, form, **where) for form in ("fused", *MARKERS)}
        copies = {form: row["times_copy"] for form, row in found.items() if row}
        least = limit(case, what)
        axes.hlines(place, least, max(copies.values(), default=least), color="#e6e6e6", linewidth=0.8, zorder=0)
        for form, at in copies.items():
            if form == "fused":
                axes.barh(place, at - least, left=least, height=0.56, color=PALETTE[form], label=form)
            else:
                axes.plot(at, place, **mark(form))
        axes.vlines(least, place - 0.42, place + 0.42, color=INK, linewidth=1.6, label=LIMIT)
        gain = against(rows, *UNFUSED, **where)
        if gain is not None:
            color = INK if gain >= 1 else LOSS
            axes.annotate(f"{gain:.2f} ×", (1, place), xytext=(40, 0), ha="right", color=color, **beside)
    axes.annotate("vs fastest", (1, -0.85), xytext=(44, 0), ha="right", color=GREY, fontsize=8.5, **beside)
    axes.set(xscale="log", xlim=(0.85 * min(limit(case, what) for case in cases), None), ylim=(len(cases) - 0.5, -0.6))
    plain_log(axes.xaxis)
    axes.tick_params(axis="y", length=0)
    style(axes, PASS_TITLES[what], "copies of x", "", "x")


def sweeps(result: Results) -> Figure:
    """Milliseconds over N, H and K, both axes logarithmic, with quartiles."""
    figure = Figure(figsize=(12, 7.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    grid = figure.subplots(2, 3, sharex="col")
    for row, what in zip(grid, PASS_TITLES):
        for axes, letter in zip(row, "NHK"):
            cases = by_case(row for row in result.ops if row["group"] == f"sweep {letter}")
            _draw_sweep(axes, cases, what, letter)
            kept = "".join(
                f", {name} = {getattr(case, name)}" for case in [*cases][:1] for name in "NCHK" if name != letter
            )
            below = {"N": "N, images", "H": "H = W, pixels", "K": "K"}[letter] if what == "step" else ""
            style(axes, PASS_TITLES[what] + kept, below, "milliseconds" if letter == "N" else "", "both")
    legend(figure, grid.flat)
    return titled(
        figure, "XSepConv, float32: how time grows with N, H and K, each in its fastest layout", result.machine
    )


def _draw_sweep(axes: Axes, cases: dict[Case, list[dict]], what: str, letter: str) -> None:
    values = [getattr(case, letter) for case in cases]
    for form in reversed(PALETTE):
        found = [fastest(rows, form, **FLOAT32, **{"pass": what}) for rows in cases.values()]
        found = {value: row["ms"] for value, row in zip(values, found) if row is not None}
        if found:
            x, (low, middle, high) = [*found], ([ms[q] for ms in found.values()] for q in ("p25", "median", "p75"))
            width, size = (2.6, 5.5) if form == "fused" else (1.6, 4)
            axes.fill_between(x, low, high, color=PALETTE[form], alpha=0.2, linewidth=0)
            axes.plot(x, middle, "o-", color=PALETTE[form], label=form, linewidth=width, markersize=size)
    copies = {case: fastest(rows, "copy", **FLOAT32) for case, rows in cases.items()}
    copies = {getattr(case, letter): limit(case, what) * median(row) for case, row in copies.items() if row}
    axes.plot([*copies], [*copies.values()], "--", color=INK, linewidth=1.4, label=LIMIT)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(values, [str(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    plain_log(axes.yaxis)


def roofline(result: Results) -> Figure:
    """Operations a second over operations a byte, both those that XSepConv cannot do without, whoever computes it."""
    dtypes = [dtype for dtype in result.limits["flops_per_s"] if dtype in {row["dtype"] for row in result.ops}]
    figure = Figure(figsize=(6 * len(dtypes), 5.9), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    panels = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    for axes, dtype in zip(panels, dtypes):
        _draw_roofline(axes, result, dtype)
        style(axes, dtype, "needed operations / needed byte", "needed GFLOP/s" if axes is panels[0] else "", "both")
    legend(figure, panels)
    return titled(figure, "XSepConv under the roof of this machine: each shape's training step", result.machine)


def _draw_roofline(axes: Axes, result: Results, dtype: str) -> None:
    limits = Limits(**result.limits)
    bandwidth, peak = limits.copy_bytes_per_s / 1e9, limits.flops(dtype) / 1e9
    tops, intensities = {}, [peak / bandwidth]
    for case, rows in by_case(of_operator(result, XSEP)).items():
        found = [fastest(rows, form, dtype=dtype, **{"pass": "step"}) for form in ("pad+concat", "in 3×3", "fused")]
        found = [row for row in found if row is not None]
        if not found:
            continue
        moved, flops = needs(case, dtype, "step")
        intensities.append(flops / moved)
        rates = {row["candidate"]: flops / median(row) / 1e6 for row in found}
        axes.vlines(flops / moved, min(rates.values()), max(rates.values()), color="#d4d4d4", linewidth=1.2, zorder=1)
        for form, rate in rates.items():
            axes.plot(flops / moved, rate, **mark(form), zorder=3)
        label = f"K = {case.K}" + (f" / {case.stride}" if case.stride > 1 else "")
        tops[label] = max(tops.get(label, (0, 0)), (max(rates.values()), flops / moved))
    for label, (y, x) in tops.items():
        axes.annotate(label, (x, y), xytext=(0, 8), textcoords="offset points", color=GREY, fontsize=8.5, ha="center")
    left, right = min(intensities) / 2, max(intensities) * 1.6
    axes.plot([left, peak / bandwidth, right], [left * bandwidth, peak, peak], color=INK, linewidth=1.6)
    note = {"textcoords": "offset points", "color": INK, "fontsize": 9.5}
    axes.annotate(f"{peak:,.0f} GFLOP/s: products", (right, peak), xytext=(-3, 5), ha="right", **note)
    axes.annotate(f"{bandwidth:,.1f} GB/s: copy", (peak / bandwidth, peak), xytext=(-12, -2), ha="right", **note)
    axes.set(xscale="log", yscale="log", xlim=(left, right))
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)
