"""SVHN's cropped digits from train_32x32.mat and test_32x32.mat; the extra images are left alone."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from .image_data import MemoryImages
from .matlab import MOST_BYTES, read_arrays
from .regular import read_bytes

SHAPE = (32, 32, 3)
FILES = ("train_32x32.mat", "test_32x32.mat")


def read(root: Path) -> tuple[list[str], MemoryImages, MemoryImages]:
    """Class names, training and test images.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file cannot be read, or its images or labels are wrong.
    """
    for file in FILES:
        if not (root / file).is_file():
            raise FileNotFoundError(f"{root / file} is missing; svhn takes the folder with {' and '.join(FILES)}")
    train, test = (images(root / file) for file in FILES)
    return [str(digit) for digit in range(10)], train, test


def images(file: Path) -> MemoryImages:
    packed = read_bytes(file, MOST_BYTES)
    try:
        content = read_arrays(packed, ("X", "y"))
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{file} cannot be read as a MATLAB file: {error}") from error
    for name in ("X", "y"):
        if name not in content:
            raise ValueError(f"{file} has no variable {name}; accepted are X, images, and y, labels")
    pixels, labels = content["X"], content["y"].ravel()
    if pixels.dtype != np.uint8 or pixels.shape[:-1] != SHAPE or not pixels.size:
        raise ValueError(f"{file} has X {pixels.dtype} of shape {pixels.shape}; accepted is uint8 of shape {SHAPE} + N")
    if len(labels) != pixels.shape[-1]:
        raise ValueError(f"{file} has {len(labels)} labels; accepted is one for each of {pixels.shape[-1]} images")
    wrong = labels[~np.isin(labels, range(1, 11))]
    if len(wrong):
        raise ValueError(f"{file} has a label {wrong[0]}; accepted is 1 to 10, where 10 is the digit 0")
    contiguous = np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))
    return MemoryImages(torch.from_numpy(contiguous), torch.from_numpy(labels.astype(np.int64) % 10))
