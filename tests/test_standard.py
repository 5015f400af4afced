"""to_standard: standard layers that compute the same, everywhere and in ONNX."""

import onnx_engine
import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import nn, to_standard

LAYERS = {
    "C2sp": lambda **options: nn.C2sp(6, 8, **options),
    "C2": lambda **options: nn.EvenConv2d(6, 8, 2, directions="BR", **options),
    "C4sp": lambda **options: nn.C4sp(6, 8, **options),
    "C4 mixed": lambda **options: nn.EvenConv2d(6, 8, 4, directions=("TR", "BL", "TL", "TR"), **options),
    "EvenDepthwise 2": lambda **options: nn.EvenDepthwiseConv2d(6, 6, 2, **options),
    "EvenDepthwise 4": lambda **options: nn.EvenDepthwiseConv2d(6, 6, 4, directions="BL", **options),
    "Separable": lambda **options: nn.SeparableDepthwiseConv2d(6, 6, 5, **options),
    "XSepConv": lambda **options: nn.XSepConv2d(6, 6, 7, directions="TR", **options),
    "DOConv": lambda **options: nn.DOConv2d(6, 8, 3, padding=1, groups=2, d_mul=10, **options),
    "DOEvenConv": lambda **options: nn.DOEvenConv2d(6, 8, 2, **options),
    "SymmetricPad": lambda **_: nn.SymmetricPad2d(2),
    "SymmetricPad TL": lambda **_: nn.SymmetricPad2d(4, "TL"),
}
STANDARD = ("Conv2d", "Sequential", "ZeroPad2d", "_GroupwisePad2d", "BatchNorm2d", "ReLU")


@pytest.fixture
def x():
    return torch.randn(2, 6, 9, 8, dtype=torch.float64)


def trained(layer):
    """Nothing at its first value, the statistics of normalisation least of all."""
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.is_floating_point() and tensor.numel() and tensor is not getattr(layer, "d_diag", None):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return layer.double()


@pytest.mark.parametrize("options", [{}, {"stride": 2, "bias": False}, {"stride": (2, 1)}, {"stride": (1, 2)}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, options, x):
    layer = trained(LAYERS[name](**options))
    for model in (layer, tnn.Sequential(tnn.ReLU(), layer)):
        plain = to_standard(model)
        torch.testing.assert_close(plain(x), model(x), rtol=1e-12, atol=1e-12)
        assert {type(module).__name__ for module in plain.modules()} <= set(STANDARD)
        assert all(p.data_ptr() != q.data_ptr() for p in plain.parameters() for q in model.parameters())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation_layer", [None, tnn.ReLU])
def test_normalised_layers_in_both_modes(stride, activation_layer, x):
    layer = trained(nn.XSepConv2dNormActivation(6, 6, 5, stride, activation_layer=activation_layer, directions="BL"))
    for mode in (False, True):
        plain = to_standard(layer.train(mode))
        assert {type(module).__name__ for module in plain.modules()} <= set(STANDARD)
        torch.testing.assert_close(plain(x), layer(x), rtol=1e-11, atol=1e-11)


def test_places_and_modes(x):
    shared = nn.C2sp(6, 6)
    layer = nn.XSepConv2dNormActivation(6, 6, 3)
    model = tnn.ModuleDict({"a": shared, "b": tnn.Sequential(shared, layer), "c": tnn.Dropout()})
    model["b"].eval()
    layer.norm_row.train()
    plain = to_standard(model)
    assert plain["a"] is plain["b"][0]
    assert type(plain["a"]) is tnn.Conv2d
    assert isinstance(model["a"], nn.C2sp)
    modes = {name: module.training for name, module in plain["b"][1].named_modules()}
    assert modes == {name: name == "norm_row" for name in modes}
    assert plain["c"].training


class Doubled(nn.C2sp):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked(layer):
    layer.register_forward_hook(lambda layer, x, y: 2 * y)
    return layer


def inside_hooked():
    layer = nn.XSepConv2dNormActivation(6, 6, 3)
    hooked(layer.norm_even)
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Doubled(6, 6), r"its type is Doubled, which computes otherwise than EvenConv2d"),
        (lambda: hooked(nn.C2sp(6, 6)), r"it has hooks"),
        (inside_hooked, r"it has hooks"),
        (lambda: tnn.utils.parametrizations.weight_norm(nn.C4sp(6, 6)), r"it is parametrised"),
    ],
)
def test_what_computes_otherwise_has_no_standard_form(make, message):
    with pytest.raises(ValueError, match=rf"layer '1' has no standard form: {message}"):
        to_standard(tnn.Sequential(tnn.ReLU(), make()))


def test_what_cannot_be_exchanged_or_copied():
    with pytest.raises(ValueError, match=r"C2sp is compiled by itself; accepted are layers before torch\.compile"):
        to_standard(tnn.Sequential(torch.compile(nn.C2sp(6, 6))))
    model = tnn.Sequential(nn.C2sp(6, 6))
    model.generator = (n for n in ())
    with pytest.raises(ValueError, match=r"the model cannot be copied: cannot pickle"):
        to_standard(model)


def test_frozen_layers_stay_frozen():
    model = tnn.Sequential(nn.C2sp(6, 6).requires_grad_(False), nn.C2sp(6, 6))
    with torch.no_grad():
        plain = to_standard(model)
    assert [parameter.requires_grad for parameter in plain.parameters()] == [False, False, True, True]


def test_dtype_and_device():
    plain = to_standard(nn.XSepConv2d(6, 6, 3, dtype=torch.bfloat16))
    assert all(parameter.dtype == torch.bfloat16 for parameter in plain.parameters())
    assert all(parameter.is_meta for parameter in to_standard(nn.C2sp(6, 6, device="meta")).parameters())


def test_state_dict_of_the_result_loads():
    layer = nn.XSepConv2d(6, 6, 3)
    assert set(to_standard(layer).state_dict()) == {
        f"{p}.{kind}" for p in ("even", "row", "col") for kind in ("weight", "bias")
    }


def test_a_model_without_such_layers_is_copied(x):
    model = tnn.Sequential(tnn.Conv2d(6, 4, 3)).double()
    plain = to_standard(model)
    assert plain is not model
    assert repr(plain) == repr(model)
    assert torch.equal(plain(x), model(x))


def test_onnx(tmp_path, x):
    """Exported without any custom operator, and run by another engine."""
    model = tnn.Sequential(
        *(trained(make()) for make in (LAYERS["C2sp"],)),
        trained(nn.XSepConv2dNormActivation(8, 8, 5, 2)),
        trained(nn.DOConv2d(8, 6, 3, padding=1)),
        *(trained(LAYERS[name]()) for name in LAYERS if not name.startswith(("C", "DO"))),
        trained(nn.C4sp(6, 6)),
        trained(nn.DOEvenConv2d(6, 6, 2)),
    )
    model, x = model.float().eval(), x.float()
    onnx_engine.check(to_standard(model), x, model(x), tmp_path)
