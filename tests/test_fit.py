"""Weights taken over from the replaced kernel: against kernels read off the layers by autograd, and by what they do."""

import copy
from itertools import product

import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import Rule, convert, nn
from evenconv_cuda.fit import CORRELATION, take_over_

DIRECTIONS = ("BR", "TL", "TR", ("BL", "TR", "BR", "BL"))
DENSE = list(product((2, 4), (1, (1, 2)), DIRECTIONS))
DEPTHWISE = [(3, 1, "TR"), (5, 2, "BL"), (7, 1, DIRECTIONS[3])]


def kernel_of(layer, channels, size=5):
    """What the pixel in the middle of the result takes from each pixel: (out, in, rows, columns) around it."""
    x = torch.zeros(1, channels, 4 * size + 1, 4 * size + 1, dtype=torch.float64, requires_grad=True)
    y = layer(x)[0]
    step = [4 * size // (side - 1) for side in y.shape[1:]]
    at = [2 * size // s for s in step]
    middle = [a * s for a, s in zip(at, step)]
    rows = [torch.autograd.grad(value, x, retain_graph=True)[0][0] for value in y[:, at[0], at[1]]]
    return torch.stack(rows)[:, :, middle[0] - size : middle[0] + size + 1, middle[1] - size : middle[1] + size + 1]


def seen(kernels):
    """Kernels through a root of the correlations of a random map: their products are those of what they make of it."""
    places = torch.arange(kernels.shape[-1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(CORRELATION ** (places[:, None] - places).abs())
    root = vectors * values.sqrt()
    return (root.T @ kernels @ root).flatten(1)


def dense(kernel_size, stride, directions, out=3):
    plain = tnn.Conv2d(5, out, 3, stride, padding=1).double()
    layer = nn.EvenConv2d(5, out, kernel_size, directions=directions).double()
    pool = tnn.AvgPool2d(plain.stride, ceil_mode=True)
    return plain, layer, tnn.Sequential(pool, layer), {"pool": plain.stride}


def depthwise(size, stride, directions):
    plain = tnn.Conv2d(5, 5, size, stride, padding=size // 2, groups=5).double()
    layer = nn.XSepConv2d(5, 5, size, stride, directions=directions).double()
    return plain, layer, layer, {}


CASES = [(dense, case) for case in DENSE] + [(depthwise, case) for case in DEPTHWISE]


@pytest.mark.parametrize("init", ["fit", "scale", "fresh"])
@pytest.mark.parametrize(("make", "case"), CASES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_error_and_norm_are_those_of_the_layers(make, case, init):
    plain, layer, whole, pool = make(*case)
    error = take_over_(layer, plain, init, **pool)
    wanted, given = seen(kernel_of(plain, 5)), seen(kernel_of(whole, 5))
    assert error == pytest.approx(((given - wanted).norm() / wanted.norm()).item(), abs=1e-9)
    if init != "fresh":
        torch.testing.assert_close(given.norm(dim=1), wanted.norm(dim=1))


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_dense_weights_are_the_least_squares(case):
    plain, layer, whole, pool = dense(*case, out=1)
    take_over_(layer, plain, "fit", **pool)
    wanted, fitted = seen(kernel_of(plain, 5)), layer.weight.detach().clone()
    taps = []
    for unit in torch.eye(fitted.numel(), dtype=torch.float64):
        layer.weight.data.copy_(unit.view_as(fitted))
        taps.append(seen(kernel_of(whole, 5)))
    taps = torch.cat(taps).T
    solution = torch.linalg.lstsq(taps, wanted.T).solution
    torch.testing.assert_close(fitted.flatten(), (solution * wanted.norm() / (taps @ solution).norm())[:, 0])


@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_separated_weights_are_nearer_than_any_beside_them(case):
    plain, layer, _, _ = depthwise(*case)
    take_over_(layer, plain, "fit")
    wanted = seen(kernel_of(plain, 5))

    def likeness():
        return torch.cosine_similarity(seen(kernel_of(layer, 5)), wanted)

    best = likeness()
    for parameter in layer.parameters():
        for _ in range(2):
            before = parameter.detach().clone()
            parameter.data.add_(0.05 * before.norm() * torch.randn_like(before))
            assert (likeness() <= best + 1e-3).all()
            parameter.data.copy_(before)


def test_what_fits_exactly_computes_the_same():
    model = tnn.Sequential(tnn.Conv2d(6, 4, 3, padding=1), tnn.Conv2d(4, 4, 7, 2, padding=3, groups=4)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(4, 1, 7, 1) * torch.randn(4, 1, 1, 7))
    x = torch.randn(2, 6, 11, 12, dtype=torch.float64)
    before = model(x)
    conversion = convert(model, "c4sp", "xsepconv")
    assert [type(layer).__name__ for layer in model] == ["EvenConv2d", "XSepConv2d"]
    torch.testing.assert_close(model(x), before)
    assert [change.error for change in conversion.changes] == pytest.approx([0, 0], abs=1e-6)


def test_smooth_kernels_keep_what_they_do():
    places = torch.arange(7.0) - 3
    plain = tnn.Conv2d(8, 8, 7, padding=3, groups=8)
    with torch.no_grad():
        for channel, angle in enumerate(torch.linspace(0, 3, 8)):
            along = places[:, None] * angle.cos() + places * angle.sin()
            across = places * angle.cos() - places[:, None] * angle.sin()
            plain.weight[channel, 0] = along * torch.exp(-(along**2) / 6 - across**2 / 3)
    x = torch.nn.functional.avg_pool2d(torch.randn(4, 8, 24, 24), 3, 1)
    likeness = {}
    for init in ("fit", "fresh"):
        model = tnn.Sequential(copy.deepcopy(plain))
        convert(model, "xsepconv", init=init)
        pair = torch.stack([(part - plain.bias[:, None, None]).flatten() for part in (model(x), plain(x))])
        likeness[init] = torch.corrcoef(pair)[0, 1]
    assert likeness["fit"] > 0.95
    assert likeness["fresh"] < 0.5


@pytest.mark.parametrize(("init", "least"), [("fit", 0.2), ("scale", 0.2), ("fresh", 0)])
def test_deep_networks_without_normalisation_keep_their_scale(init, least):
    layers = [layer for _ in range(12) for layer in (tnn.Conv2d(16, 16, 3, padding=1), tnn.ReLU())]
    model, x = tnn.Sequential(*layers), torch.randn(4, 16, 12, 12)
    for conv in model[::2]:
        tnn.init.kaiming_normal_(conv.weight)
        tnn.init.zeros_(conv.bias)
    before = model(x).std()
    convert(model, "c2sp", init=init)
    for conv in model[::2]:
        tnn.init.zeros_(conv.bias)
    after = model(x).std() / before
    assert least <= after < 5
    assert (after < 1e-3) == (init == "fresh")


@pytest.mark.parametrize("init", ["fit", "scale", "fresh"])
def test_the_bias_stays(init):
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, 2, padding=1), tnn.Conv2d(8, 8, 5, padding=2, groups=8))
    biases = [conv.bias.clone() for conv in model]
    convert(model, "c2sp", "xsepconv", init=init)
    assert torch.equal(model[0].conv.bias, biases[0]) == (init != "fresh")
    assert torch.equal(model[1].bias_col, biases[1]) == (init != "fresh")
    assert (not model[1].bias_even.any() and not model[1].bias_row.any()) == (init != "fresh")


@pytest.mark.parametrize("init", ["fit", "scale"])
def test_kernels_of_zeros_can_still_be_trained(init):
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1), tnn.Conv2d(8, 8, 5, padding=2, groups=8))
    for conv in model:
        tnn.init.zeros_(conv.weight)
    with torch.no_grad():
        model[1].weight[0] = 1
    convert(model, "c2sp", "xsepconv", init=init)
    assert torch.equal(model[1](torch.randn(2, 8, 9, 9))[0, 1:, 4, 4], model[1].bias_col[1:])
    (model[1](torch.randn(2, 8, 9, 9)) + model[0](torch.randn(2, 8, 9, 9))).square().sum().backward()
    assert model[1].weight_even.grad.flatten(1).any(1).all()
    assert model[0].weight.grad.any()


def test_fits_in_the_directions_of_the_plan():
    model = tnn.Sequential(*(tnn.Conv2d(4, 4, 5, padding=2, groups=4) for _ in range(2))).double()
    with torch.no_grad():
        for conv in model:
            conv.weight.copy_(torch.ones(4, 1, 5, 1) * torch.ones(4, 1, 1, 5))
    plain, x = copy.deepcopy(model), torch.randn(1, 4, 9, 9, dtype=torch.float64)
    convert(model, "xsepconv")
    assert [layer.directions[0] for layer in model] == ["BR", "TL"]
    torch.testing.assert_close(model(x), plain(x))


def test_values_that_are_not_finite():
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1), tnn.Conv2d(8, 8, 3, padding=1))
    model[1].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"layer '1' cannot become c2sp: its weight has values that are not finite"):
        convert(model, "c2sp")
    assert all(type(layer) is tnn.Conv2d for layer in model)
    convert(model, "c2sp", init="fresh")


def test_other_dtypes_and_the_meta_device():
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1)).bfloat16()
    assert convert(model, "c2sp").changes[0].error < 0.8
    assert model[0].weight.dtype == torch.bfloat16
    assert convert(tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1)).to("meta"), "c2sp").changes[0].error is None


def test_the_report():
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1), tnn.Conv2d(8, 8, 1))
    conversion = convert(model, "c4sp", Rule("doconv", "1"))
    title, first, second, _ = (line.split() for line in str(conversion).splitlines())
    assert title == ["layer", "before", "after", "error", "params"]
    assert (first[5], second[5]) == ("0.000", "0.000")
    with pytest.raises(ValueError, match=r"init is 'best'; accepted are 'fit', 'scale', 'fresh'"):
        convert(model, "c2sp", init="best")
