"""Plain-text tables and what stands in them."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str | int]], text: int = 1) -> str:
    """Rows of cells in aligned columns: the first ``text`` columns to the left, the others, numbers, to the right."""
    cells = _cells(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [f"{cell:{'<' if n < text else '>'}{width}}" for n, (cell, width) in enumerate(zip(row, widths))]
        lines.append("   ".join(padded).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str | int]], text: int = 1) -> str:
    """The same as a table of Markdown; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in _cells(rows))
    ruler = "|" + "---|" * text + "---:|" * (len(rows[0]) - text)
    return "\n".join([head, ruler, *body])


def _cells(rows: Sequence[Sequence[str | int]]) -> list[list[str]]:
    return [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
