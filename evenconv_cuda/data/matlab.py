"""Arrays of numbers from MATLAB files of version 5 to 7, whose sizes are known before they are decompressed.

The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf. After 128 bytes of header come elements,
a matrix each, plain or compressed; a matrix is elements too: flags, sizes, name, numbers.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection

import numpy as np

MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS = range(6, 16)
"""Classes of matrices; the others are cells, structures, text and sparse ones."""

COMPLEX = 0x0800
MOST_BYTES = 2**28
"""Of a matrix; SVHN's training images are 225 MB."""

MOST_ELEMENTS = 2**10
"""Of a file; SVHN's have two."""

HEAD = 2**10
"""Bytes of a matrix that have its flags, sizes and name."""


def read_arrays(content: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """The real arrays of numbers with these names, in the types in which they are stored.

    Raises:
        ValueError, zlib.error: the file is broken or has too many elements, an array is too large or there twice.
    """
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(content[124:128])
    if order is None:
        raise ValueError("it does not begin as a file of version 5 to 7")
    arrays = {}
    position = 128
    for _ in range(MOST_ELEMENTS):
        if position >= len(content):
            return arrays
        kind, body, position = element(memoryview(content), position, order, aligned=1)
        if kind == COMPRESSED:
            kind, size, head = unpacked(body, HEAD, order)
        else:
            size, head = len(body), body
        if kind != MATRIX:
            continue
        flags, shape, name, start = described(head, order)
        if name not in names or flags & 0xFF not in NUMBERS or flags & COMPLEX:
            continue
        if name in arrays:
            raise ValueError(f"it has {name} twice")
        if size > MOST_BYTES:
            raise ValueError(f"its {name} has {size} bytes; accepted are {MOST_BYTES}")
        matrix = body if head is body else unpacked(body, 8 + size, order)[2]
        arrays[name] = array(matrix, start, shape, order)
    raise ValueError(f"it has more than {MOST_ELEMENTS} elements")


def element(content: memoryview, start: int, order: str, aligned: int = 8) -> tuple[int, memoryview, int]:
    """Type, content and end of the element at ``start``; up to four bytes can be packed into its tag."""
    kind, size = words(content[start : start + 8], order)
    if kind >> 16:
        kind, size, begin, end = kind & 0xFFFF, kind >> 16, start + 4, start + 8
    else:
        begin = start + 8
        end = begin + -(-size // aligned) * aligned
    if begin + size > len(content) or begin + size > end:
        raise ValueError(f"an element at byte {start} of {len(content)} has {size} bytes")
    return kind, content[begin : begin + size], end


def words(content: memoryview, order: str) -> list[int]:
    if len(content) < 8:
        raise ValueError("it is cut off")
    return np.frombuffer(content[:8], f"{order}u4").tolist()


def unpacked(packed: memoryview, most: int, order: str) -> tuple[int, int, memoryview]:
    """Type and size of the element that is compressed, and its content as far as ``most`` bytes go."""
    content = memoryview(zlib.decompressobj().decompress(packed, most))
    return *words(content, order), content[8:]


def described(matrix: memoryview, order: str) -> tuple[int, list[int], str, int]:
    """Flags, sizes, name and where the numbers begin."""
    _, flags, position = element(matrix, 0, order)
    _, shape, position = element(matrix, position, order)
    _, name, position = element(matrix, position, order)
    return words(flags, order)[0], np.frombuffer(shape, f"{order}i4").tolist(), bytes(name).decode("latin1"), position


def array(matrix: memoryview, start: int, shape: list[int], order: str) -> np.ndarray:
    kind, numbers, _ = element(matrix, start, order)
    if kind not in STORED:
        raise ValueError(f"its numbers are of the type {kind}; accepted are {', '.join(map(str, STORED))}")
    values = np.frombuffer(numbers, order + STORED[kind])
    if min(shape, default=0) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"it has {len(values)} numbers for the shape {tuple(shape)}")
    return values.reshape(shape, order="F")
