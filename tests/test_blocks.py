"""Blocks: XSepConv with normalisation inside, squeeze-and-excitation, the inverted residual."""

import copy
import io

import places
import pytest
import torch
import torch.nn.functional as F
from exhaustive import all_but
from torch import nn as tnn

from evenconv_cuda import functional as EF
from evenconv_cuda import nn, use_backend
from evenconv_cuda.nn.blocks import DEPTHWISE, make_divisible


def trained(module):
    """Statistics, scales and shifts that are not those of the start."""
    for layer in module.modules():
        if isinstance(layer, tnn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.weight.data, layer.bias.data):
                tensor.normal_(0.3)
            layer.running_var.uniform_(0.2, 2)
    return module


def normalised(**options):
    return trained(nn.XSepConv2dNormActivation(6, 6, 5, **options))


def by_definition(layer, x):
    """Plain convolutions and batch_norm, pass by pass, from the layer's parameters."""
    bottom, right = (int(side in layer.directions[0]) for side in "BR")
    rows, columns = layer.stride
    act = layer.act or tnn.Identity()
    p = dict(layer.named_parameters())

    def norm(name, x):
        of = layer.get_submodule(f"norm_{name}")
        mean, var = of.running_mean.clone(), of.running_var.clone()
        return F.batch_norm(x, mean, var, of.weight, of.bias, of.training, of.momentum, of.eps)

    x = F.pad(x, (1 - right, right, 1 - bottom, bottom))
    x = act(norm("even", F.conv2d(x, p["weight_even"], groups=6)))
    x = act(norm("row", F.conv2d(x, p["weight_row"], padding=(0, 2), stride=(1, columns), groups=6)))
    return norm("col", F.conv2d(x, p["weight_col"], padding=(2, 0), stride=(rows, 1), groups=6))


OPTIONS = [
    {},
    {"stride": 2, "directions": "TR"},
    {"stride": (1, 2), "activation_layer": tnn.Hardswish, "directions": "BL"},
    {"activation_layer": None, "directions": "TL"},
    {"stride": 2, "activation_layer": None},
]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_normalised_passes_are_those_of_the_definition(options, training):
    layer = normalised(**options).to(places.device(), torch.float64).train(training)
    x = torch.randn(2, 6, 9, 8, device=places.device(), dtype=torch.float64, requires_grad=True)
    wanted = (x, *layer.parameters())
    expected = by_definition(layer, x)
    weights = torch.randn_like(expected)  # the plain sum of what training normalises is constant
    y = layer(x)
    torch.testing.assert_close(y, expected)
    gradients = torch.autograd.grad((y * weights).sum(), wanted)
    for gradient, plain in zip(gradients, torch.autograd.grad((expected * weights).sum(), wanted)):
        torch.testing.assert_close(gradient, plain)


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operators that run."""

    def __enter__(self):
        self.names = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("options", "training", "own", "norms"),
    [
        ({}, True, 3, 3),
        ({}, False, 3, 0),
        ({"activation_layer": None}, True, 3, 3),
        ({"activation_layer": None}, False, 1, 0),
        ({"activation_layer": None, "norm_layer": lambda n: tnn.BatchNorm2d(n, affine=False)}, False, 1, 0),
        ({"activation_layer": None, "norm_layer": tnn.InstanceNorm2d}, False, 3, 3),
        ({"norm_layer": lambda n: tnn.BatchNorm2d(n, track_running_stats=False)}, False, 3, 3),
    ],
)
@torch.no_grad()
def test_eval_folds_batch_norm(options, training, own, norms):
    layer = nn.XSepConv2dNormActivation(6, 6, 5, **options).train(training)
    with Calls() as calls:
        layer(torch.randn(2, 6, 8, 8))
    assert sum(name.startswith("evenconv_cuda::") for name in calls.names) == own
    assert sum("batch_norm" in name for name in calls.names) == norms


def test_frozen_batch_norm_folds_while_the_rest_trains():
    layer = normalised(activation_layer=None).train()
    x = torch.randn(2, 6, 8, 8)
    with Calls() as calls:
        layer.norm_even.eval(), layer.norm_row.eval()
        before = layer.norm_col.running_mean.clone()
        layer(x)
    assert sum("batch_norm" in name for name in calls.names) == 3
    assert not torch.equal(layer.norm_col.running_mean, before)
    layer.norm_col.eval()
    with Calls() as calls:
        layer(x).sum().backward()
    assert not any("batch_norm" in name for name in calls.names)
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_autocast_and_channels_last(training):
    layer, x = normalised().train(training), torch.randn(2, 6, 8, 8)
    expected = by_definition(copy.deepcopy(layer), x)
    layer, x = (what.to(memory_format=torch.channels_last) for what in (layer, x))
    y = copy.deepcopy(layer)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (y - expected).abs().max() < 0.05 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_folding_in_half_precision_errs_as_little_as_the_passes(dtype):
    layer = normalised(activation_layer=None).eval().to(dtype)
    x = torch.randn(2, 6, 8, 8, dtype=dtype)
    y = layer(x)
    assert y.dtype == dtype
    exact = by_definition(copy.deepcopy(layer).double(), x.double())
    unfolded = by_definition(layer, x)
    assert (y - exact).abs().max() <= (unfolded - exact).abs().max()


def test_normalised_is_an_even_sized_layer_of_the_familiar_form():
    layer, like = normalised(stride=2, directions="TL"), nn.XSepConv2d(6, 6, 5, 2, bias=False, directions="TL")
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "directions"):
        assert getattr(layer, name) == getattr(like, name), name
    shapes = {name: p.shape for name, p in layer.named_parameters()}
    assert {name: shapes[name] for name in shapes if "norm" not in name} == {
        name: p.shape for name, p in like.named_parameters()
    }
    assert [name for name, _ in layer.named_children()] == ["norm_even", "norm_row", "norm_col", "act"]
    assert "kernel_size=(5, 5), stride=(2, 2)" in repr(layer)
    assert "directions='TL'" in repr(layer)
    assert {t.device.type for t in normalised(device="meta").state_dict().values()} == {"meta"}


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((6, 6, 5), {"bias": True}, ["bias", "True", "False"]),
        ((6, 6, 4), {}, ["kernel_size", "4", "odd"]),
        ((6, 8, 5), {}, ["out_channels", "8", "6"]),
        ((6, 6, 5), {"directions": "UP"}, ["directions", "UP", "BR"]),
    ],
)
def test_normalised_refuses(arguments, options, words):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the words are compared)
        nn.XSepConv2dNormActivation(*arguments, **options)
    assert all(word in str(refused.value) for word in words)


@torch.no_grad()
def test_squeeze_excitation():
    block = nn.SqueezeExcitation(16, 8)
    shapes = {name: tuple(tensor.shape) for name, tensor in block.state_dict().items()}
    assert shapes == {"fc1.weight": (8, 16, 1, 1), "fc1.bias": (8,), "fc2.weight": (16, 8, 1, 1), "fc2.bias": (16,)}
    x = torch.randn(2, 16, 5, 4)
    hidden = (x.mean((2, 3)) @ block.fc1.weight.flatten(1).T + block.fc1.bias).clamp(min=0)
    scale = ((hidden @ block.fc2.weight.flatten(1).T + block.fc2.bias) / 6 + 0.5).clamp(0, 1)
    torch.testing.assert_close(block(x), x * scale[:, :, None, None])


@pytest.mark.parametrize(("channels", "expected"), [(4, 8), (18, 24), (24, 24), (28, 32), (60, 64), (144, 144)])
def test_make_divisible(channels, expected):
    assert make_divisible(channels, 8) == expected


@pytest.fixture(params=DEPTHWISE)
def depthwise(request):
    return request.param


@pytest.mark.parametrize(("out_channels", "stride", "shortcut"), [(8, 1, True), (8, 2, False), (12, 1, False)])
def test_shortcut_where_the_shape_is_kept(depthwise, out_channels, stride, shortcut):
    block = trained(nn.InvertedResidual(8, 16, out_channels, 5, stride, depthwise=depthwise)).eval()
    x = torch.randn(2, 8, 9, 8)
    y = block(x)
    assert y.shape == (2, out_channels, -(-9 // stride), 8 // stride)
    torch.testing.assert_close(y, block.block(x) + x if shortcut else block.block(x))


def test_inverted_residual_counts(depthwise):
    """Weights and scales by hand; the shortcut and the activation have none."""
    block = nn.InvertedResidual(8, 32, 16, 5, 2, tnn.Hardswish, True, depthwise)
    per_channel = {"depthwise": 25 + 2, "xsepconv": 4 + 10 + 2, "xsepconv_norm": 4 + 10 + 6}[depthwise]
    squeeze = 32 * 8 + 8 + 8 * 32 + 32
    assert sum(p.numel() for p in block.parameters()) == 32 * 8 + 64 + 32 * per_channel + squeeze + 32 * 16 + 32
    narrow = nn.InvertedResidual(8, 8, 16, 5, depthwise=depthwise)
    assert sum(p.numel() for p in narrow.parameters()) == 8 * per_channel + 8 * 16 + 32


@torch.no_grad()
def test_xsepconv_is_the_depthwise_block_with_another_kernel():
    """XSepConv is linear: its impulse response as the kernel of a plain block gives the same outputs."""
    xsep = trained(nn.InvertedResidual(8, 16, 8, 5, depthwise="xsepconv", directions="TL")).eval()
    layer = xsep.block[1][0]
    impulse = torch.zeros(1, 16, 15, 15)
    impulse[:, :, 7, 7] = 1
    response = EF.xsep_conv2d(impulse, layer.weight_even, layer.weight_row, layer.weight_col, directions="TL")
    plain = nn.InvertedResidual(8, 16, 8, 7)
    state = {name: tensor for name, tensor in xsep.state_dict().items() if not name.startswith("block.1.0.")}
    kernel = response[0, :, 4:11, 4:11].flip(1, 2)[:, None]
    plain.load_state_dict(state | {"block.1.0.weight": kernel})
    x = torch.randn(2, 8, 16, 16)
    inner = (slice(None), slice(None), slice(4, 12), slice(4, 12))  # passes pad zeros between them, one kernel does not
    torch.testing.assert_close(xsep(x)[inner], plain.eval()(x)[inner])


def test_training_step_and_eval(depthwise):
    block = nn.InvertedResidual(8, 16, 8, 5, 1, tnn.ReLU, True, depthwise, "TL")
    x = torch.randn(2, 8, 8, 8)
    block(x).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in block.parameters())
    buffer = io.BytesIO()
    torch.save(block.state_dict(), buffer)
    buffer.seek(0)
    other = nn.InvertedResidual(8, 16, 8, 5, 1, tnn.ReLU, True, depthwise, "TL")
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other.eval()(x), block.eval()(x))
    with use_backend("reference"):
        torch.testing.assert_close(block(x), other(x))


@pytest.mark.parametrize("training", all_but([True], [True, False]), ids=["train", "eval"])
def test_compile(training):
    torch._dynamo.reset()
    block = nn.InvertedResidual(8, 16, 8, 5, 1, tnn.ReLU, True, "xsepconv_norm").train(training)
    x = torch.randn(2, 8, 8, 8)
    compiled = torch.compile(copy.deepcopy(block), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), block(x))


def test_unknown_depthwise_is_named():
    with pytest.raises(ValueError, match="depthwise is 'C2'; accepted are 'depthwise', 'xsepconv', 'xsepconv_norm'"):
        nn.InvertedResidual(8, 16, 8, 5, depthwise="C2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size is 4; accepted are odd"),
        ({"kernel_size": 3, "stride": 3}, "stride is 3; accepted are 1 and 2"),
    ],
)
def test_inverted_residual_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        nn.InvertedResidual(8, 16, 8, **options)


def test_a_pair_of_strides_keeps_the_shortcut():
    assert nn.InvertedResidual(8, 16, 8, 3, stride=[1, 1]).residual
