"""What an opened data set is, and the images that live in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import Dataset


@dataclass
class ImageData:
    """Training and test images with what a model and its augmentation need to know.

    A dataset here takes a list of indices: ``train[[3, 1]]`` are images ``(2, C, H, W)`` of uint8 and labels ``(2,)``
    of int64. ``mean`` and ``std`` are the training images', per channel, with pixels in 0..1; for files they are those
    of at most 256 images, evenly spaced. ``pad`` and ``flip`` are what ``Augmentation`` should be given: no flip where
    a mirrored image is another class (digits), no padding where files already give random crops.
    """

    name: str
    classes: list[str]
    in_channels: int
    image_size: int
    train: Dataset
    test: Dataset
    mean: list[float]
    std: list[float]
    pad: int = 4
    flip: bool = True
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files that ``skip_bad_images`` left out, each with the reason."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)


class MemoryImages(Dataset):
    """Images ``(N, C, H, W)`` of uint8 and labels ``(N,)`` of int64; a batch is one gather."""

    in_memory = True

    def __init__(self, images: Tensor, labels: Tensor):
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[index], self.labels[index]

    def select(self, indices: Sequence[int]) -> MemoryImages:
        return MemoryImages(*self[indices])


def mean_and_std(images: Tensor) -> tuple[list[float], list[float]]:
    """Per channel of uint8 images, in 0..1. Of a constant channel std is a grey level, so that dividing is safe."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        average = (share * levels).sum()
        mean.append(average.item())
        std.append(max((share * (levels - average).square()).sum().sqrt().item(), 1 / 255))
    return mean, std
