"""MobileNetV3-Small with XSepConv."""

from __future__ import annotations

from functools import partial

from torch import nn

from ..nn import Conv2dNormActivation, InvertedResidual
from ..nn.arguments import check_choice
from ..nn.blocks import DEPTHWISE
from ..plan import padding_plan
from .network import Network

RELU, HARDSWISH = nn.ReLU, nn.Hardswish

BLOCKS = (
    (3, 16, 16, True, RELU, 2),
    (3, 72, 24, False, RELU, 2),
    (3, 88, 24, False, RELU, 1),
    (5, 96, 40, True, HARDSWISH, 2),
    (5, 240, 40, True, HARDSWISH, 1),
    (5, 240, 40, True, HARDSWISH, 1),
    (5, 120, 48, True, HARDSWISH, 1),
    (5, 144, 48, True, HARDSWISH, 1),
    (5, 288, 96, True, HARDSWISH, 2),
    (5, 576, 96, True, HARDSWISH, 1),
    (5, 576, 96, True, HARDSWISH, 1),
)
"""K, expanded channels, output channels, squeeze-and-excitation, activation and stride of each block (arXiv 1905.02244,
table 2)."""

STEM, LAST, CLASSIFIER = 16, 576, 1024


class MobileNetV3Small(Network):
    """``(N, in_channels, H, W)`` to ``(N, num_classes)``, with the state_dict layout of torchvision's.

    3×3 convolution to 16 channels, eleven :class:`~evenconv_cuda.nn.InvertedResidual`, 1×1 convolution to 576, mean,
    fully connected to 1024, Hardswish, dropout, fully connected. Hardswish after the first and last convolution.

    Args:
        conv: what stands where the 5×5 depthwise convolutions of stride 1 stood, a name of ``InvertedResidual``'s:
            ``"depthwise"`` (nothing changes), ``"xsepconv"`` or ``"xsepconv_norm"`` (with normalisation and activation
            after each pass). Directions follow :func:`~evenconv_cuda.padding_plan` over these layers.
        dropout: the share of features that training drops.
        early_strides: False leaves out the strides of the first convolution and the first block, for maps of 32×32
            (derived).

    Source: Howard et al., arXiv 1905.02244, table 2; with XSepConv Chen et al., arXiv 2002.12046.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        conv: str = "depthwise",
        dropout: float = 0.2,
        early_strides: bool = True,
        in_channels: int = 3,
    ):
        check_choice("conv", conv, DEPTHWISE)
        norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        stem = nn.Conv2d(in_channels, STEM, 3, 2 if early_strides else 1, padding=1, bias=False)
        layers: list[nn.Module] = [Conv2dNormActivation(stem, norm, HARDSWISH)]
        replaced = [block[0] == 5 and block[-1] == 1 for block in BLOCKS]
        plan = iter(padding_plan(sum(replaced)))
        channels = STEM
        for (kernel_size, expanded, out_channels, squeeze, activation, stride), replace in zip(BLOCKS, replaced):
            first = len(layers) == 1
            block = InvertedResidual(
                channels,
                expanded,
                out_channels,
                kernel_size,
                1 if first and not early_strides else stride,
                activation,
                squeeze,
                depthwise=conv if replace else "depthwise",
                directions=next(plan) if replace else "BR",
                norm_layer=norm,
            )
            layers.append(block)
            channels = out_channels
        layers.append(Conv2dNormActivation(nn.Conv2d(channels, LAST, 1, bias=False), norm, HARDSWISH))
        classifier = nn.Sequential(
            nn.Linear(LAST, CLASSIFIER), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(CLASSIFIER, num_classes)
        )
        super().__init__(nn.Sequential(*layers), classifier)
        self.apply(_initialise)


def _initialise(layer: nn.Module) -> None:
    """torchvision's. XSepConv keeps ``Conv2d``'s of each pass: this one goes by the outputs in all channels, so that
    three depthwise passes in a row would end fainter than what normalisation adds to the variance."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0, 0.01)
        nn.init.zeros_(layer.bias)
