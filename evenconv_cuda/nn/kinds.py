"""The square kernels that arXiv 1903.08385 compares, by the names it gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..directions import SYMMETRIC
from .arguments import check_choice
from .even import EvenConv2d

KINDS: dict[str, Callable[..., torch.nn.Module]] = {
    "c2": partial(EvenConv2d, kernel_size=2, directions="BR"),
    "c2sp": partial(EvenConv2d, kernel_size=2, directions=SYMMETRIC),
    "c3": partial(torch.nn.Conv2d, kernel_size=3, padding=1),
    "c4": partial(EvenConv2d, kernel_size=4, directions="BR"),
    "c4sp": partial(EvenConv2d, kernel_size=4, directions=SYMMETRIC),
    "c5": partial(torch.nn.Conv2d, kernel_size=5, padding=2),
}
"""Dense convolutions that keep H×W at stride 1: plain (C2 and C4 pad as TensorFlow's SAME does) and with symmetric
padding (sp)."""


def conv2d_of(kind: str, in_channels: int, out_channels: int, **options) -> torch.nn.Module:
    """The layer that ``kind`` names: ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``.

    Args:
        kind: ``"c2"``, ``"c2sp"``, ``"c3"``, ``"c4"``, ``"c4sp"`` or ``"c5"``.
        options: further arguments of :class:`torch.nn.Conv2d` (``stride``, ``bias``, ``device``, ``dtype``).
    """
    check_choice("kind", kind, KINDS)
    return KINDS[kind](in_channels, out_channels, **options)
