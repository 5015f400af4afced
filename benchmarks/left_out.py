"""What is not timed: said at once, and written beside the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

_lines: dict[str, None] = {}


def leave_out(what: str, why: str) -> None:
    line = f"{what} is not timed: {why}"
    _lines[line] = None
    tqdm.write(line)


@contextmanager
def leaving_out(what: str) -> Iterator[None]:
    """What fails within, as for want of memory, is left out; the others go on."""
    try:
        yield
    except Exception as error:
        leave_out(what, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def left_out() -> list[str]:
    """What this process has left out, each once."""
    return [*_lines]
