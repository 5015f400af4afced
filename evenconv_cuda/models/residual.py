"""The pre-activation residual of arXiv 1903.08385's networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..nn import conv2d_of

Activation = Callable[[], nn.Module]


class Residual(nn.Module):
    """Normalisation and activation, then a branch; the shortcut is added to what the branch gives.

    ``h = act(norm(x))``, ``y = x + branch(h)`` where the shape is kept; otherwise the shortcut starts after the
    activation: ``y = shortcut(h) + branch(h)`` with a 2×2 average pool where the block is strided and a 1×1 convolution
    where the width changes. Odd maps lose their last row and column in the pool (derived).

    Source: the authors' ResNet-50 (arXiv 1903.08385).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: Activation, branch: nn.Module):
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(in_channels), activation())
        shortcut = pool_of(stride)
        if out_channels != in_channels:
            shortcut.append(nn.Conv2d(in_channels, out_channels, 1, bias=False))
        self.shortcut = nn.Sequential(*shortcut) if shortcut else None
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(x)
        return self.branch(h) + (x if self.shortcut is None else self.shortcut(h))


def basic(in_channels: int, out_channels: int, stride: int, conv: str, activation: Activation) -> Residual:
    """Two k×k convolutions of the kind that ``conv`` names; a stride is a 2×2 average pool before the first."""
    branch = nn.Sequential(
        *pool_of(stride),
        conv2d_of(conv, in_channels, out_channels, bias=False),
        nn.BatchNorm2d(out_channels),
        activation(),
        conv2d_of(conv, out_channels, out_channels, bias=False),
    )
    return Residual(in_channels, out_channels, stride, activation, branch)


def bottleneck(in_channels: int, out_channels: int, stride: int, conv: str, activation: Activation) -> Residual:
    """1×1 to a quarter of ``out_channels``, k×k, 1×1; a stride is a 2×2 average pool before the k×k."""
    inner = out_channels // 4
    branch = nn.Sequential(
        nn.Conv2d(in_channels, inner, 1, bias=False),
        nn.BatchNorm2d(inner),
        activation(),
        *pool_of(stride),
        conv2d_of(conv, inner, inner, bias=False),
        nn.BatchNorm2d(inner),
        activation(),
        nn.Conv2d(inner, out_channels, 1, bias=False),
    )
    return Residual(in_channels, out_channels, stride, activation, branch)


def pool_of(stride: int) -> list[nn.Module]:
    return [nn.AvgPool2d(2)] if stride == 2 else []
