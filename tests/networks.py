"""The networks that the tests run, small inputs for them, and statistics under which their features do not fade."""

import torch
from torch import nn as tnn

from evenconv_cuda.models import create_model

DENSE = ("c2", "c2sp", "c3", "c4", "c4sp")
DEPTHWISE = ("depthwise", "xsepconv", "xsepconv_norm")
NAMES = [
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("densenet_bc100", "wide_densenet"),
    *("resnet50", "resnet50_half", "resnet50_optim"),
    *("mobilenet_v3_small", "mobilenet_v3_small_cifar"),
]
SMALL = ("resnet20", "wide_densenet", "resnet50_half", "resnet50_optim", "mobilenet_v3_small")


def convs_of(name):
    return DEPTHWISE if name.startswith("mobilenet") else DENSE


def paper_conv(name):
    """The papers' own convolution."""
    return "xsepconv_norm" if name.startswith("mobilenet") else "c2sp"


def images(name, count=2):
    """As small as leaves a pixel at the network's end."""
    for_imagenet = name.startswith("resnet50") or name == "mobilenet_v3_small"
    return torch.randn(count, 3, *((32, 32) if for_imagenet else (8, 8)))


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def with_statistics(model, x):
    """In eval mode, normalising by the statistics of ``x``: by those of the start features would fade to nothing."""
    for layer in model.modules():
        if isinstance(layer, tnn.BatchNorm2d):
            layer.momentum = 1
    with torch.no_grad():
        model.train()(x)
        assert model.eval()(x).std() > 1e-3
    return model
