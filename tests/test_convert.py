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


def test_a_second_conversion_plans_anew_for_all_layers():
    model = network()
    convert(model, Rule("xsepconv", "large"))
    assert model.large.directions == ("BR", "TL", "BL", "TR")
    convert(model, Rule("xsepconv", "depthwise"))
    assert [model.depthwise.directions[0], model.large.directions] == ["BR", ("TL",) * 4]


class Untraceable(tnn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.XSepConv2d(8, 8, 3, directions="TR")
        self.second = tnn.Conv2d(8, 8, 5, padding=2, groups=8)

    def forward(self, x):
        return self.second(self.first(x)) if x.shape[1] == 8 else x


BAD = {
    "no layer": (
        lambda: tnn.Sequential(tnn.Linear(3, 4)),
        ("c2sp",),
        r"rule c2sp takes no layer of the model, which has no Conv2d",
    ),
    "no match": (
        lambda: tnn.Sequential(tnn.Conv2d(3, 4, 3, padding=1), tnn.Conv2d(4, 4, 1), tnn.Conv2d(8, 8, 3)),
        ("c2sp",),
        r"rule c2sp takes no layer.*\n  0: it can become one.*\n  1: it can.*\n  2: padding is \(0, 0\); accepted.*1",
    ),
    "taken": (network, ("doconv", "c2sp"), r"rule c2sp takes no layer of the model:\n  stem: another rule takes it"),
    "pattern": (
        network,
        ("c2sp", Rule("doconv", "x*")),
        r"rule doconv where x\* takes no layer.*: where leaves it out",
    ),
    "depthwise": (network, (Rule("c2sp", "small"),), r"layer 'small' cannot become c2sp.*groups is 16; accepted is 1"),
    "dense": (
        network,
        ("c2sp", Rule("xsepconv", "stem")),
        r"layer 'stem' cannot become xsepconv.*in_channels 3, out_channels 8, groups 1; accepted are three equal",
    ),
    "point": (network, (Rule("doconv", lambda n, m: n == "norm"),), r"layer 'norm' cannot.*its type is BatchNorm2d"),
    "dilation": (
        lambda: tnn.Sequential(tnn.Conv2d(4, 4, 3, padding=1, dilation=2)),
        (Rule("c2sp", "0"),),
        r"layer '0' cannot.*dilation is \(2, 2\); accepted is 1",
    ),
    "mode": (
        lambda: tnn.Sequential(tnn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        (Rule("c2sp", "0"),),
        r"layer '0' cannot.*padding_mode is 'reflect'; accepted is 'zeros'",
    ),
    "stride": (
        lambda: tnn.Sequential(tnn.Conv2d(4, 4, 3, 3, padding=1)),
        (Rule("c2sp", "0"),),
        r"layer '0' cannot.*stride is \(3, 3\); accepted are 1 and 2",
    ),
    "even": (
        lambda: tnn.Sequential(tnn.Conv2d(4, 4, (3, 5), padding=1)),
        (Rule("c2sp", "0"),),
        r"layer '0' cannot.*kernel_size is \(3, 5\); accepted are pairs of one odd number",
    ),
    "huge": (
        lambda: tnn.Sequential(tnn.Conv2d(4, 4, 33, padding=16, groups=4)),
        (Rule("xsepconv", "0"),),
        r"layer '0' cannot.*kernel_size is \(33, 33\); accepted are odd numbers to 31",
    ),
    "function": (network, (Rule(lambda layer: None, "stem"),), r"layer 'stem' cannot.*the rule returns None"),
    "itself": (
        lambda: tnn.Conv2d(4, 4, 3, padding=1),
        ("c2sp",),
        r"model is itself a Conv2d; accepted is a model that",
    ),
    "nothing": (network, (), r"rules are empty; accepted is at least one"),
    "untraceable": (Untraceable, ("xsepconv",), r"torch\.fx cannot trace the model"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_refusal_changes_nothing(case):
    make, rules, message = BAD[case]
    model = make()
    layers, shown = list(model.modules()), repr(model)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        convert(model, *rules)
    assert list(model.modules()) == layers
    assert repr(model) == shown


def test_an_input_that_does_not_run_changes_nothing():
    model = Untraceable()
    with pytest.raises(ValueError, match="does not run on an input of input_size"):
        convert(model, "xsepconv", input_size=(1, 8, 5))
    assert type(model.second) is tnn.Conv2d
    assert model.first.directions == ("TR",) * 4
    convert(model, "xsepconv", input_size=(1, 8, 5, 5))
    assert [model.first.directions[0], model.second.directions[0]] == ["BR", "TL"]


def test_bad_rules():
    with pytest.raises(ValueError, match=r"to is 'c3sp'; accepted are c2, c2sp, .*doconv or a function"):
        convert(network(), "c3sp")
    with pytest.raises(ValueError, match=r"where is None; accepted beside a function is"):
        Rule(lambda layer: layer)
