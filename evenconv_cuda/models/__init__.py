"""The papers' networks, each with a choice of convolution, ``conv``.

>>> model = create_model("resnet20", conv="c2sp")
>>> model = create_model("mobilenet_v3_small", num_classes=10, conv="xsepconv")

The residual and dense networks take the names of :data:`evenconv_cuda.nn.KINDS` (``"c3"``, their default, ``"c2"``,
``"c2sp"``, ``"c4"``, ``"c4sp"``, ``"c5"``), MobileNetV3 ``"depthwise"``, its default, ``"xsepconv"`` and
``"xsepconv_norm"``. Every network takes ``in_channels``, by default 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature

from torch import nn

from ..nn.arguments import check_choice
from .cifar_resnet import CifarResNet
from .densenet import CifarDenseNet
from .mobilenet_v3 import MobileNetV3Small
from .resnet50 import ResNet50, ResNet50Optim

__all__ = [
    "CifarDenseNet",
    "CifarResNet",
    "MobileNetV3Small",
    "ResNet50",
    "ResNet50Optim",
    "create_model",
    "list_models",
]

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": partial(CifarResNet, 20),
    "resnet32": partial(CifarResNet, 32),
    "resnet44": partial(CifarResNet, 44),
    "resnet56": partial(CifarResNet, 56),
    "resnet110": partial(CifarResNet, 110),
    "densenet_bc100": partial(CifarDenseNet, (16, 16, 16), 12),
    "wide_densenet": partial(CifarDenseNet, (9, 8, 8), 48),
    "resnet50": ResNet50,
    "resnet50_half": partial(ResNet50, width=128),
    "resnet50_optim": ResNet50Optim,
    "mobilenet_v3_small": MobileNetV3Small,
    "mobilenet_v3_small_cifar": partial(MobileNetV3Small, num_classes=10, early_strides=False),
}
"""Networks by name; what a name fixes is no option of it."""


def list_models() -> list[str]:
    """The names that :func:`create_model` accepts."""
    return list(_MODELS)


def create_model(name: str, num_classes: int | None = None, **options) -> nn.Module:
    """The network that ``name`` names, with weights as before training.

    Args:
        name: one of :func:`list_models`.
        num_classes: of the last layer; None for that of the data set the network was made for, 10 of CIFAR-10 or 1000
            of ImageNet.
        options: ``conv`` and further arguments of the network's class, as ``in_channels``.

    Raises:
        ValueError: for an unknown name or value.
        TypeError: for an unknown option.
    """
    check_choice("name", name, _MODELS)
    make = _MODELS[name]
    fixed = {"num_classes", *getattr(make, "keywords", {})}
    accepted = [option for option in signature(make).parameters if option not in fixed]
    for option, value in options.items():
        if option not in accepted:
            raise TypeError(f"{option}={value!r} is given; accepted by {name} are {', '.join(accepted)}")
    if num_classes is not None:
        options["num_classes"] = num_classes
    return make(**options)
