"""The operators as layers, built and used like :class:`torch.nn.Conv2d`.

Constructors take ``Conv2d``'s arguments in its order. What even and separated convolutions fix is accepted only at its
value: ``padding="same"`` (zeros that keep H×W at stride 1, as the directions place them; half an odd kernel's size says
the same), ``dilation=1``, ``padding_mode="zeros"``, and ``groups=1`` (dense) or ``groups=in_channels=out_channels``
(depthwise, the default there).

Even kernels pad by ``directions``, one for all channels or one for each of four groups of input channels, of
``group_sizes`` (None is the paper's split). Both are in the state_dict; to load those of another layer is an error.
``padding`` of a layer names them, so that ``type(layer)(in_channels, out_channels, kernel_size, stride, padding)`` pads
alike, and ``torch.nn.Conv2d``, which cannot, refuses. :func:`prune` takes channels away and leaves the others' groups.
"""

from .blocks import Conv2dNormActivation, InvertedResidual, SqueezeExcitation
from .doconv import DOConv2d, DOEvenConv2d
from .even import C2sp, C4sp, EvenConv2d, EvenDepthwiseConv2d, SymmetricPad2d
from .kinds import KINDS, conv2d_of
from .normalised import XSepConv2dNormActivation
from .pruning import prune
from .separable import SeparableDepthwiseConv2d, XSepConv2d

__all__ = [
    "KINDS",
    "C2sp",
    "C4sp",
    "Conv2dNormActivation",
    "DOConv2d",
    "DOEvenConv2d",
    "EvenConv2d",
    "EvenDepthwiseConv2d",
    "InvertedResidual",
    "SeparableDepthwiseConv2d",
    "SqueezeExcitation",
    "SymmetricPad2d",
    "XSepConv2d",
    "XSepConv2dNormActivation",
    "conv2d_of",
    "prune",
]
