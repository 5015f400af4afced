"""Information erosion: what layers of one kind after another leave of a map, and where they move it.

A k×k kernel with even k, padded on one side, reads each pixel's neighbourhood half a pixel off centre. Over depth the
maps drift into a corner and over the border. Source: Wu et al., arXiv 1903.08385, section 3.1, and its poster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn import conv2d_of
from ..nn.arguments import check_choice

WEIGHTS = ("equal", "random")


@dataclass
class Erosion:
    """What is left of a map after each of a stack's layers.

    ``activation``: float64 ``(depth + 1)``, Q_n / Q_0, where Q_n is the mean of \\|F_n\\| over images, channels and
    pixels. ``maps``: \\|F_n\\| of the first image, averaged over channels, ``(H, W)`` by depth n.
    """

    activation: Tensor
    maps: dict[int, Tensor]


def equal_weights(layer: torch.nn.Module) -> torch.nn.Module:
    """``layer`` with every weight 1 / (the number of inputs that it sums), in place: its outputs are means.

    A dense k×k kernel's weights become 1 / (C k²), a depthwise one's 1 / k², each pass of XSepConv's its own share;
    biases become zero. Layers with other parameters are refused.
    """
    for name, parameter in layer.named_parameters():
        if parameter.dim() != 4 and "bias" not in name:
            raise ValueError(f"layer has a parameter {name}; accepted are layers of kernels and biases")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1 / parameter[0].numel() if parameter.dim() == 4 else 0)
    return layer


def stack(
    kind: str, depth: int, channels: int = 4, weights: str = "equal", seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[torch.nn.Module]:
    """``depth`` layers of one kind, ``channels`` wide, without biases.

    Args:
        kind: of :data:`evenconv_cuda.nn.KINDS`.
        channels: four equal groups, which symmetric padding needs to cancel, take a multiple of 4.
        weights: ``"equal"``: means, linear (:func:`equal_weights`), the same layer ``depth`` times. ``"random"``:
            Gaussian with variance 2 / (channels k²), a ReLU after each, so that away from borders the scale is kept on
            average.
        seed: of the random weights.
    """
    check_choice("weights", weights, WEIGHTS)
    if weights == "equal":
        return [equal_weights(conv2d_of(kind, channels, channels, bias=False, dtype=dtype))] * depth
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for _ in range(depth):
        layer = conv2d_of(kind, channels, channels, bias=False, dtype=dtype)
        torch.nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.weight[0].numel()), generator=generator)
        layers.append(torch.nn.Sequential(layer, torch.nn.ReLU()))
    return layers


def erosion(layers: Sequence[torch.nn.Module], x: Tensor, shown: Iterable[int] = ()) -> Erosion:
    """Q_n = mean over the map of \\|F_n(p)\\|, relative to Q_0, as ``x`` goes through ``layers``.

    With equal weights and ``x >= 0`` it is the share of the activation that has not left the map.

    Args:
        layers: of any kind that keep the shape, such as :func:`stack`'s.
        x: F_0, ``(N, C, H, W)``.
        shown: depths, 0 to ``len(layers)``, whose maps are returned too.

    Source: the poster of arXiv 1903.08385; relative to Q_0: derived.
    """
    wanted = set(shown)
    beyond = sorted(depth for depth in wanted if not 0 <= depth <= len(layers))
    if beyond:
        raise ValueError(f"shown has {beyond[0]}; accepted are depths from 0 to {len(layers)}, the number of layers")
    activation, maps = [], {}
    for depth, features in enumerate(_features(layers, x)):
        magnitude = features.abs()
        activation.append(magnitude.mean(dtype=torch.float64))
        if depth in wanted:
            maps[depth] = magnitude[0].mean(0)
    activation = torch.stack(activation)
    if activation[0] == 0:
        raise ValueError("x is zero everywhere; accepted are maps with some activation")
    return Erosion(activation / activation[0], maps)


def compare(
    kinds: Iterable[str],
    x: Tensor,
    depth: int,
    weights: str = "equal",
    seeds: int = 1,
    shown: Iterable[int] = (),
    progress: Callable[[list], Iterable] = iter,
) -> dict[str, Erosion]:
    """:func:`erosion` of a :func:`stack` of each kind on the same maps ``x``, by kind.

    Random weights: the geometric mean over ``seeds`` stacks (they differ by factors), and the first one's maps. Equal
    weights are the same for any seed. ``progress`` wraps the list of stacks that are run, as ``tqdm`` does.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; accepted is a number from 1")
    kinds = tuple(kinds)
    stacks = [(kind, seed) for kind in kinds for seed in range(1 if weights == "equal" else seeds)]
    runs: dict[str, list[Erosion]] = {kind: [] for kind in kinds}
    for kind, seed in progress(stacks):
        layers = [layer.to(x.device) for layer in stack(kind, depth, x.shape[1], weights, seed, x.dtype)]
        runs[kind].append(erosion(layers, x, shown))
    return {kind: Erosion(_geometric_mean([run.activation for run in of]), of[0].maps) for kind, of in runs.items()}


def impulse_response(layers: Sequence[torch.nn.Module], channels: int = 4) -> Tensor:
    """Where ``layers`` move an impulse: float64 ``(len(layers) + 1, 2)``, row and column relative to its place.

    The impulse is 1 at one pixel of every channel of a map that is so large that nothing leaves it. The centroid after
    n layers is sum(p m(p)) / sum(m(p)) in pixels, m the mean of \\|F_n\\| over channels; it is negative towards the top
    left. With equal weights (derived):

    - an even kernel that pads at the bottom and right (C2, C4) reads half a pixel further down and right than it
      writes, so the centroid is (-n / 2, -n / 2): it drifts to the top left;
    - odd kernels (C3, C5), and symmetric padding (C2sp, C4sp) of four equal groups stay at (0, 0);
    - layers that pad all channels alike, in the order BR, TL, BL, TR, are back at (0, 0) after each second layer, and
      so is every :func:`~evenconv_cuda.padding_plan` at its end.

    Args:
        layers: float64 layers that keep the shape, such as ``stack(kind, depth, dtype=torch.float64)`` or
            :func:`equal_weights` of depthwise layers with directions of one's own.
        channels: that the layers take.

    Source: arXiv 1903.08385, section 3.1 (the shift); the centroid: derived.
    """
    impulse = torch.ones(1, channels, 1, 1, dtype=torch.float64)
    centroids = []
    for features in _features(layers, impulse, growing=True):
        mass = features[0].abs().mean(0)
        places = torch.arange(len(mass), dtype=torch.float64) - len(mass) // 2
        centroids.append(torch.stack([mass.sum(1) @ places, mass.sum(0) @ places]) / mass.sum())
    return torch.stack(centroids)


@torch.no_grad()
def _features(layers: Sequence[torch.nn.Module], x: Tensor, growing: bool = False) -> Iterator[Tensor]:
    """F_0 = x, then F_n after each layer; ``growing`` surrounds each with the zeros that the next layer reaches."""
    yield x
    for number, layer in enumerate(layers):
        if growing:
            x = F.pad(x, (_reach(layer),) * 4)
        features = layer(x)
        if features.shape != x.shape:
            raise ValueError(
                f"layers[{number}] turns {tuple(x.shape)} into {tuple(features.shape)}; "
                "accepted are layers that keep the shape"
            )
        x = features
        yield x


def _reach(layer: torch.nn.Module) -> int:
    """How many pixels a layer can move something along an axis."""
    reach = 0
    for module in layer.modules():
        size = getattr(module, "kernel_size", 1)
        reach += (max(size) if isinstance(size, tuple) else size) // 2
        reach += hasattr(module, "weight_even")  # XSepConv's 2×2, beside the K that is its kernel size
    return reach


def _geometric_mean(activations: list[Tensor]) -> Tensor:
    return torch.stack(activations).log().mean(0).exp()
