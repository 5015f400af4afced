"""scikit-learn's handwritten digits, enlarged to 32×32 and split by seed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn import datasets
from sklearn.model_selection import train_test_split

from .image_data import MemoryImages

SIZE = 32
TEST_SHARE = 0.2
BRIGHTEST = 16


def read(seed: int) -> tuple[list[str], MemoryImages, MemoryImages]:
    """Class names, training and test images; every digit has the same share of both."""
    images, labels = datasets.load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=TEST_SHARE, stratify=labels, random_state=seed)
    train_images, test_images, train_labels, test_labels = map(torch.as_tensor, parts)
    classes = [str(digit) for digit in range(10)]
    return classes, enlarged(train_images, train_labels), enlarged(test_images, test_labels)


def enlarged(images: torch.Tensor, labels: torch.Tensor) -> MemoryImages:
    maps = F.interpolate(images.view(-1, 1, 8, 8), size=(SIZE, SIZE), mode="bilinear")
    return MemoryImages((maps * (255 / BRIGHTEST)).round().to(torch.uint8), labels)
