"""Which side of the map an even-sized kernel's padding goes to.

A k×k kernel with even k has no centre, so k - 1 rows and columns of zeros cannot be split evenly. A direction names the
corner that gets the larger share: ``"BR"`` pads bottom and right, ``"TL"`` top and left, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

NAMES = ("BR", "TL", "BL", "TR")
"""The four directions; a direction's place here is its number in ``csrc/params.h``."""

SYMMETRIC = NAMES
"""The directions of the four channel groups of symmetric padding (C2sp / C4sp, arXiv 1903.08385)."""

Directions = str | Sequence[str]


def as_directions(directions: Directions) -> tuple[str, str, str, str]:
    """One direction per channel group, from one for all or a sequence of four."""
    groups = (directions,) * 4 if isinstance(directions, str) else directions
    if not isinstance(groups, Sequence) or len(groups) != 4 or any(group not in NAMES for group in groups):
        raise ValueError(f"directions is {directions!r}; accepted are one of {NAMES} or a sequence of four of them")
    return tuple(groups)


def numbers(directions: Directions) -> list[int]:
    """The directions as the dispatcher's operators take them."""
    return [NAMES.index(group) for group in as_directions(directions)]


def names(numbers: Sequence[int]) -> tuple[str, ...]:
    """The directions from what the dispatcher's operators take."""
    if len(numbers) != 4 or any(number not in range(4) for number in numbers):
        raise ValueError(f"directions is {list(numbers)}; accepted are four of 0 (BR), 1 (TL), 2 (BL) and 3 (TR)")
    return tuple(NAMES[number] for number in numbers)


def padding(kernel_size: int, direction: str) -> tuple[int, int, int, int]:
    """Rows and columns of zeros as (top, bottom, left, right).

    k = 2 is the authors'; k = 4 is derived (1 or 2 on each side, the larger towards the direction).
    """
    small, large = kernel_size // 2 - 1, kernel_size // 2
    top, bottom = (large, small) if direction[0] == "T" else (small, large)
    left, right = (large, small) if direction[1] == "L" else (small, large)
    return top, bottom, left, right


def group_sizes(channels: int) -> list[int]:
    """Channels of the four groups: the first ``channels % 4`` groups are one larger."""
    quotient, rest = channels // 4, channels % 4  # torch.compile has no divmod() of a symbolic size
    return [quotient + 1] * rest + [quotient] * (4 - rest)
