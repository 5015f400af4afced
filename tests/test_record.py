"""What a converted model's state says of the conversion, and what loads into what."""

import copy
import io
import json

import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import Rule, convert, convert_like, to_standard

KEY = "evenconv_cuda_conversion"


def network():
    return tnn.Sequential(
        tnn.Conv2d(4, 8, 3, 2, padding=1),
        tnn.Conv2d(8, 8, 5, padding=2, groups=8),
        tnn.Conv2d(8, 8, 5, padding=2, groups=8),
        tnn.Conv2d(8, 6, 1),
    )


def converted():
    model = network()
    convert(model, "c2sp", "xsepconv", init="scale")
    convert(model, Rule("doconv", ["0.conv", "3"]))
    model[1].directions = ("TR",) * 4
    return model


def saved(model):
    """Through a file, with nothing but tensors."""
    file = io.BytesIO()
    torch.save(dict(model.state_dict()), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def encoded(value):
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def test_a_model_converted_like_another_loads_its_state():
    model, x = converted(), torch.randn(2, 4, 9, 8)
    other = network()
    convert_like(other, saved(model))
    assert repr(other) == repr(model)
    other.load_state_dict(saved(model))
    assert torch.equal(other(x), model(x))
    assert torch.equal(other.state_dict()[KEY], model.state_dict()[KEY])


def test_it_travels_with_copies_and_within_other_models():
    model = copy.deepcopy(tnn.Sequential(converted()))
    assert f"0.{KEY}" in model.state_dict()
    model.load_state_dict(saved(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    torch.load(file, weights_only=False).load_state_dict(saved(model))
    assert KEY not in to_standard(model[0]).state_dict()
    with pytest.raises(RuntimeError, match=f'Unexpected key.*"0.{KEY}"'):
        to_standard(model).load_state_dict(saved(model))


@pytest.mark.parametrize("strict", [True, False])
def test_states_of_other_models_do_not_load(strict):
    other = network()
    convert(other, Rule("xsepconv", "1"))
    state = {KEY: converted().state_dict()[KEY]}
    with pytest.raises(RuntimeError, match=f"{KEY}: the state is of a model converted otherwise .*0 to c2sp"):
        other.load_state_dict(state, strict=strict)
    with pytest.raises(RuntimeError, match=r"1\.weight is of the layer before convert\(\)"):
        other.load_state_dict(network().state_dict(), strict=strict)
    with pytest.raises(RuntimeError, match=f"{KEY} of state_dict cannot be read"):
        other.load_state_dict({KEY: torch.zeros(3)}, strict=strict)


def test_an_unconverted_model_names_it():
    with pytest.raises(RuntimeError, match=f'Unexpected key.*"{KEY}"'):
        network().load_state_dict(converted().state_dict())


def test_states_without_a_record_load():
    model = converted()
    state = {name: value for name, value in model.state_dict().items() if name != KEY}
    other = converted()
    other.load_state_dict(state)
    assert torch.equal(other(torch.ones(1, 4, 5, 5)), model(torch.ones(1, 4, 5, 5)))


def test_no_record_where_nothing_was_converted():
    model = network()
    convert(model, "c2sp", dry_run=True)
    with pytest.raises(ValueError, match="takes no layer"):
        convert(model, "c2sp", Rule("doconv", "none"))
    assert KEY not in model.state_dict()
    with pytest.raises(ValueError, match=f"state_dict has no '{KEY}'; accepted is the state of a model that was conv"):
        convert_like(model, model.state_dict())


def test_functions_cannot_be_repeated():
    model = network()
    convert(model, Rule(lambda layer: tnn.Identity(), "3"))
    model.load_state_dict(saved(model))
    with pytest.raises(ValueError, match="layer '3' was replaced by a function"):
        convert_like(network(), model.state_dict())


def test_another_architecture_stays_as_it_was():
    other = tnn.Sequential(tnn.Conv2d(4, 8, 3, 2, padding=1), tnn.Conv2d(8, 8, 5, padding=2, groups=8))
    shown = repr(other)
    with pytest.raises(ValueError, match="model has no convolution '2', which the state's was converted at"):
        convert_like(other, converted().state_dict())
    assert repr(other) == shown
    assert KEY not in other.state_dict()


@pytest.mark.parametrize(
    "record",
    [
        encoded(5),
        encoded([5]),
        encoded([[{"layer": "1"}]]),
        encoded([[{"layer": 1, "to": "c2sp"}]]),
        encoded([[{"layer": "1", "to": ["c2sp"]}]]),
        encoded([[{"layer": "1", "to": "xsepconv", "directions": "up"}]]),
        encoded([[{"layer": "1", "to": "c3sp"}]]),
        torch.tensor(list(b"[" * 100_000), dtype=torch.uint8),
        torch.tensor([255, 0], dtype=torch.uint8),
        torch.zeros(2, 2, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.uint8).expand(1 << 40),
        torch.zeros(4, dtype=torch.uint8, device="meta"),
        "[]",
    ],
    ids=range(13),
)
def test_records_that_are_none(record):
    model = network()
    with pytest.raises(ValueError, match=r"cannot be read|to is 'c3sp'"):
        convert_like(model, {KEY: record})
    assert repr(model) == repr(network())
