"""convert: what it changes, what it refuses, and that nothing changes where it refuses."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import Rule, convert, nn, profile

SIZE = (2, 3, 32, 32)


def network():
    return tnn.Sequential(
        OrderedDict(
            stem=tnn.Conv2d(3, 8, 3, padding=1, bias=False),
            dense=tnn.Conv2d(8, 8, 3, padding=1),
            strided=tnn.Conv2d(8, 16, 3, 2, padding=1, bias=False),
            norm=tnn.BatchNorm2d(16),
            depthwise=tnn.Conv2d(16, 16, 5, padding=2, groups=16),
            small=tnn.Conv2d(16, 16, 3, padding=1, groups=16),
            large=tnn.Conv2d(16, 16, 7, 2, 3, groups=16, bias=False),
            down=tnn.Conv2d(16, 16, 5, 2, 2, groups=16),
            point=tnn.Conv2d(16, 8, 1),
        )
    )


def types(model):
    return {name: type(layer).__name__ for name, layer in model.named_children()}


def test_dense_to_c2sp():
    model = network()
    convert(model, "c2sp")
    assert [name for name, kind in types(model).items() if kind != types(network())[name]] == ["dense", "strided"]
    assert type(model.dense) is nn.EvenConv2d
    assert (model.dense.kernel_size, model.dense.directions) == ((2, 2), ("BR", "TL", "BL", "TR"))
    assert model.dense.bias is not None
    pool, conv = model.strided
    assert (pool.kernel_size, pool.stride, pool.ceil_mode) == ((2, 2), (2, 2), True)
    assert (conv.in_channels, conv.out_channels, conv.stride, conv.bias) == (8, 16, (1, 1), None)


@pytest.mark.parametrize(
    ("to", "size", "directions"),
    [("c2", 2, ("BR",) * 4), ("c4", 4, ("BR",) * 4), ("c4sp", 4, ("BR", "TL", "BL", "TR"))],
)
def test_other_even_kernels(to, size, directions):
    model = network()
    convert(model, to)
    assert (model.dense.kernel_size, model.dense.directions) == ((size, size), directions)


def test_depthwise_to_xsepconv():
    model = network()
    conversion = convert(model, "xsepconv")
    assert [change.name for change in conversion.changes] == ["depthwise", "large"]
    assert (model.depthwise.kernel_size, model.depthwise.stride) == ((5, 5), (1, 1))
    assert (model.large.kernel_size, model.large.stride, model.large.bias_col) == ((7, 7), (2, 2), None)
    assert [model.depthwise.directions[0], model.large.directions[0]] == ["BR", "TL"]
    assert conversion.padding.net_shift == (0, 0)


def test_doconv_computes_what_the_layer_did():
    model, x = network().eval(), torch.randn(SIZE)
    before = model(x)
    convert(model, "c2sp")
    after_c2sp = model(x)
    convert(model, "doconv")
    kinds = types(model)
    assert kinds["dense"] == "DOEvenConv2d"
    assert kinds["point"] == "Conv2d"
    assert [kinds[name] for name in ("stem", "depthwise", "down")] == ["DOConv2d"] * 3
    torch.testing.assert_close(model(x), after_c2sp)
    assert not torch.equal(before, after_c2sp)


@pytest.mark.parametrize("height", [8, 9])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
def test_shapes_stay(stride, height):
    model = tnn.Sequential(tnn.Conv2d(4, 6, 3, stride, 1), tnn.Conv2d(6, 6, 7, stride, 3, groups=6))
    x = torch.randn(1, 4, height, 11)
    shape = model(x).shape
    convert(model, "c2sp", "xsepconv")
    assert model(x).shape == shape


def test_the_first_rule_decides():
    model = network()
    conversion = convert(model, Rule("c4sp", where="strided"), "c2sp", "doconv")
    assert model.strided.conv.kernel_size == (4, 4)
    assert model.dense.kernel_size == (2, 2)
    assert [change.name for change in conversion.changes if change.after.startswith("DOConv2d")] == [
        "stem",
        "depthwise",
        "small",
        "large",
        "down",
    ]


@pytest.mark.parametrize(
    "where",
    ["d[!e]*", ["d[!e]*", "absent"], lambda name, layer: name == "down"],
    ids=["pattern", "patterns", "predicate"],
)
def test_rules_by_name_and_by_predicate(where):
    model = network()
    assert [change.name for change in convert(model, Rule("doconv", where)).changes] == ["down"]
    assert type(model.down) is nn.DOConv2d


def test_a_function_as_target():
    model = network()
    convert(
        model, Rule(lambda norm: tnn.GroupNorm(4, norm.num_features), where=lambda _, m: isinstance(m, tnn.BatchNorm2d))
    )
    assert isinstance(model.norm, tnn.GroupNorm)


def test_where_takes_what_the_default_leaves():
    model = network()
    convert(model, Rule("xsepconv", "small"), Rule("c2sp", "stem"))
    assert model.small.kernel_size == (3, 3)
    assert model.stem.in_channels == 3


def test_subclasses_that_compute_as_conv2d():
    class Same(tnn.Conv2d):
        def __init__(self, channels):
            super().__init__(channels, channels, 3, padding=1)

    class Shifted(Same):
        def forward(self, x):
            return super().forward(x.roll(1, 2))

    model = tnn.Sequential(Same(8), Shifted(8))
    convert(model, "c2sp")
    assert isinstance(model[0], nn.EvenConv2d)
    with pytest.raises(ValueError, match=r"layer '1' cannot become c2sp where 1: its type is Shifted"):
        convert(model, Rule("c2sp", "1"))


def test_place_and_modes_stay():
    model = network().to(torch.float64, memory_format=torch.channels_last).eval()
    model.depthwise.requires_grad_(False)
    convert(model, "c2sp", "doconv")
    assert all(parameter.dtype == torch.float64 for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert model.dense.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(parameter.requires_grad for parameter in model.depthwise.parameters())
    assert all(parameter.requires_grad for parameter in model.down.parameters())
    meta = network().to("meta")
    convert(meta, "xsepconv")
    assert meta.large.weight_row.is_meta


def test_shared_layers_stay_shared():
    layer = tnn.Conv2d(8, 8, 3, padding=1)
    model = tnn.ModuleDict({"a": layer, "b": tnn.Sequential(layer)})
    assert len(convert(model, "c2sp").changes) == 1
    assert model["a"] is model["b"][0]
    assert isinstance(model["a"], nn.EvenConv2d)


def test_report_counts_what_profile_counts():
    model = network()
    before = profile(model, SIZE)
    conversion = convert(model, "c2sp", "xsepconv", input_size=SIZE)
    after = profile(model, SIZE)
    assert conversion.params == (before.params, after.params)
    assert conversion.macs == (before.macs, after.macs)
    for change in conversion.changes:
        assert change.params == (before.within(change.name).params, after.within(change.name).params)
        assert change.macs == (before.within(change.name).macs, after.within(change.name).macs)
    assert sum(b - a for a, b in (change.macs for change in conversion.changes)) == after.macs - before.macs


def test_dry_run(capsys):
    model = network()
    before = copy.deepcopy(model)
    layers = list(model.modules())
    conversion = convert(model, "c2sp", "xsepconv", input_size=SIZE, dry_run=True)
    assert list(model.modules()) == layers
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values()))
    printed = capsys.readouterr().out
    assert printed == f"{conversion}\n"
    assert "strided     Conv2d 3×3 / 2×2   AvgPool2d 2×2 / 2×2 + EvenConv2d 2×2" in printed
    assert "padding plan:\ndepthwise  BR\nlarge      TL\nnet shift: +0 rows, +0 columns" in printed
    done = convert(model, "c2sp", "xsepconv", input_size=SIZE)
    assert (done.changes, done.params, done.macs) == (conversion.changes, conversion.params, conversion.macs)
    assert capsys.readouterr().out == ""


def test_a_second_conversion_leaves_what_was_there():
    model = network()
    convert(model, Rule("xsepconv", "large"))
    assert model.large.directions == ("BR", "TL", "BL", "TR")
    model.large.directions = ("TR",) * 4
    convert(model, Rule("xsepconv", "depthwise"))
    assert [model.depthwise.directions, model.large.directions] == [("BR", "TL", "BL", "TR"), ("TR",) * 4]


def test_replan_plans_for_all():
    model = network()
    convert(model, Rule("xsepconv", "large"))
    conversion = convert(model, Rule("xsepconv", "depthwise"), replan=True)
    assert [model.depthwise.directions[0], model.large.directions] == ["BR", ("TL",) * 4]
    assert conversion.padding.net_shift == (0, 0)


def shared_and_inside():
    conv = tnn.Conv2d(8, 8, 3, padding=1)
    return tnn.ModuleDict({"c": conv, "block": tnn.Sequential(conv, tnn.ReLU())})


IDENTITY, RELU = tnn.Identity(), tnn.ReLU()
FUNCTIONS = {
    "one result for all": (network, [Rule(lambda layer: IDENTITY, lambda n, m: n in ("stem", "norm", "point"))]),
    "a layer that is there": (
        lambda: tnn.Sequential(RELU, tnn.GELU()),
        [Rule(lambda layer: RELU, lambda n, m: isinstance(m, tnn.GELU))],
    ),
    "inside another": (shared_and_inside, ["c2sp", Rule(lambda layer: IDENTITY, lambda n, m: n == "block")]),
    "around itself": (network, [Rule(lambda layer: tnn.Sequential(layer, tnn.ReLU()), "stem")]),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_dry_run_of_a_function_leaves_the_model(case):
    make, rules = FUNCTIONS[case]
    model = make()
    places = [(name, id(module)) for name, module in model.named_modules(remove_duplicate=False)]
    shown = repr(model)
    convert(model, *rules, dry_run=True)
    assert [(name, id(module)) for name, module in model.named_modules(remove_duplicate=False)] == places
    assert repr(model) == shown
    convert(model, *rules)
    assert repr(model) != shown


def test_a_function_may_bring_any_layer():
    model = network()
    convert(model, Rule(lambda layer: tnn.Sequential(nn.SymmetricPad2d(2), tnn.Conv2d(8, 8, 2)), "dense"))
    assert model(torch.randn(SIZE)).shape == network()(torch.randn(SIZE)).shape


@pytest.mark.parametrize("replan", [False, True])
def test_functions_choose_their_own_directions(replan):
    def two(layer):
        return tnn.Sequential(nn.XSepConv2d(16, 16, 5, directions="TR"), tnn.ReLU(), nn.XSepConv2d(16, 16, 5))

    model = network()
    padding = convert(model, Rule(two, "depthwise"), replan=replan).padding
    assert padding is None or padding.net_shift == (0, 0)
    found = [layer.directions[0] for layer in (model.depthwise[0], model.depthwise[2])]
    assert found == (["BR", "TL"] if replan else ["TR", "BR"])


def test_one_image_is_enough_to_count():
    """Though a network with normalised features of a single pixel could not be trained on it."""
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1), tnn.AdaptiveAvgPool2d(1), tnn.BatchNorm2d(8))
    assert convert(model, "c2sp", input_size=(1, 8, 5, 5)).macs == (25 * 8 * 8 * 9, 25 * 8 * 8 * 4)


def test_layers_known_by_several_names():
    model = shared_and_inside()
    assert [change.name for change in convert(model, Rule("c2sp", "block.0")).changes] == ["c"]


def test_doconv_throughout_has_the_keys_of_networks_that_are_built_so():
    model = tnn.Sequential(tnn.Conv2d(4, 6, 3), tnn.Conv2d(6, 8, 1, bias=False))
    convert(model, Rule("doconv", "*"))
    assert set(model.state_dict()) - {"evenconv_cuda_conversion"} == {"0.W", "0.D", "0.d_diag", "0.bias", "1.W"}


def test_what_is_frozen_stays_so():
    model = tnn.Sequential(tnn.Conv2d(4, 6, 3))
    model[0].weight.requires_grad_(False)
    convert(model, "doconv")
    assert {name: p.requires_grad for name, p in model[0].named_parameters()} == {"W": False, "D": False, "bias": True}
    folded = model[0].fold()
    assert (folded.weight.requires_grad, folded.bias.requires_grad) == (False, True)
