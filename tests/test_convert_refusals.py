"""convert: what it refuses, with the layer and the reason, and that nothing changes where it does."""

import pytest
import torch
from test_convert import network
from torch import nn as tnn

from evenconv_cuda import Rule, convert, nn


class Untraceable(tnn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.XSepConv2d(8, 8, 3, directions="TR")
        self.second = tnn.Conv2d(8, 8, 5, padding=2, groups=8)

    def forward(self, x):
        return self.second(self.first(x)) if x.shape[1] == 8 else x


def hooked():
    model = tnn.Sequential(tnn.Conv2d(8, 8, 3, padding=1))
    model[0].register_forward_hook(lambda layer, x, y: y * 2)
    return model


def parametrised():
    return tnn.Sequential(tnn.utils.parametrizations.weight_norm(tnn.Conv2d(8, 8, 3, padding=1)))


BAD = {
    "no layer": (
        lambda: tnn.Sequential(tnn.Linear(3, 4)),
        ("c2sp",),
        r"rule c2sp takes no layer of the model, which has no Conv2d",
    ),
    "no match": (
        lambda: tnn.Sequential(tnn.Conv2d(3, 4, 3, padding=1), tnn.Conv2d(4, 4, 1), tnn.Conv2d(8, 8, 3)),
        ("c2sp",),
        r"rule c2sp takes no layer.*\n  0: in_channels is 3; by default.*\n  1: kernel_size is \(1, 1\); by.*"
        r"\n  2: padding is \(0, 0\); accepted is kernel_size // 2, 1",
    ),
    "taken": (
        network,
        ("doconv", "c2sp"),
        r"rule c2sp takes no layer.*\n  point: kernel_size is.*\n  stem: another rule takes it",
    ),
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
    "norm": (network, (Rule("doconv", lambda n, m: n == "norm"),), r"rule doconv where <lambda> takes no layer"),
    "predicate": (
        network,
        (Rule(lambda m: m, lambda n, m: m.kernel_size == 3),),
        r"rule <lambda> where <lambda> cannot be asked about layer 'norm': .*'BatchNorm2d' object has no attribute",
    ),
    "error": (
        network,
        (Rule(lambda m: m.nothing, "stem"),),
        r"layer 'stem' cannot become <lambda>.*no attribute 'nothing'",
    ),
    "strided": (
        lambda: tnn.Sequential(tnn.Conv2d(8, 8, 5, 2, 2, groups=8)),
        ("xsepconv",),
        r"rule xsepconv takes no.*\n  0: kernel_size is \(5, 5\) at stride \(2, 2\); by default 7×7 and larger",
    ),
    "hooks": (hooked, (Rule("c2sp", "0"),), r"layer '0' cannot become c2sp where 0: it has hooks"),
    "parametrised": (parametrised, (Rule("doconv", "0"),), r"layer '0' cannot become.*: it is parametrised"),
    "lazy": (
        lambda: tnn.Sequential(tnn.LazyConv2d(8, 3)),
        (Rule("doconv", "0"),),
        r"layer '0' cannot.*not initialised",
    ),
    "compiled": (
        lambda: tnn.Sequential(torch.compile(tnn.Conv2d(8, 8, 3, padding=1))),
        ("c2sp",),
        r"Conv2d is compiled by itself; accepted are layers before torch\.compile",
    ),
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
    assert [model.first.directions, model.second.directions] == [("TR",) * 4, ("BR", "TL", "BL", "TR")]


def test_bad_rules():
    with pytest.raises(ValueError, match=r"where is 5; accepted are a name pattern, several, a predicate and None"):
        Rule("c2sp", 5)
    with pytest.raises(ValueError, match=r"to is \[\]; accepted are c2,"):
        Rule([])
    with pytest.raises(ValueError, match=r"to is 'c3sp'; accepted are c2, c2sp, .*doconv or a function"):
        convert(network(), "c3sp")
    with pytest.raises(ValueError, match=r"where is None; accepted beside a function is"):
        Rule(lambda layer: layer)
