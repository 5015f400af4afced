"""The file that a command makes of a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .files import NotWritten, replacing


def check_output(out: Path, checkpoint: Path) -> None:
    """Leave if writing ``out`` would destroy the checkpoint, or what is no file."""
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        sys.exit(f"OUT is {out}, which is the checkpoint; accepted is another name")
    if out.exists() and not out.is_file():
        sys.exit(f"OUT is {out}, which is no regular file; accepted is another name")


@contextmanager
def output(out: Path) -> Iterator[BinaryIO]:
    """``out`` for writing, there only when it is whole, or leave."""
    try:
        with replacing(out) as file:
            yield file
    except NotWritten as error:
        sys.exit(f"OUT cannot be written: {error}")
