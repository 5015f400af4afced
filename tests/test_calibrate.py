"""Running statistics estimated anew: against those of the maps that reach the normalisation."""

import pytest
import torch
from torch import nn as tnn

from evenconv_cuda import convert


def network():
    return tnn.Sequential(
        tnn.Conv2d(4, 8, 3, padding=1), tnn.Dropout(0.5), tnn.BatchNorm2d(8, momentum=0.3), tnn.BatchNorm2d(8)
    )


@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_those_of_the_batches(training):
    model = network().train(training)
    model[3].requires_grad_(False).eval()
    model[2](torch.randn(2, 8, 3, 3))
    batches = [torch.randn(5, 4, 6, 6) + shift for shift in (0, 3)]
    convert(model, "c2sp", calibrate=[batches[0], {"input": batches[1]}])
    with torch.no_grad():
        maps = [model[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(model[2].running_mean, sum(values.mean(1) for values in maps) / 2)
    torch.testing.assert_close(model[2].running_var, sum(values.var(1) for values in maps) / 2)
    torch.testing.assert_close(model[3].running_mean, torch.zeros(8), atol=1e-5, rtol=0)
    assert (model[2].momentum, model[3].momentum) == (0.3, 0.1)
    assert [layer.training for layer in model] == [training] * 3 + [False]
    assert all(parameter.grad is None for parameter in model.parameters())


BAD = {
    "other shape": (
        network,
        lambda: [torch.ones(1, 4, 5, 5), torch.ones(1, 3, 5, 5)],
        r"the model does not run on batch 2 of calibrate: .*C = 3",
    ),
    "none": (network, lambda: iter(()), r"calibrate has no batch; accepted is at least one"),
    "no statistics": (
        lambda: tnn.Sequential(tnn.Conv2d(4, 8, 3, padding=1), tnn.BatchNorm2d(8, track_running_stats=False)),
        lambda: [torch.ones(1, 4, 5, 5)],
        r"calibrate is given for a model without running statistics",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_refusal_changes_nothing(case):
    make, batches, message = BAD[case]
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        convert(model, "c2sp", calibrate=batches())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_a_loader_that_fails_changes_nothing():
    def loader():
        yield torch.ones(2, 4, 5, 5)
        raise OSError("no such file")

    model = network()
    with pytest.raises(OSError, match="no such file"):
        convert(model, "c2sp", calibrate=loader())
    assert not model[2].running_mean.any()
    assert type(model[0]) is tnn.Conv2d


def test_a_dry_run_takes_no_batch():
    batches = iter([torch.ones(1, 4, 5, 5)])
    convert(network(), "c2sp", calibrate=batches, dry_run=True)
    assert len(list(batches)) == 1
