"""torch.fx, feature extraction, torch.jit.script and torch.onnx.export of models that have these layers."""

from typing import ClassVar

import onnx_engine
import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import convert, nn, to_standard
from evenconv_cuda import functional as EF

LAYERS = {
    "C2sp": lambda: nn.C2sp(6, 6),
    "C4": lambda: nn.EvenConv2d(6, 6, 4, stride=2, directions="BR"),
    "EvenDepthwise": lambda: nn.EvenDepthwiseConv2d(6, 6, 2),
    "Separable": lambda: nn.SeparableDepthwiseConv2d(6, 6, 5),
    "XSepConv": lambda: nn.XSepConv2d(6, 6, 7, 2, directions="TR"),
    "SymmetricPad": lambda: nn.SymmetricPad2d(2),
    "SymmetricPad TL": lambda: nn.SymmetricPad2d(4, "TL"),
}


@pytest.fixture
def x():
    return torch.randn(2, 6, 9, 8)


@pytest.mark.parametrize("name", LAYERS)
def test_fx_traces_a_layer_as_one_call(name, x):
    model = tnn.Sequential(tnn.Conv2d(6, 6, 1), LAYERS[name](), tnn.ReLU())
    traced = torch.fx.symbolic_trace(model)
    assert sum(node.op == "call_function" for node in traced.graph.nodes) == 1
    assert torch.equal(traced(x), model(x))
    if parameters := list(model[1].parameters()):
        with torch.no_grad():
            parameters[0].mul_(2)
    assert torch.equal(traced(x), model(x))


def test_functions_offer_themselves_to_subclasses(x):
    class Logged(torch.Tensor):
        calls: ClassVar[list] = []

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            cls.calls.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    y = EF.even_depthwise_conv2d(x=x.as_subclass(Logged), weight=torch.ones(6, 1, 2, 2))
    assert Logged.calls[0] is EF.even_depthwise_conv2d
    assert type(y) is Logged
    assert torch.equal(y.as_subclass(torch.Tensor), EF.even_depthwise_conv2d(x, torch.ones(6, 1, 2, 2)))


def test_feature_extraction_after_conversion(x):
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    model = tnn.Sequential(
        tnn.Conv2d(6, 8, 3, padding=1), tnn.ReLU(), tnn.Conv2d(8, 8, 5, padding=2, groups=8), tnn.Conv2d(8, 4, 1)
    )
    convert(model, "c2sp", "xsepconv")
    found = extraction.create_feature_extractor(model, ["0", "2"])(x)
    assert torch.equal(found["0"], model[0](x))
    assert torch.equal(found["2"], model[:3](x))


@pytest.mark.parametrize("name", LAYERS)
def test_standard_layers_can_be_scripted(name, x):
    model = to_standard(LAYERS[name]())
    scripted = torch.jit.script(model)
    for channels in (6, 5) if name.startswith("SymmetricPad") else (6,):
        assert torch.equal(scripted(x[:, :channels]), model(x[:, :channels]))


def test_onnx_without_to_standard(tmp_path, x):
    """Such as has no custom operator either."""
    model = tnn.Sequential(tnn.Conv2d(6, 8, 3, 2, padding=1), tnn.ReLU(), tnn.Conv2d(8, 8, 5, padding=2, groups=8))
    convert(model, "c2sp", "xsepconv")
    model.eval()
    onnx_engine.check(model, x, model(x), tmp_path)
