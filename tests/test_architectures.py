"""Conversion of other people's models: train a step, save and load, deploy."""

import importlib

import pytest
import torch
from exhaustive import all_but
from torch import nn as tnn

from evenconv_cuda import convert, nn, to_standard


def why_not(package):
    """torchvision cannot be imported beside a PyTorch that it was not built for, and fails in its own way."""
    try:
        importlib.import_module(package)
    except Exception as error:
        return f"no {package}: {error}"
    return None


def transformers_model(name, **config):
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=5, **config)
    model = getattr(transformers, f"{name}ForImageClassification")(config)
    return model, lambda x: model(x).logits


def torchvision_model(name):
    import torchvision

    model = torchvision.models.get_model(name, num_classes=5)
    return model, model


def timm_model(name):
    import timm

    model = timm.create_model(name, num_classes=5)
    return model, model


MODELS = {
    "ResNet": ("transformers", {"layer_type": "basic", "hidden_sizes": [8, 16], "depths": [2, 2], "embedding_size": 8}),
    "ConvNext": ("transformers", {"hidden_sizes": [8, 16], "depths": [2, 3], "num_stages": 2}),
    "EfficientNet": ("transformers", {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}),
    "resnet18": ("torchvision", None),
    "mobilenet_v3_small": ("torchvision", None),
    "convnext_tiny": ("torchvision", None),
    "efficientnet_b0": ("timm", None),
    "convnextv2_atto": ("timm", None),
    "densenet121": ("timm", None),
}
RULES = {
    "ResNet": ("c2sp",),
    "ConvNext": ("xsepconv", "doconv"),
    "EfficientNet": ("xsepconv", "doconv"),
    "resnet18": ("c2sp", "doconv"),
    "mobilenet_v3_small": ("xsepconv",),
    "convnext_tiny": ("xsepconv",),
    "efficientnet_b0": ("xsepconv", "doconv"),
    "convnextv2_atto": ("xsepconv",),
    "densenet121": ("c2sp",),
}
SIZE = (2, 3, 64, 64)


@pytest.fixture(params=all_but(["ResNet", "ConvNext", "resnet18", "convnextv2_atto"], MODELS))
def name(request):
    if reason := why_not(MODELS[request.param][0]):
        pytest.skip(reason)
    return request.param


def build(name):
    package, config = MODELS[name]
    if package == "transformers":
        return transformers_model(name, **config)
    return (torchvision_model if package == "torchvision" else timm_model)(name)


def test_conversion(name, tmp_path):
    model, run = build(name)
    macs = convert(model, *RULES[name], input_size=SIZE).macs
    own = [module for module in model.modules() if type(module).__module__.startswith(nn.__name__)]
    assert own
    assert macs[1] < macs[0] or "doconv" in RULES[name]

    x, target = torch.randn(SIZE), torch.tensor([1, 3])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    tnn.functional.cross_entropy(run(x), target).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for layer in own for p in layer.parameters())
    optimizer.step()

    model.eval()
    y = run(x)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(1)
    other, run_other = build(name)
    convert(other, *RULES[name], input_size=SIZE)
    other.eval()
    assert not torch.equal(run_other(x), y)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(run_other(x), y)

    plain = to_standard(model)
    assert not any(type(module).__module__.startswith(nn.__name__) for module in plain.modules())
    deployed = plain(x)
    torch.testing.assert_close(getattr(deployed, "logits", deployed), y, rtol=1e-3, atol=1e-4)
