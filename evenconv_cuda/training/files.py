"""Files that are whole or not there, and folders that one process at a time writes to."""

from __future__ import annotations

import fcntl
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"


def hold(folder: Path) -> BinaryIO:
    """Make ``folder`` and keep other processes out of it, until the file that is returned is closed or this one ends.

    Raises:
        ValueError: if another process holds it.
        OSError: if it cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("ab")
    # Not flock: a data loader's workers would inherit it, and notice only seconds later that their parent was killed.
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise ValueError("another process writes there; accepted is a folder that none does") from None
    except OSError as error:
        warnings.warn(f"{folder} cannot be locked: {error.strerror}; let no other process write there", stacklevel=2)
    return file


class NotWritten(Exception):
    """A file could not be written, as on a full disk."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path``, for writing and reading, that gets its name once it is on the disk.

    If that fails, it is removed and ``path`` stays as it was. What killed writers left is removed before.

    Raises:
        NotWritten: for any error of the system.
    """
    path = path.resolve()
    remove_dead_parts(path)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("x+b") as file:
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)
        flush_folder(path.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        # Where writing fails, torch.save ends with an error of its own.
        for cause in (error, error.__context__):
            if isinstance(cause, OSError):
                raise NotWritten(f"{path}: {cause.strerror or cause}") from error
        raise


def flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_dead_parts(path: Path) -> None:
    """Those that no process holds the lock of."""
    for part in path.parent.glob(f"{escape(path.name)}.*part"):
        try:
            with part.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
        except OSError:
            continue
