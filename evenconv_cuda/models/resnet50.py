"""The pre-activation ResNet-50 of arXiv 1903.08385 and its variants for ImageNet."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import KINDS
from ..nn.arguments import check_choice
from .network import Network, initialise
from .residual import bottleneck


class SamePad2d(nn.Module):
    """What TensorFlow's SAME pads before a K×K kernel of stride 2: the larger share at the bottom and right.

    ``(N, C, H, W)`` to as many rows and columns as make the result ceil(H / 2) × ceil(W / 2).
    """

    def __init__(self, kernel_size: int, value: float = 0.0):
        super().__init__()
        self.kernel_size, self.value = kernel_size, value

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows, columns = self.kernel_size - 2 + height % 2, self.kernel_size - 2 + width % 2
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=self.value)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, value={self.value}"


class ResNet50(Network):
    """``(N, in_channels, H, W)`` to ``(N, num_classes)``, ReLU6 throughout, input 224×224 in the paper.

    7×7 convolution of stride 2 to 64 channels, 3×3 maximum of stride 2, four stages of 3, 4, 6 and 3 bottleneck blocks,
    the later three at half the resolution of the one before, normalisation, ReLU6, mean, fully connected.

    Args:
        conv: the blocks' k×k convolutions, a name of :data:`evenconv_cuda.nn.KINDS`.
        width: channels of the first stage, doubled by each later one: 256, or 128 for the authors' 0.5x.

    The poster's parameters, 25.5 M at 1x, are these without normalisation's scales and shifts (derived).

    Source: Wu et al., arXiv 1903.08385 (the authors' code).
    """

    def __init__(self, num_classes: int = 1000, conv: str = "c3", width: int = 256, in_channels: int = 3):
        check_choice("conv", conv, KINDS)
        stages, channels = stages_of((3, 4, 6, 3), (1, 2, 2, 2), 64, width, conv)
        features = OrderedDict(
            pad=SamePad2d(7),
            stem=nn.Conv2d(in_channels, 64, 7, stride=2, bias=False),
            pool_pad=SamePad2d(3, float("-inf")),
            pool=nn.MaxPool2d(3, stride=2),
            **stages,
            norm=nn.BatchNorm2d(channels),
            act=nn.ReLU6(),
        )
        super().__init__(nn.Sequential(features), nn.Linear(channels, num_classes))
        self.apply(initialise)


class ResNet50Optim(Network):
    """The authors' "optim" variant of :class:`ResNet50`, slimmer and with its blocks moved to lower resolutions.

    3×3 convolution of stride 2 to 48 channels, five stages of 1, 2, 4, 8 and 4 bottleneck blocks with 48 to 768
    channels, the first at the stem's resolution, normalisation, ReLU6, 1×1 to 1536, normalisation, ReLU6, mean,
    dropout, fully connected.

    Args:
        conv: the blocks' k×k convolutions, a name of :data:`evenconv_cuda.nn.KINDS`.
        dropout: the share of features that training drops.

    Source: Wu et al., arXiv 1903.08385 (the authors' code).
    """

    def __init__(self, num_classes: int = 1000, conv: str = "c3", dropout: float = 0.2, in_channels: int = 3):
        check_choice("conv", conv, KINDS)
        stages, channels = stages_of((1, 2, 4, 8, 4), (1, 2, 2, 2, 2), 48, 48, conv)
        features = OrderedDict(
            pad=SamePad2d(3),
            stem=nn.Conv2d(in_channels, 48, 3, stride=2, bias=False),
            **stages,
            last=nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU6(), nn.Conv2d(channels, 1536, 1, bias=False)),
            norm=nn.BatchNorm2d(1536),
            act=nn.ReLU6(),
        )
        super().__init__(nn.Sequential(features), nn.Sequential(nn.Dropout(dropout), nn.Linear(1536, num_classes)))
        self.apply(initialise)


def stages_of(repeats, strides, channels: int, width: int, conv: str) -> tuple[dict[str, nn.Module], int]:
    """Bottleneck blocks by stage, each twice as wide as the one before, and the channels that they end with."""
    stages = {}
    for stage, (repeat, stride) in enumerate(zip(repeats, strides)):
        blocks = []
        for index in range(repeat):
            blocks.append(bottleneck(channels, width * 2**stage, 1 if index else stride, conv, nn.ReLU6))
            channels = width * 2**stage
        stages[f"stage{stage + 1}"] = nn.Sequential(*blocks)
    return stages, channels
