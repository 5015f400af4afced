"""What all networks have in common: how they end, and how the weights of most start."""

from __future__ import annotations

from torch import Tensor, nn


class Network(nn.Module):
    """Features, their mean over the map, then what classifies them.

    ``(N, in_channels, H, W)`` to ``(N, num_classes)``.
    """

    def __init__(self, features: nn.Sequential, classifier: nn.Module):
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def initialise(layer: nn.Module) -> None:
    """He et al.'s normal initialisation of a convolution, by its outputs (derived: the authors' is not known)."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
