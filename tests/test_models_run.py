"""Networks: training, backends, compilation, checkpoints, deployment."""

import copy
import io
import pickle

import onnx_engine
import pytest
import torch
import torch.nn.functional as F
from exhaustive import all_but
from networks import NAMES, SMALL, convs_of, images, paper_conv, with_statistics
from torch import nn as tnn

from evenconv_cuda import nn, to_standard, use_backend
from evenconv_cuda.models import create_model

EVERY = [(name, conv) for name in NAMES for conv in (convs_of(name) if name in SMALL else [paper_conv(name)])]
"""Each network, and one of each make with every convolution."""

FEW = ("resnet20", "mobilenet_v3_small_cifar")
OF_FEW = [(name, conv) for name, conv in EVERY if name in FEW]

OWN = (nn.EvenConv2d, nn.XSepConv2d, nn.XSepConv2dNormActivation)


@pytest.mark.parametrize(("name", "conv"), all_but(OF_FEW, EVERY))
def test_training_step(name, conv):
    model = create_model(name, num_classes=7, conv=conv)
    y = model(images(name))
    assert y.shape == (2, 7)
    F.cross_entropy(y, torch.tensor([1, 4])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize(("name", "conv"), all_but(OF_FEW, [(name, conv) for name, conv in EVERY if name in SMALL]))
def test_reference_backend_agrees(name, conv):
    x = images(name).double()
    model = with_statistics(create_model(name, conv=conv).double(), x)
    for training in (True, False):
        torch.manual_seed(1)  # the same features are dropped
        y = model.train(training)(x)
        torch.manual_seed(1)
        with use_backend("reference"):
            torch.testing.assert_close(model(x), y)


@torch.no_grad()
@pytest.mark.parametrize("name", all_but(FEW, NAMES))
def test_save_and_load(name):
    x = images(name)
    model, other = (
        with_statistics(create_model(name, conv=paper_conv(name)), x),
        create_model(name, conv=paper_conv(name)),
    )
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    expected = model(x)
    assert torch.equal(other.eval()(x), expected)
    assert (other.train()(x) - expected).abs().max() > 1e-3
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)


@torch.no_grad()
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES)
def test_compile(name):
    torch._dynamo.reset()
    x = images(name)
    model = with_statistics(create_model(name, conv=paper_conv(name)), x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FEW)
def test_compile_of_a_training_step(name):
    torch._dynamo.reset()
    model = create_model(name, conv=paper_conv(name))
    model = tnn.Sequential(model.features[: 3 if name == "resnet20" else 7], tnn.AdaptiveAvgPool2d(1))
    twin, x = copy.deepcopy(model), images(name)
    losses = [m(x).square().sum() for m in (model, torch.compile(twin, fullgraph=True, backend="aot_eager"))]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses)
    for a, b in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@torch.no_grad()
@pytest.mark.parametrize(("name", "conv"), all_but(OF_FEW, EVERY))
def test_to_standard(name, conv):
    x = images(name).double()
    model = with_statistics(create_model(name, conv=conv).double(), x)
    plain = to_standard(model)
    assert not any(isinstance(layer, OWN) for layer in plain.modules())
    expected = model(x)
    assert (plain(x) - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.exhaustive
@torch.no_grad()
@pytest.mark.parametrize("name", [*FEW, "resnet50_half"])
def test_onnx(name, tmp_path):
    x = images(name, 16)  # as many as keep the statistics from amplifying rounding
    model = with_statistics(create_model(name, conv=paper_conv(name)), x)
    onnx_engine.check(to_standard(model), x, model(x), tmp_path)
