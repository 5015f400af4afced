"""A small MobileNet whose depthwise layers are XSepConv and whose dense layers include C2sp."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from torch import Tensor, nn

from ..nn import C2sp, XSepConv2d

CLASSES = 10
EXPANSION = 4
DIRECTIONS = ("BR", "TL", "BL", "TR")
"""Of the blocks, in turn: each pair pads opposite corners at one resolution, so that its shifts cancel."""


class InvertedResidual(nn.Module):
    """1×1 expansion, XSepConv, 1×1 projection; added to the input where the shape is kept (arXiv 1801.04381)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, directions: str):
        super().__init__()
        hidden = EXPANSION * in_channels
        self.residual = in_channels == out_channels and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            *normalised(hidden),
            XSepConv2d(hidden, hidden, kernel_size, stride, bias=False, directions=directions),
            *normalised(hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


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
        InvertedResidual(width * in_factor, width * out_factor, kernel_size, stride, directions)
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
