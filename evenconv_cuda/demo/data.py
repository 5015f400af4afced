"""The digits of ``evenconv_cuda.data``, all of them on the training device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Augmentation, MemoryImages, open_data


@dataclass
class Digits:
    """Images ``(N, 1, 32, 32)`` of zero mean and unit variance, labels ``(N,)``."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_digits(seed: int, device: torch.device, memory_format: torch.memory_format) -> Digits:
    """Split by ``seed``, normalise by the training images and move to ``device``."""
    data = open_data("digits", seed=seed)
    normalise = Augmentation(data.mean, data.std).normalise

    def prepared(part: MemoryImages) -> tuple[Tensor, Tensor]:
        return normalise(part.images).to(device, memory_format=memory_format), part.labels.to(device)

    return Digits(*prepared(data.train), *prepared(data.test))
