"""A small MobileNet whose depthwise layers are XSepConv and whose dense layers include C2sp."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from torch import nn

from ..nn import C2sp, InvertedResidual

CLASSES = 10
EXPANSION = 4
DIRECTIONS = ("BR", "TL", "BL", "TR")
"""Of the blocks, in turn: each pair pads opposite corners at one resolution, so that its shifts cancel."""


def normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.Hardswish()


def digit_network(width: int, kernel_sizes: Sequence[int]) -> nn.Sequential:
    """``(N, 1, 32, 32)`` to ``(N, 10)``: C2sp, blocks at 32×32 and 16×16 (each second one halves the map), C2sp, mean.

    Args:
        width: channels of the first block; each halving of the map doubles them.
        kernel_sizes: K of the blocks' XSepConv, taken in turn.
    """
    shapes = ((1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2))
    blocks = [
        InvertedResidual(
            width * in_factor,
            width * in_factor * EXPANSION,
            width * out_factor,
            kernel_size,
            stride,
            nn.Hardswish,
            depthwise="xsepconv",
            directions=directions,
        )
        for (in_factor, out_factor, stride), kernel_size, directions in zip(shapes, cycle(kernel_sizes), DIRECTIONS)
    ]
    channels = 4 * width
    return nn.Sequential(
        C2sp(1, width, bias=False),
        *normalised(width),
        *blocks,
        C2sp(channels, channels, bias=False),
        *normalised(channels),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, CLASSES),
    )
