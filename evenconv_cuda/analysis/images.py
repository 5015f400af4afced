"""What goes through the layers: handwritten digits, image files, or random maps, as ``(N, 1, size, size)``."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor


def digits(size: int) -> Tensor:
    """One of scikit-learn's handwritten digits for each class, ink 0 to 1, enlarged to half the map, in its centre."""
    from sklearn import datasets

    images = torch.as_tensor(datasets.load_digits().images[:10], dtype=torch.float32).unsqueeze(1) / 16
    inner = max(size // 2, 1)
    before = (size - inner) // 2
    after = size - inner - before
    enlarged = F.interpolate(images, size=(inner, inner), mode="bilinear")
    return F.pad(enlarged, (before, after, before, after))


def read_images(path: Path, size: int) -> Tensor:
    """An image file, or every one in a directory: grey values 0 to 1, the central square, resized."""
    from PIL import ImageOps

    from ..data.image_files import SUFFIXES, decoded

    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.name.lower().endswith(SUFFIXES))
        if not files:
            raise ValueError(f"{path} holds no image; accepted is a directory of files {', '.join(SUFFIXES)}")
    else:
        files = [path]
    images = []
    for file in files:
        try:
            grey = ImageOps.fit(ImageOps.exif_transpose(decoded(file)).convert("L"), (size, size))
        except Exception as error:  # Pillow's readers raise whatever broken bytes lead to.
            raise ValueError(f"{file} is not an image that is read: {error}") from error
        images.append(torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(1, size, size))
    return torch.stack(images) / 255


def random_maps(size: int, count: int = 64, seed: int = 0) -> Tensor:
    """Gaussian noise of mean 0 and variance 1."""
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
