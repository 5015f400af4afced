"""Residual networks for CIFAR with even-sized kernels."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ..nn import KINDS
from ..nn.arguments import check_choice
from .network import Network, initialise
from .residual import basic


class CifarResNet(Network):
    """Pre-activation ResNet of 6n + 2 layers: ``(N, in_channels, H, W)`` to ``(N, num_classes)``.

    A 3×3 stem to ``width``, three stages of n basic blocks with ``width``, 2 ``width`` and 4 ``width`` channels, the
    later two at half the resolution of the one before, normalisation, ReLU, mean, fully connected. The stem stays 3×3
    for every ``conv`` (derived: an image's three channels do not split into symmetric padding's four groups).

    Args:
        depth: 6n + 2: 20, 32, 44, 56, 110.
        conv: the blocks' convolutions, a name of :data:`evenconv_cuda.nn.KINDS`.
        width: channels of the first stage.

    Source: Wu et al., arXiv 1903.08385: blocks of their code for CIFAR, pools and shortcuts of that for ResNet-50.
    """

    def __init__(self, depth: int, num_classes: int = 10, conv: str = "c3", width: int = 16, in_channels: int = 3):
        check_choice("conv", conv, KINDS)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth is {depth}; accepted are 6n + 2 with n of at least 1, as 20 or 56")
        channels = width
        layers: dict[str, nn.Module] = {"stem": nn.Conv2d(in_channels, width, 3, padding=1, bias=False)}
        for stage in range(3):
            blocks = []
            for index in range(depth // 6):
                stride, out_channels = (2 if stage and not index else 1), width * 2**stage
                blocks.append(basic(channels, out_channels, stride, conv, nn.ReLU))
                channels = out_channels
            layers[f"stage{stage + 1}"] = nn.Sequential(*blocks)
        layers |= {"norm": nn.BatchNorm2d(channels), "act": nn.ReLU()}
        super().__init__(nn.Sequential(OrderedDict(layers)), nn.Linear(channels, num_classes))
        self.apply(initialise)
