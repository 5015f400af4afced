"""CIFAR-10 and CIFAR-100 from the files of their python archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .array_pickle import read_pickle
from .image_data import MemoryImages
from .regular import read_bytes

SHAPE = (3, 32, 32)
MOST_BYTES = 2**28
"""Of a file; CIFAR-100's training images are 155 MB, half as many again where Python 3 wrote them for Python 2."""

LAYOUTS = {
    "cifar10": {
        "folder": "cifar-10-batches-py",
        "meta": "batches.meta",
        "names": b"label_names",
        "labels": b"labels",
        "train": [f"data_batch_{n}" for n in range(1, 6)],
        "test": ["test_batch"],
        "classes": 10,
    },
    "cifar100": {
        "folder": "cifar-100-python",
        "meta": "meta",
        "names": b"fine_label_names",
        "labels": b"fine_labels",
        "train": ["train"],
        "test": ["test"],
        "classes": 100,
    },
}


def read(name: str, root: Path) -> tuple[list[str], MemoryImages, MemoryImages]:
    """Class names, training and test images of ``root``, the archive's folder or the one that it lies in.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no pickle of arrays, or its rows or labels are wrong.
    """
    layout = LAYOUTS[name]
    if (root / layout["folder"]).is_dir():
        root = root / layout["folder"]
    files = [root / file for file in (layout["meta"], *layout["train"], *layout["test"])]
    for file in files:
        if not file.is_file():
            expected = ", ".join(file.name for file in files)
            raise FileNotFoundError(f"{file} is missing; {name} takes the folder {layout['folder']} with {expected}")

    meta = unpickle(root / layout["meta"])
    names = meta.get(layout["names"], [])
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise ValueError(f"{files[0]} has no list of class names in {layout['names'].decode()!r}")
    if len(names) != layout["classes"]:
        raise ValueError(f"{files[0]} names {len(names)} classes; accepted is {layout['classes']}")

    size = meta.get(b"num_cases_per_batch")
    if size is not None and type(size) is not int:
        raise ValueError(
            f"{files[0]} has a {type(size).__name__} for 'num_cases_per_batch'; accepted is a whole number"
        )

    def images(part: str) -> MemoryImages:
        batches = [batch(root / file, layout, size) for file in layout[part]]
        pixels, labels = map(np.concatenate, zip(*batches))
        return MemoryImages(torch.from_numpy(pixels), torch.from_numpy(labels))

    return [name.decode(errors="replace") for name in names], images("train"), images("test")


def unpickle(file: Path) -> dict:
    packed = read_bytes(file, MOST_BYTES)
    try:
        content = read_pickle(packed)
    except Exception as error:  # A pickle that is broken raises whatever its bytes happen to lead to.
        raise ValueError(f"{file} cannot be read as a pickle of arrays: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; accepted is a dictionary")
    return content


def batch(file: Path, layout: dict, expected: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 3, 32, 32)`` and labels ``(N,)`` of one file, N as the meta file says where it does."""
    content = unpickle(file)
    for key in (b"data", layout["labels"]):
        if key not in content:
            raise ValueError(f"{file} has no {key.decode()!r}: it is no batch of {layout['folder']}")
    data, labels = content[b"data"], content[layout["labels"]]
    row = int(np.prod(SHAPE))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != row:
        given = f"uint8 of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"{file} has data {given}; accepted is uint8 of shape (N, {row})")
    if not len(data) or len(data) != (expected or len(data)):
        raise ValueError(f"{file} has {len(data)} images; accepted is {expected or 'at least 1'}")
    if not isinstance(labels, (list, np.ndarray)) or len(labels) != len(data):
        given = f"{len(labels)} labels" if hasattr(labels, "__len__") else f"labels {type(labels).__name__}"
        raise ValueError(f"{file} has {given}; accepted is a whole number for each of {len(data)} images")
    labels = labels.tolist() if isinstance(labels, np.ndarray) and labels.ndim == 1 else labels
    if not all(type(label) is int for label in labels):
        raise ValueError(f"{file} has labels that are no whole numbers; accepted is a flat list of them")
    for label in labels:
        if not 0 <= label < layout["classes"]:
            raise ValueError(f"{file} has a label {label}; accepted is 0 to {layout['classes'] - 1}")
    return data.reshape(-1, *SHAPE), np.array(labels, dtype=np.int64)
