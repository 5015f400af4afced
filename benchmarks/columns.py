"""The columns of the tables: numbers of each case's rows, with their summary over cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .ratios import GRAPH, KEPT, UNFUSED, against, compared, fastest, geometric_mean, over, wanted

DASH = "–"
STEP, FLOAT32 = {"pass": "step"}, {"dtype": "float32"}

Rows = Sequence[dict]


def ratio(value: float) -> str:
    """In bold where the fused operator loses."""
    return f"**{value:.2f}**" if round(value, 2) < 1 else f"{value:.2f}"


def shown(show: Callable[[float], str], value: float | None) -> str:
    return DASH if value is None else show(value)


@dataclass(frozen=True)
class Column:
    """A number of each case's rows."""

    title: str
    value: Callable[[Rows], float | None]
    show: Callable[[float], str] = ratio
    worst: Callable[[Iterable[float]], float] = min

    def cell(self, rows: Rows) -> str:
        return shown(self.show, self.value(rows))

    def summary(self, cases: Iterable[Rows]) -> tuple[str, str]:
        """Geometric mean and worst of the cases that have the number."""
        values = [value for rows in cases if (value := self.value(rows)) is not None]
        return (self.show(geometric_mean(values)), self.show(self.worst(values))) if values else (DASH, DASH)


@dataclass(frozen=True)
class OfBlocks:
    """Ratios as each block by itself has them: from the least to the most."""

    title: str
    values: Callable[[Rows], list[float]]

    def cell(self, rows: Rows) -> str:
        return span(self.values(rows))

    def means(self, cases: Iterable[Rows]) -> list[float]:
        """Of each block the geometric mean over cases."""
        values = [found for rows in cases if (found := self.values(rows))]
        return [geometric_mean(block) for block in zip(*values)]

    def summary(self, cases: Iterable[Rows]) -> tuple[str, str]:
        return span(self.means(cases)), ""


def span(values: Sequence[float], digits: int = 2) -> str:
    if not values:
        return DASH
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"


def _vs(*candidates: str, what: str = "step", dtype: str = "float32", **where: str) -> Callable[[Rows], float | None]:
    return lambda rows: against(rows, *candidates, **{"pass": what, "dtype": dtype}, **where)


def _vs_mode(mode: str, fused_mode: dict[str, str], what: str = "step") -> Callable[[Rows], float | None]:
    where = {"pass": what} | FLOAT32
    return lambda rows: over(wanted(rows, *UNFUSED, mode=mode, **where), wanted(rows, "fused", **where, **fused_mode))


def _in_blocks(**where: str) -> Callable[[Rows], list[float]]:
    where = STEP | FLOAT32 | where
    return lambda rows: compared(wanted(rows, *UNFUSED, **where), wanted(rows, "fused", **where))


def _of_fused(field: str) -> Callable[[Rows], float | None]:
    return lambda rows: (fastest(rows, "fused", **STEP, **FLOAT32) or {}).get(field)


FORWARD, FASTEST = Column("forward", _vs(*UNFUSED, what="forward")), Column("step", _vs(*UNFUSED))
IN_BLOCKS = OfBlocks("in each block", _in_blocks())
BF16 = Column("bf16 step", _vs(*UNFUSED, dtype="bfloat16"))
LIMITS = (
    Column("× copy", _of_fused("times_copy"), "{:.1f}".format, max),
    Column("% of roofline", _of_fused("roofline"), lambda share: f"{100 * share:.0f}"),
)
OF_GOALS = Column("vs fastest", FASTEST.value), Column("NCHW", _vs(*UNFUSED, layout="NCHW"))
NCHW_IN_BLOCKS = OfBlocks("NCHW in each block", _in_blocks(layout="NCHW"))
OF_XSEP = (
    OF_GOALS[0],
    IN_BLOCKS,
    OF_GOALS[1],
    Column("channels_last", _vs(*UNFUSED, layout="channels_last")),
    Column("vs compiled", _vs_mode("compiled", {})),
    Column("vs K×K", _vs("K×K")),
    Column("vs 3×3", _vs("3×3")),
    *LIMITS,
    Column("bf16 vs fastest", BF16.value),
    Column("forward vs fastest", FORWARD.value),
)
MEMORY_KEPT = Column("memory kept", _vs_mode(KEPT, {"mode": KEPT}))
ONLY_ON = {
    "cpu": (
        MEMORY_KEPT,
        Column("forward, kept", _vs_mode(KEPT, {"mode": KEPT}, "forward")),
    ),
    "cuda": (
        Column("fp16 vs fastest", _vs(*UNFUSED, dtype="float16")),
        Column("in CUDA graphs", _vs_mode(GRAPH, {"mode": GRAPH})),
    ),
}
