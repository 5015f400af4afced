"""scikit-learn's handwritten digits as 32×32 maps, split into training and test images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torch import Tensor

SIZE = 32
TEST_SHARE = 0.2


@dataclass
class Digits:
    """Images ``(N, 1, 32, 32)`` of zero mean and unit variance, labels ``(N,)``."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits(seed: int, device: torch.device, memory_format: torch.memory_format) -> Digits:
    """Split by ``seed`` with every digit's share kept, enlarge bilinearly and move to ``device``."""
    images, labels = datasets.load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=TEST_SHARE, stratify=labels, random_state=seed)
    train_images, test_images = (torch.as_tensor(part, dtype=torch.float32).view(-1, 1, 8, 8) for part in parts[:2])
    train_labels, test_labels = (torch.as_tensor(part, device=device) for part in parts[2:])
    mean, std = train_images.mean(), train_images.std()

    def prepared(part: Tensor) -> Tensor:
        enlarged = F.interpolate((part - mean) / std, size=(SIZE, SIZE), mode="bilinear")
        return enlarged.to(device, memory_format=memory_format)

    return Digits(prepared(train_images), train_labels, prepared(test_images), test_labels)
