"""Random crop, flip, cutout and mixup of a whole batch at once, on the device of the images."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Augmentation(nn.Module):
    """uint8 images ``(N, C, H, W)`` to normalised float32 images of the same size.

    In this order: a random H×W window of the image with ``pad`` black pixels on every side; a mirror image with
    probability 1/2; ``(pixel / 255 - mean) / std``; a square of side ``cutout`` set to 0, its centre anywhere in the
    image, so that it may stick out (DeVries and Taylor, arXiv 1708.04552); ``a image + (1 - a) other`` with one a of
    Beta(``mixup``, ``mixup``) for the batch (Zhang et al., arXiv 1710.09412). 0 leaves the last two out.

    All random numbers are drawn on the CPU, so one generator gives the same batches on every device.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        pad: int = 4,
        flip: bool = True,
        cutout: int = 0,
        mixup: float = 0.0,
    ):
        super().__init__()
        if len(mean) != len(std):
            raise ValueError(
                f"mean has {len(mean)} channels and std {len(std)}; accepted is one value each per channel"
            )
        if not all(value > 0 for value in std):
            raise ValueError(f"std is {list(std)}; accepted are numbers above 0")
        for name, value in (("pad", pad), ("cutout", cutout)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} is {value!r}; accepted is a whole number of pixels from 0")
        if not 0 <= mixup < math.inf:
            raise ValueError(f"mixup is {mixup}; accepted is a number from 0")
        self.pad = pad
        self.flip = flip
        self.cutout = cutout
        self.mixup = mixup
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(
        self, images: Tensor, labels: Tensor, num_classes: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The images and their labels, int64 ``(N,)``; with mixup float32 ``(N, num_classes)``, each row of sum 1.

        Args:
            generator: a generator of the CPU; by default torch's own.
        """
        images = self.normalise(self.shifted(images, generator))
        if self.cutout:
            images = images * self.kept(images, generator)
        if self.mixup:
            return self.mixed(images, F.one_hot(labels, num_classes).float(), generator)
        return images, labels

    def normalise(self, images: Tensor) -> Tensor:
        """``(pixel / 255 - mean) / std``: all that an image goes through in evaluation."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(self.mean):
            given = f"{images.dtype} of shape {tuple(images.shape)}"
            raise ValueError(f"images are {given}; accepted is torch.uint8 of shape (N, {len(self.mean)}, H, W)")
        return (images / 255 - self.mean) / self.std

    def shifted(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        count, _, height, width = images.shape
        device = images.device
        top, left = torch.randint(2 * self.pad + 1, (2, count, 1), generator=generator).to(device)
        rows = top + torch.arange(height, device=device)
        columns = left + torch.arange(width, device=device)
        if self.flip:
            mirrored = torch.randint(2, (count, 1), generator=generator).bool().to(device)
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(images, (self.pad,) * 4)
        batch = torch.arange(count, device=device)[:, None, None]
        return padded.movedim(1, -1)[batch, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()

    def kept(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """``(N, 1, H, W)``, False in the square."""
        count, _, height, width = images.shape

        def inside(size: int) -> Tensor:
            first = torch.randint(size, (count, 1), generator=generator).to(images.device) - self.cutout // 2
            place = torch.arange(size, device=images.device)
            return (place >= first) & (place < first + self.cutout)

        return ~(inside(height)[:, None, :, None] & inside(width)[:, None, None, :])

    def mixed(self, images: Tensor, targets: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        other = torch.randperm(len(images), generator=generator).to(images.device)
        # torch's Beta takes no generator.
        key = torch.randint(2**62, (), generator=generator).item()
        weight = random.Random(key).betavariate(self.mixup, self.mixup)
        return images.lerp(images[other], 1 - weight), targets.lerp(targets[other], 1 - weight)
