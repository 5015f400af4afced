"""A look into every image file before training starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock

from tqdm import tqdm

from .image_files import decoded, opened

ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
CHUNK = 64
LARGE = 2**24
"""Pixels of an image that is decoded while no other is so large: many at once would fill the memory."""

ALONE = Lock()


def defects(files: Sequence[str], whole: bool) -> dict[str, str]:
    """What is wrong with which file, in their order.

    Without ``whole`` a file is decoded only if it does not end as its format ends; otherwise its header is read. Runs
    in threads, with a progress bar on a terminal.
    """
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    found = {}
    pool = ThreadPoolExecutor()
    try:
        with tqdm(total=len(files), desc="checking images", unit="image", disable=None) as bar:
            for chunk, reasons in zip(chunks, pool.map(lambda chunk: [defect(file, whole) for file in chunk], chunks)):
                found.update((file, reason) for file, reason in zip(chunk, reasons) if reason)
                bar.update(len(chunk))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def defect(file: str, whole: bool) -> str | None:
    try:
        with opened(file) as image:
            decode = whole or not ends_well(file, image.format)
            large = image.width * image.height > LARGE
        if decode:
            with ALONE if large else nullcontext():
                decoded(file)
    except Exception as error:  # Pillow's readers raise whatever broken bytes lead to.
        return str(error) or type(error).__name__
    return None


def ends_well(file: str, image_format: str) -> bool:
    """Whether the last bytes are those that end the format; a file that was cut off lacks them."""
    end = ENDS.get(image_format)
    if end is None:
        return False
    with open(file, "rb") as stream:
        stream.seek(-len(end), os.SEEK_END)
        return stream.read() == end
