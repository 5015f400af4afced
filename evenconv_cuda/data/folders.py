"""Folders of image files: which file has which label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .image_files import SUFFIXES, LabelledFiles
from .regular import read_bytes

IMAGE_FOLDER = "DIR/train/CLASS/* and DIR/val/CLASS/* or DIR/test/CLASS/*"
TINY_FOLDER = "tiny-imagenet-200"
MOST_BYTES = 2**24
"""Of a file of text; words.txt of ImageNet has 2.7 MB."""


def read_image_folder(
    root: Path, classes: Sequence[str] | None = None
) -> tuple[list[str], LabelledFiles, LabelledFiles]:
    """Class names, training and test files; the names of the folders in ``train``, sorted, are the classes.

    Where ``classes`` are given, there may be no ``train``, and no training files.

    An image is what lies in a class folder, or in folders within it, and has the suffix of one; other files and those
    with a leading dot are left alone.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: a class folder has no image, or ``train`` does not have a class of the test images.
    """
    train = root / "train"
    test = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    trains = train.is_dir() or classes is None
    if test is None or (trains and not train.is_dir()):
        missing = "folder val or test" if train.is_dir() or not trains else "folder train"
        raise FileNotFoundError(f"{root} has no {missing}; accepted is {IMAGE_FOLDER}")
    trained, tested = class_folders(train) if trains else [], class_folders(test)
    names = list(map(printable, trained)) if trains else list(classes)
    label = {name: n for n, name in enumerate(names)}
    for name in tested:
        if printable(name) not in label:
            known = f"that {train} does not have" if trains else f"that is none of {', '.join(names)}"
            raise ValueError(f"{test / name} is a class {known}")
    return names, labelled(train, trained, label), labelled(test, tested, label)


def printable(name: str) -> str:
    """A file's name in UTF-8, bytes that are none written as \\xff: what a terminal, a checkpoint and JSON accept."""
    return os.fsencode(name).decode(errors="backslashreplace")


def class_folders(split: Path) -> list[str]:
    names = [name for name in listing(split) if (split / name).is_dir()]
    if not names:
        raise ValueError(f"{split} has no class folders; accepted is {IMAGE_FOLDER}")
    return names


def labelled(split: Path, names: list[str], label: dict[str, int], within: str = "") -> LabelledFiles:
    folders = {name: split / name / within for name in names}
    return [(str(folders[name] / file), label[printable(name)]) for name in names for file in images_in(folders[name])]


def read_tiny_imagenet(
    root: Path, classes: Sequence[str] | None = None
) -> tuple[list[str], LabelledFiles, LabelledFiles]:
    """Class names (of words.txt), training and validation files; labels are the lines of wnids.txt.

    Where ``classes`` are given, there may be no ``train``, and no training files.

    Raises:
        FileNotFoundError: a file or folder is missing, or an image that is annotated.
        ValueError: a class folder is empty; a class or image is unknown or named twice.
    """
    if (root / TINY_FOLDER).is_dir():
        root = root / TINY_FOLDER
    wnids = [line.strip() for line in lines(root / "wnids.txt") if line.strip()]
    if not wnids or len(set(wnids)) < len(wnids):
        raise ValueError(f"{root / 'wnids.txt'} names no class or one twice; accepted is one class in a line")
    label = {wnid: n for n, wnid in enumerate(wnids)}
    trains = (root / "train").is_dir() or classes is None
    for folder in listing(root / "train") if trains else ():
        if folder not in label:
            raise ValueError(f"{root / 'train' / folder} is no class of wnids.txt")
    words = dict(line.split("\t", 1) for line in lines(root / "words.txt") if "\t" in line)
    for wnid in wnids:
        if wnid not in words:
            raise ValueError(f"{root / 'words.txt'} does not have the class {wnid} of wnids.txt")
    train = labelled(root / "train", wnids, label, within="images") if trains else []
    return [words[wnid] for wnid in wnids], train, annotated(root / "val", label)


def annotated(split: Path, label: dict[str, int]) -> LabelledFiles:
    """The images of ``images/`` with the classes that val_annotations.txt gives them, in its order."""
    annotations = split / "val_annotations.txt"
    found = set(images_in(split / "images"))
    files = []
    for number, line in enumerate(lines(annotations), 1):
        name, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in label:
            raise ValueError(f"{annotations}, line {number}: {wnid!r} is no class of wnids.txt")
        if name not in found:
            raise FileNotFoundError(f"{annotations}, line {number}: images/{name} is missing or named twice")
        found.remove(name)
        files.append((str(split / "images" / name), label[wnid]))
    if found:
        raise ValueError(f"{annotations} does not have {len(found)} files of {split / 'images'}, such as {min(found)}")
    return files


def lines(file: Path) -> list[str]:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; tinyimagenet takes the folder {TINY_FOLDER} of its archive")
    return read_bytes(file, MOST_BYTES).decode(errors="replace").splitlines()


def images_in(folder: Path) -> list[str]:
    """Paths within the folder, and the folders in it, of what has an image's suffix; no folder is entered twice."""
    found, entered, pending = [], set(), [""]
    while pending:
        within = pending.pop()
        names = listing(folder / within)
        status = os.stat(folder / within)
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        for path in (os.path.join(within, name) for name in names):
            if os.path.isdir(folder / path):
                pending.append(path)
            elif path.lower().endswith(SUFFIXES):
                found.append(path)
    if not found:
        raise ValueError(f"{folder} has no image; accepted is a folder with files {', '.join(SUFFIXES)}")
    return sorted(found)


def listing(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} is missing")
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))
