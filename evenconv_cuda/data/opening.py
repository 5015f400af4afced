"""A data set by its spec: ``digits`` or ``kind:folder``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from .image_data import ImageData, MemoryImages, mean_and_std

KINDS = ("digits", "cifar10", "cifar100", "svhn", "tinyimagenet", "imagefolder")
ACCEPTED = ", ".join(kind if kind == "digits" else f"{kind}:DIR" for kind in KINDS)
MEMORY_SIZE = 32
FILE_SIZES = {"tinyimagenet": 64, "imagefolder": 224}
MEASURED = 256
"""Files whose pixels mean and std are taken from."""

LISTED = 5
"""Bad files that an error names."""

NOT_MIRRORED = ("digits", "svhn")


def open_data(
    spec: str,
    *,
    image_size: int | None = None,
    skip_bad_images: bool = False,
    subset: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> ImageData:
    """Open a data set and check it.

    Args:
        spec: ``digits`` (scikit-learn's, enlarged to 32×32), ``cifar10:DIR``, ``cifar100:DIR`` (python archives),
            ``svhn:DIR`` (.mat files), ``tinyimagenet:DIR``, ``imagefolder:DIR``; the last two stay files.
        image_size: height and width of files' images, by default 64 for tinyimagenet and 224 for imagefolder.
        skip_bad_images: leave out files that do not decode and list them in ``left_out``; decodes every file once.
        subset: take that many training images, as equally many of each class as there are, chosen by ``seed``.
        seed: of the subset and of the split of the digits.
        classes: those of a network that is evaluated, in the order of its outputs: where an image folder or
            Tiny-ImageNet has no ``train``, its training images are none and ``mean`` and ``std`` the test images'.

    Raises:
        FileNotFoundError: a folder or a file is missing.
        ValueError: an argument is out of range, or the content of a file is wrong.
    """
    kind, colon, folder = spec.partition(":")
    if kind not in KINDS or (kind == "digits") != (not colon) or (colon and not folder):
        raise ValueError(f"data is {spec!r}; accepted is one of {ACCEPTED}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; accepted is a whole number from 0 to 2**32 - 1")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; {kind} takes the folder of its archive")
    if kind in FILE_SIZES:
        return from_files(kind, root, image_size, skip_bad_images, subset, seed, classes)
    return in_memory(kind, root, image_size, subset, seed)


def in_memory(kind: str, root: Path, image_size: int | None, subset: int | None, seed: int) -> ImageData:
    if image_size not in (None, MEMORY_SIZE):
        raise ValueError(f"image_size is {image_size}; accepted for {kind} is {MEMORY_SIZE}")
    classes, train, test = read_arrays(kind, root, seed)
    if subset is not None:
        train = train.select(balanced(train.labels.tolist(), subset, seed))
    mean, std = mean_and_std(train.images)
    channels = train.images.shape[1]
    return ImageData(kind, classes, channels, MEMORY_SIZE, train, test, mean, std, flip=kind not in NOT_MIRRORED)


# Imported where they are needed: each reader needs another package.
def read_arrays(kind: str, root: Path, seed: int) -> tuple[list[str], MemoryImages, MemoryImages]:
    if kind == "digits":
        from . import digits

        return digits.read(seed)
    if kind == "svhn":
        from . import svhn

        return svhn.read(root)
    from . import cifar

    return cifar.read(kind, root)


def from_files(
    kind: str,
    root: Path,
    image_size: int | None,
    skip_bad_images: bool,
    subset: int | None,
    seed: int,
    classes: Sequence[str] | None,
) -> ImageData:
    from .checking import defects
    from .folders import printable, read_image_folder, read_tiny_imagenet
    from .image_files import LARGEST_SMALL, FileImages

    size = FILE_SIZES[kind] if image_size is None else image_size
    if size < 1:
        raise ValueError(f"image_size is {size}; accepted is a whole number from 1")
    classes, train, test = (read_tiny_imagenet if kind == "tinyimagenet" else read_image_folder)(root, classes)
    trains = bool(train)
    bad = defects([file for file, _ in train + test], whole=skip_bad_images)
    if bad and not skip_bad_images:
        listed = "; ".join(f"{printable(file)}: {reason}" for file, reason in list(bad.items())[:LISTED])
        raise ValueError(f"{len(bad)} of {len(train + test)} files are bad, skip_bad_images leaves them out: {listed}")
    train, test = ([entry for entry in part if entry[0] not in bad] for part in (train, test))
    trained = {label for _, label in train}
    for label, name in enumerate(classes):
        if trains and label not in trained:
            raise ValueError(f"{root}: no training image of class {name} is left, all of its files are bad")
    if not test:
        raise ValueError(f"{root}: no test image is left, all of them are bad")
    if subset is not None:
        train = [train[index] for index in balanced([label for _, label in train], subset, seed)]

    measured = train or test
    count = min(MEASURED, len(measured))
    evenly_spaced = [n * len(measured) // count for n in range(count)]
    mean, std = mean_and_std(FileImages(measured, size, training=False)[evenly_spaced][0])
    return ImageData(
        kind,
        classes,
        3,
        size,
        FileImages(train, size, training=True),
        FileImages(test, size, training=False),
        mean,
        std,
        pad=4 if size <= LARGEST_SMALL else 0,
        left_out=[(printable(file), reason) for file, reason in bad.items()],
    )


def balanced(labels: Sequence[int], count: int, seed: int) -> list[int]:
    """``count`` indices in rising order, drawn class by class in turn so that classes differ by one at most."""
    if not 1 <= count <= len(labels):
        raise ValueError(f"subset is {count}; accepted is 1 to {len(labels)}, the number of training images")
    shuffled = list(range(len(labels)))
    random.Random(seed).shuffle(shuffled)
    taken: dict[int, int] = {}
    turns = []
    for index in shuffled:
        turn = taken[labels[index]] = taken.get(labels[index], 0) + 1
        turns.append((turn, index))
    # A stable sort by turn alone keeps the random order of classes within a turn.
    turns.sort(key=lambda pair: pair[0])
    return sorted(index for _, index in turns[:count])
