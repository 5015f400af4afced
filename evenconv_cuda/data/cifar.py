"""CIFAR-10 and CIFAR-100 from the files of their python archives."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from .image_data import MemoryImages

SHAPE = (3, 32, 32)
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

ARRAY_PARTS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""What a pickled array refers to; ``encode`` stands for bytes in what Python 3 writes for Python 2."""

PLAIN_DTYPES = ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


class ArrayUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, bytes and arrays; a pickle that asks for anything else, it could run code, fails."""

    def find_class(self, module: str, name: str):
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; accepted are arrays")
        return plain_dtype if name == "dtype" else super().find_class(module, name)


def plain_dtype(name: str, *_) -> np.dtype:
    """Built-in ones alone: a pickle can give others fields that point anywhere."""
    if name not in PLAIN_DTYPES:
        raise pickle.UnpicklingError(f"it asks for an array of {name!r}; accepted are {', '.join(PLAIN_DTYPES)}")
    return np.dtype(name)


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

    def images(part: str) -> MemoryImages:
        batches = [batch(root / file, layout, meta.get(b"num_cases_per_batch")) for file in layout[part]]
        pixels, labels = map(np.concatenate, zip(*batches))
        return MemoryImages(torch.from_numpy(pixels), torch.from_numpy(labels))

    return [name.decode() for name in names], images("train"), images("test")


def unpickle(file: Path) -> dict:
    try:
        with file.open("rb") as stream:
            content = ArrayUnpickler(stream, encoding="bytes").load()
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
    data, labels = content[b"data"], np.asarray(content[layout["labels"]])
    row = int(np.prod(SHAPE))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != row:
        given = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"{file} has data {given}; accepted is uint8 of shape (N, {row})")
    if not len(data) or len(data) != (expected or len(data)):
        raise ValueError(f"{file} has {len(data)} images; accepted is {expected or 'at least 1'}")
    if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{file} has {labels.size} labels; accepted is a whole number for each of {len(data)} images")
    wrong = labels[(labels < 0) | (labels >= layout["classes"])]
    if len(wrong):
        raise ValueError(f"{file} has a label {wrong[0]}; accepted is 0 to {layout['classes'] - 1}")
    return data.reshape(-1, *SHAPE), labels.astype(np.int64)
