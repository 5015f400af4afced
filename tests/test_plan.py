"""The padding plan: what it is, that its shifts cancel, that it follows the order of execution."""

import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import SYMMETRIC, apply_padding_plan, nn, padding_plan
from evenconv_cuda.plan import shift

PLANS = {
    0: [],
    1: [SYMMETRIC],
    2: ["BR", "TL"],
    3: ["BR", "TL", SYMMETRIC],
    4: ["BR", "TL", "BL", "TR"],
    5: ["BR", "TL", "BL", "TR", SYMMETRIC],
    6: ["BR", "TL", "BL", "TR", "BR", "TL"],
    7: ["BR", "TL", "BL", "TR", "BR", "TL", SYMMETRIC],
    8: ["BR", "TL", "BL", "TR"] * 2,
    9: [*["BR", "TL", "BL", "TR"] * 2, SYMMETRIC],
}


def xsep(channels=8, **options):
    return nn.XSepConv2d(channels, channels, 3, **options)


def centroid(model, channels, size=41):
    """Where an impulse in every channel ends up, from where it was, averaged over the channels: rows, columns."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    x = torch.zeros(1, channels, size, size, dtype=torch.float64)
    x[:, :, size // 2, size // 2] = 1
    y = model.double()(x)[0]
    y = (y / y.sum((1, 2), keepdim=True)).mean(0)
    at = torch.arange(size, dtype=torch.float64) - size // 2
    return (y.sum(1) @ at).item(), (y.sum(0) @ at).item()


@pytest.mark.parametrize("n_layers", PLANS)
def test_plan(n_layers):
    assert padding_plan(n_layers) == PLANS[n_layers]


@pytest.mark.parametrize("n_layers", [-1, 2.0, True, "3"])
def test_bad_number(n_layers):
    with pytest.raises(ValueError, match=r"n_layers is .*accepted is a whole number from 0"):
        padding_plan(n_layers)


@pytest.mark.parametrize("input_size", [None, (1, 8, 6, 6)])
@pytest.mark.parametrize("n_layers", range(1, 10))
def test_the_shifts_cancel(n_layers, input_size):
    model = tnn.Sequential(*(xsep(bias=False) for _ in range(n_layers)))
    report = apply_padding_plan(model, input_size)
    given = [(groups,) * 4 if isinstance(groups, str) else groups for groups in PLANS[n_layers]]
    assert list(report.directions.items()) == [(str(n), groups) for n, groups in enumerate(given)]
    assert [layer.directions for layer in model] == given
    assert report.net_shift == (0, 0)
    assert centroid(model, 8) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("directions", ["BR", "TL", "BL", "TR", SYMMETRIC])
@pytest.mark.parametrize("channels", [5, 6, 8])
@pytest.mark.parametrize("make", [nn.XSepConv2d, nn.EvenDepthwiseConv2d])
def test_shift_is_where_an_impulse_goes(make, channels, directions):
    layer = make(channels, channels, 3 if make is nn.XSepConv2d else 4, bias=False, directions=directions)
    assert shift(layer) == pytest.approx(centroid(tnn.Sequential(layer), channels), abs=1e-12)


@pytest.mark.parametrize("channels", [5, 6, 8])
def test_a_layer_that_runs_three_times_counts_three_times(channels):
    """Five channels cannot be four groups that cancel."""
    layer = xsep(channels, bias=False)
    model = tnn.Sequential(layer, layer, layer)
    report = apply_padding_plan(model)
    assert report.net_shift == pytest.approx(centroid(model, channels), abs=1e-12)
    assert (report.net_shift == (0, 0)) == (channels != 5)


@pytest.mark.parametrize("input_size", [None, (1, 8, 5, 5)])
def test_a_model_that_is_itself_a_layer(input_size):
    layer = xsep()
    assert apply_padding_plan(layer, input_size).directions == {"": SYMMETRIC}
    assert layer.directions == SYMMETRIC


def test_containers_of_torch_do_not_hide_layers():
    model = tnn.Sequential(xsep(), tnn.ModuleList([xsep()]), tnn.Sequential(tnn.Sequential(xsep())))
    model[1].forward = lambda x: model[1][0](x)
    assert list(apply_padding_plan(model).directions) == ["0", "1.0", "2.0.0"]


class Backwards(tnn.Module):
    """Runs its layers from the last to the first, with a branch that never runs."""

    def __init__(self):
        super().__init__()
        self.first, self.unused, self.second = xsep(), xsep(directions="TR"), nn.C2sp(8, 8)

    def forward(self, x):
        return self.first(self.second(x)) + x


@pytest.mark.parametrize("input_size", [None, (2, 8, 5, 5)])
def test_execution_order(input_size):
    model = Backwards()
    report = apply_padding_plan(model, input_size)
    assert list(report.directions) == ["second", "first"]
    assert model.second.directions == ("BR",) * 4
    assert model.first.directions == ("TL",) * 4
    assert model.unused.directions == ("TR",) * 4


def test_some_layers_only():
    model = Backwards()
    apply_padding_plan(model, layers=nn.XSepConv2d)
    assert model.first.directions == model.second.directions == SYMMETRIC


def test_every_even_layer_takes_part():
    layers = [
        nn.EvenConv2d(8, 8, 2),
        nn.EvenDepthwiseConv2d(8, 8, 4),
        xsep(),
        nn.DOEvenConv2d(8, 8, 2),
        nn.XSepConv2dNormActivation(8, 8, 3),
    ]
    model = tnn.Sequential(*layers, nn.DOConv2d(8, 8, 3), nn.SeparableDepthwiseConv2d(8, 8, 3), nn.SymmetricPad2d(2))
    assert list(apply_padding_plan(model).directions) == list("01234")


def test_the_model_is_left_as_it_was():
    model = tnn.Sequential(xsep(), tnn.BatchNorm2d(8), xsep())
    before = [tensor.clone() for tensor in (*model.parameters(), *model.buffers())]
    apply_padding_plan(model, (2, 8, 5, 5))
    assert all(map(torch.equal, (*model.parameters(), *model.buffers()), before))
    assert model.training
    assert all(not module._forward_pre_hooks for module in model.modules())


class Undecided(tnn.Module):
    def __init__(self):
        super().__init__()
        self.layers = tnn.Sequential(xsep(), xsep())

    def forward(self, x):
        return self.layers(x) if x.sum() >= 0 or x.device.type == "meta" else x


def test_what_cannot_be_traced_needs_an_input_size():
    model = Undecided()
    with pytest.raises(ValueError, match=r"input_size is None, and torch\.fx cannot trace the model"):
        apply_padding_plan(model)
    assert model.layers[1].directions == ("BR",) * 4


def test_what_does_not_run():
    with pytest.raises(ValueError, match=r"does not run on an input of input_size \(1, 3, 5, 5\): .*C = 3"):
        apply_padding_plan(Backwards(), (1, 3, 5, 5))
    for size in [(1, 8, 5, 0), "5", 5, (1, 8, 5.0, 5)]:
        with pytest.raises(ValueError, match=r"input_size is .*accepted is the shape of the input"):
            apply_padding_plan(Backwards(), size)


def test_no_even_layer():
    with pytest.raises(ValueError, match=r"no even-sized layer that takes part; even-sized layers are .*XSepConv2d"):
        apply_padding_plan(tnn.Sequential(tnn.Conv2d(8, 8, 3)))


def test_report():
    report = apply_padding_plan(tnn.Sequential(xsep(), xsep(), xsep()))
    assert str(report) == "0  BR\n1  TL\n2  BR TL BL TR\nnet shift: +0 rows, +0 columns"
