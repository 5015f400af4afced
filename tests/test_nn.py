"""Layers: like torch.nn.Conv2d in all but what they compute."""

import copy
import io
import pickle

import places
import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import current_backend, nn, use_backend
from evenconv_cuda import functional as EF

LAYERS = {
    "EvenConv2d": lambda **options: nn.EvenConv2d(6, 8, 2, **options),
    "C2sp": lambda **options: nn.C2sp(6, 8, **options),
    "C4sp": lambda **options: nn.C4sp(6, 8, **options),
    "EvenDepthwiseConv2d": lambda **options: nn.EvenDepthwiseConv2d(6, 6, 4, **options),
    "SeparableDepthwiseConv2d": lambda **options: nn.SeparableDepthwiseConv2d(6, 6, 5, **options),
    "XSepConv2d": lambda **options: nn.XSepConv2d(6, 6, 7, **options),
}


@pytest.fixture(params=LAYERS)
def make(request):
    return LAYERS[request.param]


@pytest.fixture
def x():
    return torch.randn(2, 6, 9, 8, device=places.device())


def function_of(layer):
    """What the layer is documented to compute, from its parameters and attributes."""
    p, options = dict(layer.named_parameters()), {"stride": layer.stride}
    for name in ("bias", "bias_even", "bias_row", "bias_col"):
        p.setdefault(name, None)
    if isinstance(layer, nn.XSepConv2d):
        names = ("weight_even", "weight_row", "weight_col", "bias_even", "bias_row", "bias_col")
        return lambda x: EF.xsep_conv2d(x, *(p[n] for n in names), **options, directions=layer.directions)
    if isinstance(layer, nn.SeparableDepthwiseConv2d):
        names = ("weight_row", "weight_col", "bias_row", "bias_col")
        return lambda x: EF.separable_depthwise_conv2d(x, *(p[n] for n in names), **options)
    function = EF.even_depthwise_conv2d if isinstance(layer, nn.EvenDepthwiseConv2d) else EF.even_conv2d
    return lambda x: function(x, p["weight"], p["bias"], **options, directions=layer.directions)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": (1, 2), "bias": False}], ids=str)
def test_forward(make, x, options):
    layer = make(**options).to(places.device())
    y = layer(x)
    assert torch.equal(y, function_of(layer)(x))
    with use_backend("reference"):
        torch.testing.assert_close(layer(x), y)


@pytest.mark.usefixtures("place")
def test_backward_reaches_every_parameter(make, x):
    layer = make().to(places.device())
    layer(x).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_attributes_are_those_of_conv2d(make):
    layer = make(stride=(2, 1), bias=False)
    like = tnn.Conv2d(6, layer.out_channels, layer.kernel_size, (2, 1), groups=layer.groups, bias=False)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups", "padding_mode"):
        assert getattr(layer, name) == getattr(like, name), name


def test_positional_arguments_are_those_of_conv2d():
    layer = nn.EvenConv2d(6, 8, 2, 2, "same", 1, 1, False, "zeros", "cpu", torch.float64)
    assert layer.stride == (2, 2)
    assert layer.bias is None
    assert layer.weight.dtype == torch.float64
    depthwise = nn.XSepConv2d(6, 6, 3, 2, "same", 1, 6, False, "zeros", "cpu", torch.float64)
    assert depthwise.stride == (2, 2)
    assert [name for name, _ in depthwise.named_parameters()] == ["weight_even", "weight_row", "weight_col"]


def test_extra_repr(make):
    text = repr(make(bias=False, stride=2))
    for part in ("6, ", "kernel_size=", "stride=(2, 2)", "bias=False"):
        assert part in text
    assert "directions='TL'" in repr(nn.XSepConv2d(6, 6, 3, directions="TL"))
    assert "directions=('BR', 'TL', 'BL', 'TR')" in repr(nn.C2sp(6, 8))
    assert repr(nn.SymmetricPad2d(2, "TR")) == "SymmetricPad2d(kernel_size=2, directions='TR')"


def test_dense_initialisation_is_conv2ds():
    torch.manual_seed(3)
    layer = nn.EvenConv2d(6, 8, 2)
    torch.manual_seed(3)
    like = tnn.Conv2d(6, 8, 2)
    assert torch.equal(layer.weight, like.weight)
    assert torch.equal(layer.bias, like.bias)


def test_separated_initialisation_is_conv2ds():
    torch.manual_seed(3)
    layer = nn.SeparableDepthwiseConv2d(6, 6, 5)
    torch.manual_seed(3)
    weights = [tnn.Conv2d(6, 6, kernel, groups=6, bias=False).weight for kernel in ((1, 5),)]
    assert torch.equal(layer.weight_row, weights[0])
    bound = 5**-0.5
    assert layer.bias_row.abs().max() > bound / 3


def test_reset_parameters(make):
    layer = make()
    before = {name: p.clone() for name, p in layer.named_parameters()}
    layer.reset_parameters()
    assert all(not torch.equal(p, before[name]) for name, p in layer.named_parameters())
    for name, p in layer.named_parameters():
        weight = getattr(layer, name.replace("bias", "weight"))
        assert p.abs().max() <= (1 / weight[0].numel()) ** 0.5, name


def test_device_and_dtype(make):
    layer = make(device="meta", dtype=torch.float16)
    assert all(p.device.type == "meta" and p.dtype == torch.float16 for p in layer.parameters())
    layer = make().to(torch.float64)
    assert layer(torch.randn(1, 6, 4, 4, dtype=torch.float64)).dtype == torch.float64


def test_state_dict(make, x):
    layer, other = make(), make()
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x), layer(x))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_deepcopy_and_pickle(make, x):
    layer = make(stride=2)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
        assert repr(twin) == repr(layer)
        assert all(a is not b for a, b in zip(twin.parameters(), layer.parameters()))


@pytest.mark.usefixtures("place")
def test_channels_last_model(make, x):
    layer = make().to(places.device(), memory_format=torch.channels_last)
    y = layer(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x))


def test_compile_and_training_step(make, x):
    torch._dynamo.reset()
    model = tnn.Sequential(make(), tnn.BatchNorm2d(make().out_channels), tnn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    losses = []
    for _ in range(3):
        loss = compiled(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] != losses[1]


def test_default_directions():
    assert nn.XSepConv2d(6, 6, 3).directions == ("BR",) * 4
    for layer in (nn.C2sp(6, 8), nn.EvenDepthwiseConv2d(6, 6, 2), nn.SymmetricPad2d(2)):
        assert layer.directions == ("BR", "TL", "BL", "TR")


def test_the_backend_returns_after_an_error():
    with pytest.raises(RuntimeError, match="inside"), use_backend("reference"):
        raise RuntimeError("inside")
    assert current_backend() == "fused"


def test_pad_layer(x):
    assert torch.equal(nn.SymmetricPad2d(4)(x), EF.symmetric_pad2d(x, 4))
    assert nn.SymmetricPad2d((2, 2), "TL")(x).shape == (2, 6, 10, 9)
