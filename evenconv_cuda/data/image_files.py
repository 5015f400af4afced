"""Image files, decoded and cut to one size when a batch asks for them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from .regular import open_regular

LabelledFiles = list[tuple[str, int]]
Box = tuple[float, float, float, float]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow decodes by itself: some of its other readers start programs."""

SUFFIXES = tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS))
MOST_BYTES = 2**29
"""Of a file; what is read whole to see its header takes no more memory."""

BITS_PER_SAMPLE = 258
LARGEST_SMALL = 64
"""Up to this size images are taken whole, as CIFAR's are, and the batch's augmentation shifts them."""

CENTRE = 0.875
AREA, RATIO = (0.08, 1), (3 / 4, 4 / 3)
"""The share of an image that a random crop has, and its width to its height (Szegedy et al., arXiv 1409.4842)."""


class FileImages(Dataset):
    """Images of ``size``×``size`` and labels; a batch decodes its files, so it belongs in DataLoader workers.

    Above 64 pixels a training image is a random crop, enlarged or reduced, that depends on the batch's seed and epoch
    and on the image's index alone, whatever process makes it; a test image is the central square of 0.875 times the
    shorter side. Up to 64 pixels both are the whole central square.
    """

    in_memory = False

    def __init__(self, files: LabelledFiles, size: int, training: bool):
        self.files = files
        self.size = size
        self.training = training

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """uint8 ``(n, 3, size, size)`` and int64 ``(n,)``.

        Raises:
            ValueError: a file does not decode.
        """
        seed, epoch = getattr(indices, "seed", 0), getattr(indices, "epoch", 0)
        images = np.stack([self.image(index, f"{seed} {epoch} {index}") for index in indices])
        labels = torch.tensor([self.files[index][1] for index in indices], dtype=torch.int64)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels

    def image(self, index: int, key: str) -> np.ndarray:
        file = self.files[index][0]
        try:
            image = decoded(file)
        except Exception as error:
            raise ValueError(f"{file} does not decode: {error}") from error
        if self.size <= LARGEST_SMALL:
            box = central_box(*image.size, 1)
        elif self.training:
            box = random_box(*image.size, random.Random(key))
        else:
            box = central_box(*image.size, CENTRE)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box))

    def select(self, indices: Sequence[int]) -> FileImages:
        return FileImages([self.files[index] for index in indices], self.size, self.training)


def decoded(file: str | Path) -> Image.Image:
    """In RGB: grey three times, of 16 bits the upper eight, palettes looked up, opacity dropped.

    Raises:
        Exception: of many types, as broken bytes lead to, with what is wrong with the file.
    """
    with opened(file) as image:
        image.load()
        return rgb(image)


@contextmanager
def opened(file: str | Path) -> Iterator[Image.Image]:
    """The image with its header read; Pillow's limit on the pixels of an image is an error, not a warning."""
    with open_regular(file, MOST_BYTES) as stream:
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ValueError(f"it is no image that is one of {', '.join(FORMATS)}") from error
        pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS
        if most is not None and pixels > most:
            raise ValueError(f"it has {pixels} pixels; accepted are {most}, PIL.Image.MAX_IMAGE_PIXELS")
        yield image


def rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion would clip the levels.
        image = Image.fromarray((np.asarray(image) >> (depth(image) - 8)).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def depth(image: Image.Image) -> int:
    """Bits of grey. Pillow keeps 16 of PNG and PPM in modes of 16 or 32 bits, and 12 of TIFF in those of 16."""
    if image.format in ("PNG", "PPM") and image.mode != "F":
        return 16
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        return image.tag_v2[BITS_PER_SAMPLE][0]
    raise ValueError("its pixels are floating-point, signed or 32-bit numbers; accepted are whole ones of 8 to 16 bits")


def central_box(width: int, height: int, share: float) -> Box:
    """The square in the middle whose side is ``share`` of the shorter side."""
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, draw: random.Random) -> Box:
    """A box of a random share of the area and a random ratio; the central square where ten do not fit."""
    for _ in range(10):
        area = width * height * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(*map(math.log, RATIO)))
        across, down = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if across <= width and down <= height:
            left, top = draw.uniform(0, width - across), draw.uniform(0, height - down)
            return left, top, left + across, top + down
    return central_box(width, height, 1)
