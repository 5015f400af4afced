"""Checkpoints that are whole or not there, and read with nothing taken on trust."""

from __future__ import annotations

import hashlib
import os
import pickletools
import struct
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, ZipFile

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from .files import replacing

NAME = "last"
PARTS = ("state_dict", "hyper_parameters", "epoch")
RECIPE = {"model": str, "width": int | None, "seed": int, "augment": bool, "cutout": int, "mixup": float}
DATA = {"num_classes": int, "classes": list, "in_channels": int, "image_size": int, "mean": list, "std": list}
DATA |= {"pad": int, "flip": bool}
HYPER_PARAMETERS = {"recipe": RECIPE, "data": DATA}
"""What is read of them, and its types."""

MOST_REPEATED = 16

PREFIX = b"sha256:"
DIGEST = len(PREFIX) + 2 * hashlib.sha256().digest_size


class AtomicCheckpointIO(TorchCheckpointIO):
    """At no moment is a part of a checkpoint there, and what is read is what was written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)
            append_digest(file)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def append_digest(file: BinaryIO) -> None:
    """Give the zip archive a comment, whose length is its last field: the digest of all bytes before."""
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", DIGEST))
    file.seek(0)
    file.write(PREFIX + hashlib.file_digest(file, "sha256").hexdigest().encode())


def has_digest(file: BinaryIO) -> bool:
    """Whether ``file`` has one, as all that ``train`` writes now.

    Raises:
        ValueError: if it is another one than that of the bytes before it.
    """
    left = max(0, file.seek(0, os.SEEK_END) - DIGEST)
    file.seek(left)
    written = file.read()
    if not written.startswith(PREFIX):
        return False
    file.seek(0)
    digest = hashlib.sha256()
    while left and (chunk := file.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    if written.removeprefix(PREFIX) != digest.hexdigest().encode():
        raise ValueError("its SHA-256 is not that of when it was written")
    return True


def check_archive(file: BinaryIO, trusted: bool) -> None:
    """That no entry takes more memory than the file has bytes, or for ever; unless ``trusted``, their checksums too.

    Raises:
        Exception: of any type, if not.
    """
    archive = ZipFile(file)
    entries, size = archive.infolist(), file.seek(0, os.SEEK_END)
    if any(entry.compress_type != ZIP_STORED for entry in entries) or sum(entry.file_size for entry in entries) > size:
        raise ValueError("its entries are compressed or overlap")
    for entry in entries:
        if entry.filename.endswith("data.pkl") and repeated_tuples(archive.read(entry)) > MOST_REPEATED:
            raise ValueError("its tuples repeat each other")
    if not trusted and (archive.comment or archive.testzip()):
        raise ValueError("its checksums are not those of its entries")


def repeated_tuples(pickled: bytes) -> int:
    """How often a tuple is put to use again: each time may double what it takes to hash the one around it."""
    memoized, previous, count = set(), "", 0
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name.endswith("PUT"):
            if previous.startswith("TUPLE"):
                memoized.add(argument)
        else:
            count += opcode.name.endswith("GET") and argument in memoized
            previous = opcode.name
    return count


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What ``train`` wrote to ``path``, on the CPU; no code in it is run.

    Raises:
        ValueError: if it is truncated, damaged, or no checkpoint of ``train``.
        OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    with path.open("rb") as file:
        try:
            trusted = has_digest(file)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        try:
            check_archive(file, trusted)
            file.seek(0)
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is truncated or no checkpoint") from error
    if wrong := unlike_a_training(checkpoint):
        raise ValueError(f"{path} is no checkpoint of the train command: {wrong}")
    return checkpoint


def unlike_a_training(checkpoint: Any) -> str | None:
    """What of it ``train`` would not have written."""
    missing = [part for part in PARTS if not isinstance(checkpoint, dict) or part not in checkpoint]
    given = {} if missing else checkpoint["hyper_parameters"]
    missing += [part for part in HYPER_PARAMETERS if not missing and (not isinstance(given, dict) or part not in given)]
    if missing:
        return f"it has no {', '.join(missing)}"
    if not isinstance(checkpoint["state_dict"], dict) or not isinstance(checkpoint["epoch"], int):
        return "its state_dict is no dictionary, or its epoch no whole number"
    for part, types in HYPER_PARAMETERS.items():
        for name, kind in types.items():
            value = given[part].get(name) if isinstance(given[part], dict) else None
            if not isinstance(value, kind):
                return f"its {part} has no {name}, or one that is no {getattr(kind, '__name__', kind)}"
        for name, value in given[part].items():
            if not all(is_plain(entry) for entry in (value if isinstance(value, list) else [value])):
                return f"{name} of its {part} is neither a number nor a text, nor a list of them"
    return None


def is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))
