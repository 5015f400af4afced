"""Files from strangers, opened only if they are regular and not too large: pipes and devices have no end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""A file of the kernel can be regular and have nothing to read yet."""


@contextmanager
def open_regular(file: str | Path, most: int) -> Iterator[BinaryIO]:
    """A regular file of at most ``most`` bytes, for reading.

    Raises:
        ValueError: it is another file.
    """
    if not os.path.isfile(file):
        raise ValueError("it is no regular file")
    with open(file, "rb", opener=lambda path, flags: os.open(path, flags | NONBLOCK)) as stream:
        if (size := os.fstat(stream.fileno()).st_size) > most:
            raise ValueError(f"it has {size} bytes; accepted are {most}")
        yield stream


def read_bytes(file: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        ValueError: it is another file.
    """
    try:
        with open_regular(file, most) as stream:
            return stream.read(os.fstat(stream.fileno()).st_size)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
