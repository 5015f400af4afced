"""Plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows of cells in aligned columns: text to the left, numbers, with thousands separated, to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    right = [any(isinstance(cell, int) for cell in column) for column in zip(*rows)]
    lines = []
    for row in cells:
        padded = (cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right))
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
