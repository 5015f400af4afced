"""Networks: what they are built of, and what they accept."""

import pytest
import torch
import torch.nn.functional as F
from exhaustive import all_but
from networks import DENSE, DEPTHWISE, NAMES, SMALL, on_meta, paper_conv, with_statistics
from torch import nn as tnn

from evenconv_cuda import apply_padding_plan, nn
from evenconv_cuda.models import CifarResNet, create_model, list_models
from evenconv_cuda.models.densenet import DenseLayer
from evenconv_cuda.models.residual import Residual, basic, bottleneck
from evenconv_cuda.models.resnet50 import SamePad2d


def test_list_models():
    assert sorted(list_models()) == sorted(NAMES)


@pytest.mark.parametrize("conv", DEPTHWISE[1:])
def test_xsepconv_stands_where_a_5x5_of_stride_1_stood(conv):
    model = create_model("mobilenet_v3_small", conv=conv)
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.XSepConv2d, nn.XSepConv2dNormActivation))]
    assert [layer.in_channels for layer in layers] == [240, 240, 120, 144, 576, 576]
    assert all(layer.kernel_size == (5, 5) and layer.stride == (1, 1) for layer in layers)
    assert [set(layer.directions) for layer in layers] == [{"BR"}, {"TL"}, {"BL"}, {"TR"}, {"BR"}, {"TL"}]
    kept = [layer for layer in model.modules() if isinstance(layer, tnn.Conv2d) and layer.groups > 1]
    assert [(layer.kernel_size[0], layer.stride[0]) for layer in kept] == [(3, 2), (3, 2), (3, 1), (5, 2), (5, 2)]
    before = [layer.directions for layer in layers]
    assert apply_padding_plan(model).net_shift == (0, 0)
    assert [layer.directions for layer in layers] == before


def test_xsepconv_starts_with_normalisation_in_force():
    """The weights of the passes leave a variance that normalisation's eps does not drown."""
    model = create_model("mobilenet_v3_small_cifar", conv="xsepconv").train()
    variances = []
    for layer in model.modules():
        if isinstance(layer, nn.XSepConv2d):
            layer.register_forward_hook(lambda layer, x, y: variances.append(y.var().item()))
    model(torch.randn(4, 3, 32, 32))
    assert len(variances) == 6
    assert min(variances) > 1e-3


@pytest.mark.parametrize(
    ("name", "size", "map_size"), [("mobilenet_v3_small", 64, 2), ("mobilenet_v3_small_cifar", 32, 4)]
)
def test_early_strides(name, size, map_size):
    features = on_meta(name).features
    assert features(torch.empty(2, 3, size, size, device="meta")).shape == (2, 576, map_size, map_size)


@pytest.mark.parametrize("name", ["resnet20", "densenet_bc100", "resnet50_half", "resnet50_optim"])
def test_conv_is_of_the_square_convolutions(name):
    """All but the stem, at stride 1, in place of each other."""
    plain, even = on_meta(name), on_meta(name, conv="c4sp")
    instead = {(1, 1): tnn.Conv2d, (3, 3): nn.EvenConv2d}
    kinds = {key: type(layer) for key, layer in even.named_modules() if isinstance(layer, tnn.Conv2d)}
    expected = {
        key: instead.get(layer.kernel_size) for key, layer in plain.named_modules() if isinstance(layer, tnn.Conv2d)
    }
    expected["features.stem"] = tnn.Conv2d
    assert kinds == expected
    square = [layer for layer in even.modules() if isinstance(layer, nn.EvenConv2d)]
    assert {(layer.kernel_size, layer.stride, layer.bias) for layer in square} == {((4, 4), (1, 1), None)}


@torch.no_grad()
@pytest.mark.parametrize("block", [basic, bottleneck])
@pytest.mark.parametrize("conv", ["c3", "c2sp"])
def test_shortcut_is_the_input_where_the_shape_is_kept(block, conv):
    residual = silenced(block(8, 8, 1, conv, tnn.ReLU))
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(residual(x), x)


@torch.no_grad()
@pytest.mark.parametrize("block", [basic, bottleneck])
@pytest.mark.parametrize(("out_channels", "stride"), [(8, 2), (16, 1), (16, 2)])
def test_shortcut_starts_after_the_activation_where_the_shape_changes(block, out_channels, stride):
    residual = silenced(block(8, out_channels, stride, "c2sp", tnn.ReLU6)).eval()
    norm = residual.before[0]
    norm.running_mean.normal_()
    x = 4 * torch.randn(2, 8, 6, 6)
    h = (norm.weight * (x - norm.running_mean[:, None, None]).movedim(1, -1) / (1 + norm.eps) ** 0.5).movedim(-1, 1)
    h = h.clamp(0, 6)
    if stride == 2:
        h = (h[..., ::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, ::2] + h[..., 1::2, 1::2]) / 4
    if out_channels != 8:
        convolution = residual.shortcut[-1]
        assert convolution.bias is None
        h = torch.einsum("nchw,oc->nohw", h, convolution.weight[..., 0, 0])
    torch.testing.assert_close(residual(x), h)


def silenced(residual):
    assert isinstance(residual, Residual)
    residual.branch[-1].weight.data.zero_()
    return residual


@torch.no_grad()
def test_bottleneck_pools_before_its_square_convolution():
    residual = bottleneck(8, 16, 2, "c3", tnn.ReLU).eval()
    x = torch.randn(2, 8, 6, 6)
    reduce, expand = residual.branch[0], residual.branch[-1]
    square = next(layer for layer in residual.branch if isinstance(layer, tnn.Conv2d) and layer.kernel_size == (3, 3))
    scale = (1 + 1e-5) ** -0.5
    h = F.relu(x * scale)
    y = F.avg_pool2d(F.relu(F.conv2d(h, reduce.weight) * scale), 2)
    y = F.conv2d(F.relu(F.conv2d(y, square.weight, padding=1) * scale), expand.weight)
    torch.testing.assert_close(residual(x), y + residual.shortcut(h))


@torch.no_grad()
def test_dense_layer_keeps_its_input_in_front():
    layer, x = DenseLayer(6, 4, "c2sp"), torch.randn(2, 6, 5, 5)
    y = layer(x)
    assert y.shape == (2, 10, 5, 5)
    assert torch.equal(y[:, :6], x)
    assert y[:, 6:].abs().sum() > 0


@pytest.mark.parametrize("size", [6, 7, 12, 13])
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_same_padding(kernel_size, size):
    """TensorFlow's rule, on the numbers of rows and columns."""
    total = max((-(-size // 2) - 1) * 2 + kernel_size - size, 0)
    x = torch.rand(1, 2, size, 8) + 1
    y = SamePad2d(kernel_size, -1.0)(x)
    assert y.shape[2] == size + total
    rows = (y[0, 0, :, kernel_size // 2] > 0).nonzero().flatten()
    assert rows[0] == total // 2
    assert len(rows) == size


def test_maximum_of_the_stem_does_not_see_the_padding():
    model = create_model("resnet50_half").features
    assert (model.pool(model.pool_pad(-torch.ones(1, 64, 8, 8))) == -1).all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_plan_finds_the_even_sized_layers(name):
    """By ``torch.fx``: networks are traceable. Plain padding in turn takes the place of symmetric padding."""
    model = on_meta(name, conv="c2" if paper_conv(name) == "c2sp" else "xsepconv_norm")
    even = [
        key for key, layer in model.named_modules() if isinstance(layer, (nn.EvenConv2d, nn.XSepConv2dNormActivation))
    ]
    report = apply_padding_plan(model)
    assert list(report.directions) == even
    assert report.net_shift == (0, 0)


@pytest.mark.parametrize("name", all_but(SMALL, NAMES))
def test_classes_and_channels(name):
    classes = {"resnet50": 1000, "mobilenet_v3_small": 1000}
    default = next((count for key, count in classes.items() if name.startswith(key) and "cifar" not in name), 10)
    assert list(on_meta(name).parameters())[-1].shape == (default,)
    model = on_meta(name, num_classes=3, in_channels=1)
    assert model.eval()(torch.empty(1, 1, 64, 64, device="meta")).shape == (1, 3)


def test_width():
    assert on_meta("resnet20", width=32).classifier.in_features == 128


def torchvision():
    """Beside some builds of PyTorch its import fails with other errors than ImportError."""
    try:
        import torchvision
    except Exception as error:
        pytest.skip(f"torchvision: {error}")
    return torchvision


def test_mobilenet_has_torchvisions_layout():
    """Some of its names and shapes, and what no state_dict tells."""
    expected = {
        "features.0.0.weight": (16, 3, 3, 3),
        "features.1.block.0.0.weight": (16, 1, 3, 3),
        "features.1.block.1.fc1.weight": (8, 16, 1, 1),
        "features.1.block.2.1.running_var": (16,),
        "features.3.block.1.0.weight": (88, 1, 3, 3),
        "features.4.block.2.fc2.bias": (96,),
        "features.11.block.3.0.weight": (96, 576, 1, 1),
        "features.12.1.weight": (576,),
        "classifier.0.weight": (1024, 576),
        "classifier.3.bias": (1000,),
    }
    model = on_meta("mobilenet_v3_small")
    state = model.state_dict()
    assert len(state) == 244
    assert {key: tuple(state[key].shape) for key in expected} == expected
    assert [layer.p for layer in model.modules() if isinstance(layer, tnn.Dropout)] == [0.2]
    for conv in DEPTHWISE:
        norms = [m for m in on_meta("mobilenet_v3_small", conv=conv).modules() if isinstance(m, tnn.BatchNorm2d)]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


@torch.no_grad()
def test_plain_mobilenet_is_torchvisions():
    x = torch.randn(2, 3, 64, 64)
    theirs = with_statistics(torchvision().models.mobilenet_v3_small(weights=None), x)
    ours = create_model("mobilenet_v3_small")
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs(x))


@pytest.mark.parametrize(
    ("error", "name", "options", "words"),
    [
        (ValueError, "resnet21", {}, ["name", "'resnet21'", *NAMES]),
        (ValueError, "resnet20", {"conv": "c6"}, ["conv", "'c6'", *DENSE]),
        (ValueError, "wide_densenet", {"conv": "xsepconv"}, ["conv", "'xsepconv'", *DENSE]),
        (ValueError, "mobilenet_v3_small", {"conv": "c2sp"}, ["conv", "'c2sp'", *DEPTHWISE]),
        (TypeError, "resnet20", {"depth": 26}, ["depth=26", "resnet20", "conv", "width"]),
        (TypeError, "resnet50_half", {"width": 64}, ["width=64", "resnet50_half", "conv"]),
    ],
)
def test_what_is_not_accepted_is_named(error, name, options, words):
    with pytest.raises(error) as refused:
        create_model(name, **options)
    assert all(word in str(refused.value) for word in words)


def test_depth_of_no_such_network_is_named():
    with pytest.raises(ValueError, match="depth is 21; accepted are 6n"):
        CifarResNet(21)
