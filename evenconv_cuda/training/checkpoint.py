"""Checkpoints that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

NAME = "last"
PARTS = ("state_dict", "hyper_parameters", "epoch")
HYPER_PARAMETERS = ("recipe", "data")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint, waits for the disk, then gives it the name: at no moment is a part of one there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What ``train`` wrote to ``path``, on the CPU; no code in it is run.

    Raises:
        ValueError: if it is truncated, or no checkpoint of ``train``.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} is truncated or no checkpoint") from error
    missing = [part for part in PARTS if not isinstance(checkpoint, dict) or part not in checkpoint]
    given = {} if missing else checkpoint["hyper_parameters"]
    missing += [part for part in HYPER_PARAMETERS if not missing and part not in given]
    if missing:
        raise ValueError(f"{path} is no checkpoint of the train command: it has no {', '.join(missing)}")
    return checkpoint
