"""DenseNet-BC for CIFAR with even-sized kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..nn import KINDS, conv2d_of
from ..nn.arguments import check_choice
from .network import Network, initialise


class DenseLayer(nn.Sequential):
    """Normalisation, ReLU, 1×1 to 4 ``growth``, normalisation, ReLU, k×k to ``growth``; put beside the input.

    ``(N, C, H, W)`` to ``(N, C + growth, H, W)``.
    """

    def __init__(self, channels: int, growth: int, conv: str):
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            conv2d_of(conv, 4 * growth, growth, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], 1)


class Transition(nn.Sequential):
    """Normalisation, ReLU, 1×1 to half the channels, 2×2 average pool."""

    def __init__(self, channels: int):
        super().__init__(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels // 2, 1, bias=False),
            nn.AvgPool2d(2),
        )


class CifarDenseNet(Network):
    """DenseNet-BC: ``(N, in_channels, H, W)`` to ``(N, num_classes)``.

    A 3×3 stem to 2 ``growth`` channels, blocks of dense layers with a transition between them, normalisation, ReLU,
    mean, fully connected. The stem stays 3×3 for every ``conv``, as in :class:`CifarResNet`.

    Args:
        blocks: dense layers of each block: (16, 16, 16) is depth 100, (9, 8, 8) the authors' Wide-DenseNet.
        growth: channels that a layer adds: 12, and 48 for the Wide-DenseNet.
        conv: the layers' k×k convolutions, a name of :data:`evenconv_cuda.nn.KINDS`.

    Source: Huang et al., arXiv 1608.06993, as Wu et al., arXiv 1903.08385, have it in their code.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (16, 16, 16),
        growth: int = 12,
        num_classes: int = 10,
        conv: str = "c3",
        in_channels: int = 3,
    ):
        check_choice("conv", conv, KINDS)
        channels = 2 * growth
        layers: dict[str, nn.Module] = {"stem": nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)}
        for number, length in enumerate(blocks):
            if number:
                layers[f"transition{number}"] = Transition(channels)
                channels //= 2
            dense = [DenseLayer(channels + growth * index, growth, conv) for index in range(length)]
            layers[f"block{number + 1}"] = nn.Sequential(*dense)
            channels += growth * length
        layers |= {"norm": nn.BatchNorm2d(channels), "act": nn.ReLU()}
        super().__init__(nn.Sequential(OrderedDict(layers)), nn.Linear(channels, num_classes))
        self.apply(initialise)
