"""Files from strangers, opened only if they are regular: a pipe or a device can be read for ever."""

from __future__ import annotations

import os
from pathlib import Path


def require_regular(file: str | Path) -> None:
    if not os.path.isfile(file):
        raise ValueError("it is no regular file")


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes."""
    require_regular(file)
    if (size := file.stat().st_size) > most:
        raise ValueError(f"it has {size} bytes; accepted are {most}")
    return file.read_bytes()
