"""What is not timed: said at once, and written beside the rows."""

from __future__ import annotations

from tqdm import tqdm

_lines: dict[str, None] = {}


def leave_out(what: str, why: str) -> None:
    line = f"{what} is not timed: {why}"
    _lines[line] = None
    tqdm.write(line)


def left_out() -> list[str]:
    """What has been left out by this process, each once."""
    return [*_lines]
