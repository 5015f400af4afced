"""Networks: parameters and multiply-accumulates, published or by hand."""

import copy

import pytest
import torch
from networks import on_meta
from torch import nn as tnn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def parameters_without_normalisation(model):
    norms = [layer for layer in model.modules() if isinstance(layer, tnn.BatchNorm2d)]
    return parameters(model) - sum(map(parameters, norms))


def macs(model, size):
    model = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "conv", "millions", "mega_macs"),
    [
        ("resnet50", "c3", 25.5, 4089),
        ("resnet50_half", "c3", 6.9, 1127),
        ("resnet50_half", "c2", 5.3, 870),
        ("resnet50_half", "c2sp", 5.3, 870),
    ],
)
def test_resnet50_has_the_posters_counts(name, conv, millions, mega_macs):
    """To the poster's last digit: its parameters fit without normalisation's scales and shifts, and not with them."""
    model = on_meta(name, conv=conv)
    assert round(parameters_without_normalisation(model) / 1e6, 1) == millions
    assert round(macs(model, 224) / 1e6) == mega_macs


@pytest.mark.parametrize(("name", "count"), [("densenet_bc100", 769_162), ("mobilenet_v3_small", 2_542_856)])
def test_plain_networks_have_the_known_counts(name, count):
    assert parameters(on_meta(name)) == count


@pytest.mark.parametrize(
    ("depth", "conv"),
    [*((20, conv) for conv in ("c2", "c2sp", "c3", "c4", "c4sp")), *((depth, "c2sp") for depth in (32, 44, 56, 110))],
)
def test_cifar_resnet_counts(depth, conv):
    """By hand: 2n convolutions in each of three stages, of which the first widens."""
    n, area = (depth - 2) // 6, int(conv[1]) ** 2
    square = [2 * n * 16 * 16, 16 * 32 + (2 * n - 1) * 32 * 32, 32 * 64 + (2 * n - 1) * 64 * 64]
    shortcut = [0, 16 * 32, 32 * 64]
    norms = 2 * (2 * n * 16 + 16 + (2 * n - 1) * 32 + 32 + (2 * n - 1) * 64 + 64)
    model = on_meta(f"resnet{depth}", conv=conv)
    assert parameters(model) == 9 * 3 * 16 + area * sum(square) + sum(shortcut) + norms + 64 * 10 + 10
    per_stage = [area * a + b for a, b in zip(square, shortcut)]
    pixels = [32 * 32, 16 * 16, 8 * 8]
    assert macs(model, 32) == 9 * 3 * 16 * 32 * 32 + sum(a * b for a, b in zip(per_stage, pixels)) + 64 * 10


def test_wide_densenet_counts():
    """By hand: a layer takes C channels to 192 and these to 48."""
    count, channels, growth = 9 * 3 * 96, 96, 48
    for number, layers in enumerate((9, 8, 8)):
        for _ in range(layers):
            count += 2 * channels + channels * 4 * growth + 2 * 4 * growth + 4 * 4 * growth * growth
            channels += growth
        if number < 2:
            count += 2 * channels + channels * (channels // 2)
            channels //= 2
    assert parameters(on_meta("wide_densenet", conv="c2sp")) == count + 2 * channels + 10 * channels + 10


def test_resnet50_optim_counts():
    """By hand, without normalisation."""
    count, channels = 9 * 3 * 48, 48
    for stage, blocks in enumerate((1, 2, 4, 8, 4)):
        width = 48 * 2**stage
        for _ in range(blocks):
            inner = width // 4
            count += channels * inner + 4 * inner * inner + inner * width + channels * width * (channels != width)
            channels = width
    model = on_meta("resnet50_optim", conv="c2sp")
    assert parameters_without_normalisation(model) == count + 768 * 1536 + 1536 * 1000 + 1000


REPLACED = {14: (240, 240, 120, 144), 7: (576, 576)}
"""Channels of MobileNetV3-Small's 5×5 layers of stride 1, by the maps' size for input 224."""


def test_xsepconv_counts():
    """Each replaced layer has 4 + 2·5 weights per channel in place of 25; normalisation inside adds two norms."""
    plain, xsep = (on_meta("mobilenet_v3_small", conv=conv) for conv in ("depthwise", "xsepconv"))
    channels = sum(map(sum, REPLACED.values()))
    assert parameters(plain) - parameters(xsep) == (25 - 14) * channels
    assert parameters(on_meta("mobilenet_v3_small", conv="xsepconv_norm")) - parameters(xsep) == 2 * 2 * channels
    saved = sum((25 - 14) * size * size * sum(widths) for size, widths in REPLACED.items())
    assert macs(plain, 224) - macs(xsep, 224) == saved
