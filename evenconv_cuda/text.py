"""Plain-text tables and what stands in them."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str | int]], text: int = 1) -> str:
    """Rows of cells in aligned columns: the first ``text`` columns to the left, the others, numbers, to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [f"{cell:{'<' if n < text else '>'}{width}}" for n, (cell, width) in enumerate(zip(row, widths))]
        lines.append("   ".join(padded).rstrip())
    return "\n".join(lines)


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
