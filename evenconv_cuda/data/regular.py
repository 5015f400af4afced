"""Whole files from strangers, opened only if they are regular and not too large: pipes and devices have no end."""

from __future__ import annotations

from pathlib import Path


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        ValueError: it is another file.
    """
    if not file.is_file():
        raise ValueError(f"{file} is no regular file")
    if (size := file.stat().st_size) > most:
        raise ValueError(f"{file} has {size} bytes; accepted are {most}")
    return file.read_bytes()
