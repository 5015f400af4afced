"""The goals that measured times can be held against, from medians by name "what | form, layout | variant"."""

from __future__ import annotations

import math
from dataclasses import dataclass

UNFUSED = ("pad+concat", "in 3×3")
LAYOUTS = ("NCHW", "channels_last")
LARGE_BYTES = 64 << 20  # of T: what most goals speak of
HALVES = ("bfloat16", "float16")
LARGE_BAND = 31


@dataclass(frozen=True)
class Goal:
    """A number that was measured and what it should be: at most or at least a limit."""

    name: str
    where: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return (
            f"{'met    ' if self.met else 'NOT MET'} {self.name} {self.where}: {self.value:.4g} ({sign} {self.limit:g})"
        )


def fastest(times: dict[str, float], what: str, forms: tuple[str, ...], layouts: tuple[str, ...] = LAYOUTS) -> float:
    """Of all variants of these forms in these layouts; infinite if there is none."""
    found = [
        milliseconds
        for name, milliseconds in times.items()
        if name.split(" | ")[0] == what and tuple(name.split(" | ")[1].split(", ")) in _pairs(forms, layouts)
    ]
    return min(found, default=math.inf)


def _pairs(forms, layouts):
    return {(form, layout) for form in forms for layout in layouts}


def merged(measured: list[dict]) -> list[dict]:
    """One entry for each shape and dtype. Of runs in several processes, the times of a later one are scaled so that
    the fused steps of both agree, since only ratios within a process mean anything."""
    found: dict[tuple, dict] = {}
    for entry in measured:
        key = (*entry["shape"], entry["dtype"])
        times = entry["milliseconds"]
        if key not in found:
            found[key] = {**entry, "milliseconds": dict(times)}
            continue
        first = found[key]["milliseconds"]
        scale = fastest(first, "step", ("fused",)) / fastest(times, "step", ("fused",))
        for name, milliseconds in times.items():
            first.setdefault(name, milliseconds * scale)
    return list(found.values())


def evaluate(measured: list[dict]) -> list[Goal]:
    """G1 to G6 and G10, as far as the shapes that were measured tell; ratios of medians."""
    goals, against_best = [], {}
    for entry in merged(measured):
        N, C, H, K = entry["shape"]
        dtype, times = entry["dtype"], entry["milliseconds"]
        where = f"{N}, {C}, {H}, K={K} {dtype}"
        half = dtype in HALVES
        T = N * C * H * H * (2 if half else 4)
        copy, step = fastest(times, "copy", ("fused",)), fastest(times, "step", ("fused",))
        forward, backward = fastest(times, "forward", ("fused",)), fastest(times, "backward", ("fused",))
        best = fastest(times, "step", UNFUSED) / step
        if K == LARGE_BAND:
            goals.append(Goal("G10 step against best", where, best, 1.0 if half else 1.5, at_least=True))
            continue
        if T < LARGE_BYTES:
            continue
        against_best.setdefault("half" if half else "float32", []).append(best)
        goals.append(Goal("G3 step against best", where, best, 1.3, at_least=True))
        limit = {"float32": 1.15 if K <= 7 else None}.get(dtype, {3: 1.2, 7: 1.45}.get(K))
        if limit:
            goals.append(Goal("G1 forward in copies", where, forward / copy, limit))
        limit = {3: 2.4, 7: 3.3}.get(K) if half else {3: 1.8, 7: 2.0}.get(K)
        if limit:
            goals.append(Goal("G2 backward in copies", where, backward / copy, limit))
        for layout in LAYOUTS:
            own, eager = (fastest(times, "step", (form,), (layout,)) for form in ("fused", "pad+concat"))
            if eager < math.inf:
                goals.append(Goal(f"G4 step against eager pad+concat, {layout}", where, eager / own, 6, at_least=True))
        if K == 7:
            conv = fastest(times, "forward", ("3×3",))
            if conv < math.inf:
                goals.append(Goal("G5 forward against one 3×3", where, forward / conv, 1))
            single = fastest(times, "step", ("K×K",))
            if single < math.inf:
                goals.append(Goal("G5 step against K×K", where, step / single, 1))
        if C % 8 == 0:
            for what in ("forward", "backward"):
                last, first = (fastest(times, what, ("fused",), (layout,)) for layout in reversed(LAYOUTS))
                goals.append(Goal(f"G6 {what}, channels_last against NCHW", where, last / first, 1.15))
    for kind, ratios in against_best.items():
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        limit = 3.0 if kind == "float32" else 2.5
        goals.append(Goal("G3 geometric mean", f"{kind}, {len(ratios)} shapes", mean, limit, at_least=True))
    return goals
