"""The blocks of MobileNetV3 with a choice of the depthwise convolution, and the state_dict layout of torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from .. import checks
from ..directions import Directions
from ..functional import Stride
from .arguments import check_choice
from .normalised import XSepConv2dNormActivation
from .separable import XSepConv2d

DEPTHWISE = ("depthwise", "xsepconv", "xsepconv_norm")
"""What may stand at the depthwise place of an :class:`InvertedResidual`."""


class Conv2dNormActivation(nn.Sequential):
    """A convolution, a normalisation and an activation, in this order.

    Args:
        convolution: any layer that has ``out_channels``.
        norm_layer: makes a normalisation from the number of channels; None leaves it out.
        activation_layer: makes the activation; None leaves it out.
    """

    def __init__(
        self,
        convolution: nn.Module,
        norm_layer: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        activation_layer: Callable[[], nn.Module] | None = nn.ReLU,
    ):
        layers = [convolution]
        if norm_layer is not None:
            layers.append(norm_layer(convolution.out_channels))
        if activation_layer is not None:
            layers.append(activation_layer())
        super().__init__(*layers)


class SqueezeExcitation(nn.Module):
    """Channels weighed by what the whole map holds: ``x * hardsigmoid(fc2(relu(fc1(mean(x)))))``.

    ``(N, channels, H, W)`` to the same; ``fc1`` and ``fc2`` are 1×1 convolutions with bias to ``squeezed`` channels and
    back.

    Source: Howard et al., "Searching for MobileNetV3", arXiv 1905.02244, section 5.3.
    """

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise convolution, 1×1 projection; added to the input where the shape is kept.

    ``(N, in_channels, H, W)`` to ``(N, out_channels, ceil(H / stride), ceil(W / stride))``: 1×1 to ``expanded``
    (left out where that is ``in_channels``), norm, activation, depthwise, norm, activation, squeeze-and-excitation if
    wanted, 1×1 to ``out_channels``, norm. No biases but squeeze-and-excitation's.

    Args:
        expanded: channels of the depthwise convolution.
        kernel_size: its K, odd.
        stride: its stride, 1 or 2.
        activation_layer: makes the activation.
        squeeze_excitation: whether :class:`SqueezeExcitation` follows it, to a quarter of ``expanded``.
        depthwise: ``"depthwise"``, K×K; ``"xsepconv"``, :class:`XSepConv2d`; or ``"xsepconv_norm"``,
            :class:`XSepConv2dNormActivation` with this block's norm and activation.
        directions: where the 2×2 of the latter two pads.
        norm_layer: makes a normalisation from the number of channels.

    Source: arXiv 1801.04381, section 3.3; arXiv 1905.02244, figure 4; XSepConv in it arXiv 2002.12046, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel_size: int,
        stride: Stride = 1,
        activation_layer: Callable[[], nn.Module] = nn.ReLU,
        squeeze_excitation: bool = False,
        depthwise: str = "depthwise",
        directions: Directions = "BR",
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        check_choice("depthwise", depthwise, DEPTHWISE)
        kernel_size, stride = checks.odd_kernel(kernel_size), checks.stride_pair(stride)
        self.residual = in_channels == out_channels and stride == (1, 1)
        conv_norm = partial(Conv2dNormActivation, norm_layer=norm_layer, activation_layer=activation_layer)
        layers = []
        if expanded != in_channels:
            layers.append(conv_norm(nn.Conv2d(in_channels, expanded, 1, bias=False)))
        if depthwise == "depthwise":
            convolution = nn.Conv2d(
                expanded, expanded, kernel_size, stride, padding=kernel_size // 2, groups=expanded, bias=False
            )
            layers.append(conv_norm(convolution))
        elif depthwise == "xsepconv":
            convolution = XSepConv2d(expanded, expanded, kernel_size, stride, bias=False, directions=directions)
            layers.append(conv_norm(convolution))
        else:
            convolution = XSepConv2dNormActivation(
                expanded,
                expanded,
                kernel_size,
                stride,
                norm_layer=norm_layer,
                activation_layer=activation_layer,
                directions=directions,
            )
            layers.append(conv_norm(convolution, norm_layer=None))
        if squeeze_excitation:
            layers.append(SqueezeExcitation(expanded, make_divisible(expanded // 4, 8)))
        layers.append(conv_norm(nn.Conv2d(expanded, out_channels, 1, bias=False), activation_layer=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


def make_divisible(channels: int, divisor: int) -> int:
    """The nearest multiple of ``divisor``, at least one, and not more than a tenth below ``channels``."""
    nearest = max(divisor, (channels + divisor // 2) // divisor * divisor)
    return nearest + divisor if 10 * nearest < 9 * channels else nearest
