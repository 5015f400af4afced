"""profile: against counts by hand, against what autograd really keeps."""

import dataclasses

import pytest
import torch
from torch import nn as tnn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from evenconv_cuda import apply_padding_plan, nn, profile, use_backend
from evenconv_cuda.text import table

SIZE = (2, 6, 9, 8)
LAYERS = {
    "Conv2d": (lambda: tnn.Conv2d(6, 8, 3, 2, 1), 6 * 8 * 9 + 8, 2 * 5 * 4 * 8 * 6 * 9),
    "C2sp": (lambda: nn.C2sp(6, 8), 6 * 8 * 4 + 8, 2 * 72 * 8 * 6 * 4),
    "C4sp": (lambda: nn.C4sp(6, 8, stride=2, bias=False), 6 * 8 * 16, 2 * 20 * 8 * 6 * 16),
    "EvenDepthwise": (lambda: nn.EvenDepthwiseConv2d(6, 6, 4), 6 * 17, 2 * 72 * 6 * 16),
    "Separable": (lambda: nn.SeparableDepthwiseConv2d(6, 6, 5, (2, 1)), 6 * 12, 2 * 6 * (72 * 5 + 40 * 5)),
    "XSepConv": (lambda: nn.XSepConv2d(6, 6, 7, bias=False), 6 * 18, 2 * 6 * 72 * 18),
    "XSepConv/2": (lambda: nn.XSepConv2d(6, 6, 7, 2, bias=False), 6 * 18, 2 * 6 * (72 * 4 + 36 * 7 + 20 * 7)),
    "DOConv": (lambda: nn.DOConv2d(6, 8, 3, bias=False), 6 * 8 * 9 + 6 * 81, 2 * 42 * 8 * 6 * 9 + 8 * 6 * 81),
    "DOConv 1×1": (lambda: nn.DOConv2d(6, 8, 1), 6 * 8 + 8, 2 * 72 * 8 * 6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_params_and_macs(name):
    make, params, macs = LAYERS[name]
    layer = make()
    for found in (profile(layer, SIZE), profile(tnn.Sequential(tnn.ReLU(), layer), SIZE)):
        assert (found.params, found.macs) == (params, macs)
    with use_backend("reference"):
        assert profile(layer, SIZE).macs == macs


def test_the_layers_by_name():
    model = tnn.Sequential(nn.C2sp(6, 8), tnn.Sequential(tnn.ReLU(), nn.XSepConv2d(8, 8, 3, 2)), tnn.Flatten())
    found = profile(model, SIZE)
    assert [(layer.name, layer.type) for layer in found.layers] == [
        ("0", "C2sp"),
        ("1.0", "ReLU"),
        ("1.1", "XSepConv2d"),
    ]
    assert found.layers[2].output_shape == (2, 8, 5, 4)
    assert found.within("1").params == found.within("1.1").params == 8 * (10 + 3)
    assert found.within("1").macs + found.within("0").macs == found.macs
    assert found.within("none").layers == ()
    assert found.within("") == found


def bytes_kept(model, x):
    """Storages that autograd keeps of a real forward, without those of parameters and buffers."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        y = model(x)
    del y
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_bytes_are_those_of_a_real_forward(backend, dtype):
    model = tnn.Sequential(
        nn.C2sp(6, 8),
        tnn.BatchNorm2d(8),
        tnn.ReLU(),
        nn.XSepConv2d(8, 8, 5),
        tnn.Dropout(0.5),
        nn.DOConv2d(8, 8, 3),
        nn.EvenDepthwiseConv2d(8, 8, 2, 2),
        nn.SeparableDepthwiseConv2d(8, 8, 3),
    ).to(dtype)
    with use_backend(backend):
        assert profile(model, SIZE).saved_bytes == bytes_kept(model, torch.randn(SIZE, dtype=dtype))


def test_fusion_keeps_less():
    layer = nn.XSepConv2d(6, 6, 7, bias=False)
    with use_backend("reference"):
        reference = profile(layer, SIZE).saved_bytes
    fused = profile(layer, SIZE).saved_bytes
    assert fused == 2 * 6 * 9 * 8 * 4
    assert reference >= 3 * fused


def test_the_model_is_left_as_it_was():
    model = tnn.Sequential(nn.XSepConv2d(6, 6, 3), tnn.BatchNorm2d(6)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        assert profile(model, SIZE).saved_bytes > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_shared_parameters_count_once():
    layer = nn.C2sp(6, 6)
    found = profile(tnn.Sequential(layer, layer), SIZE)
    assert found.params == 6 * 6 * 4 + 6
    assert found.macs == 2 * 2 * 72 * 6 * 6 * 4
    tied = tnn.Sequential(nn.C2sp(6, 6, bias=False), nn.C2sp(6, 6, bias=False))
    tied[1].weight = tied[0].weight
    assert profile(tied, SIZE).params == 6 * 6 * 4


def test_functions_outside_of_layers_count_with_their_module():
    class Product(tnn.Module):
        def forward(self, x):
            return x @ x.mT

    assert profile(tnn.Sequential(Product()), SIZE).macs == 2 * 6 * 9 * 9 * 8


class Held(tnn.Module):
    """Tensors that are neither parameters nor buffers, and ones made in the forward."""

    def __init__(self):
        super().__init__()
        self.scale = torch.ones(6, 1, 1)

    def forward(self, x):
        return x * self.scale + torch.arange(8)


def test_tensors_that_no_module_lists():
    assert profile(tnn.Sequential(Held(), nn.C2sp(6, 8)), SIZE).macs == 2 * 72 * 8 * 6 * 4


def test_hooks_of_the_model_do_not_run():
    layer, seen = nn.C2sp(6, 8), []
    layer.register_forward_hook(lambda *arguments: seen.append(arguments))
    profile(layer, SIZE)
    assert not seen
    layer(torch.randn(SIZE))
    assert len(seen) == 1


def test_one_normalised_pixel():
    model = tnn.Sequential(tnn.AdaptiveAvgPool2d(1), tnn.BatchNorm2d(6))
    assert profile(model, (1, 6, 4, 4)).saved_bytes > 0


def test_table():
    text = str(profile(tnn.Sequential(nn.C2sp(6, 8)), SIZE))
    title, row, total = text.splitlines()
    assert title.split() == ["layer", "type", "output", "params", "MACs", "saved", "bytes"]
    assert row.split()[:5] == ["0", "C2sp", "2×8×9×8", "200", "27,648"]
    assert total.split()[:3] == ["total", "200", "27,648"]
    assert table([("a", "", 1), ("bb", "c", 1000)], text=2) == "a            1\nbb   c   1,000"


@pytest.mark.parametrize("make", [LAYERS["XSepConv/2"][0], LAYERS["EvenDepthwise"][0], LAYERS["Separable"][0]])
def test_a_backward_costs_two_forwards(make):
    layer, x = make(), torch.randn(SIZE)
    forward = 2 * profile(layer, SIZE).macs
    for wanted, times in ((True, 3), (False, 2)):
        with FlopCounterMode(display=False) as counter:
            layer(x.requires_grad_(wanted)).sum().backward()
        assert counter.get_total_flops() == times * forward


def test_bad_input():
    with pytest.raises(ValueError, match=r"does not run on an input of input_size \(2, 5, 9, 8\)"):
        profile(nn.C2sp(6, 8), (2, 5, 9, 8))
    for size in ((), 0, [2, 6, None, 8]):
        with pytest.raises(ValueError, match=r"input_size is .*accepted is the shape of the input"):
            profile(nn.C2sp(6, 8), size)
    with pytest.raises(ValueError, match=r"input_size is 224; accepted is the shape of the input"):
        profile(nn.C2sp(6, 8), 224)


class Noting(tnn.Module):
    """Sets hooks up in its first forward and reads what they note, as models of transformers do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.XSepConv2d(6, 6, 3)
        self.ready = False

    def forward(self, x):
        if not self.ready:
            self.layer.noted = []
            self.layer.register_forward_hook(note)
            self.ready = True
        self.layer.noted.clear()
        self.layer(x)
        return self.layer.noted[-1]


def note(layer, inputs, y):
    layer.noted.append(y)


def test_a_forward_that_reads_what_hooks_note():
    model = Noting()
    before = profile(model, SIZE)
    y = model(torch.randn(SIZE))
    assert profile(model, SIZE) == before
    assert list(apply_padding_plan(model, SIZE).directions) == ["layer"]
    assert model.layer.noted[-1] is y
    with pytest.raises(ValueError, match=r"input_size \(2, 5, 9, 8\): .*C = 5"):
        profile(model, (2, 5, 9, 8))


class OnlyIn(tnn.Module):
    """A model that runs in one mode."""

    def __init__(self, mode):
        super().__init__()
        self.layer, self.norm = nn.XSepConv2d(6, 6, 3), tnn.BatchNorm2d(6, momentum=None)
        self.mode = mode
        self.train(mode)

    def forward(self, x):
        if self.training != self.mode:
            raise RuntimeError("targets are missing")
        return self.norm(self.layer(x))


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_the_users(mode):
    model = OnlyIn(mode)
    assert profile(model, SIZE).macs == 2 * 6 * 72 * 10
    assert list(apply_padding_plan(model, SIZE).directions) == ["layer"]
    assert model.training == mode


class Two(tnn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.XSepConv2d(6, 6, 3), nn.XSepConv2d(6, 6, 3)

    def forward(self, x, masks, *, reverse=False):
        first, second = (self.second, self.first) if reverse else (self.first, self.second)
        return second(first(x * masks["x"]))


def test_several_inputs():
    model, x = Two(), torch.randn(SIZE)
    for example in ((x, {"x": x}), [x, {"x": x}], {"x": x, "masks": {"x": x}}):
        assert profile(model, example_inputs=example).macs == 2 * 2 * 6 * 72 * 10
    example = {"x": x, "masks": {"x": x}, "reverse": True}
    assert list(apply_padding_plan(model, example_inputs=example).directions) == ["second", "first"]
    assert profile(nn.C2sp(6, 8), example_inputs=x) == dataclasses.replace(
        profile(nn.C2sp(6, 8), SIZE), input_size=None
    )
    with pytest.raises(ValueError, match=r"does not run on example_inputs of shapes \(2, 6, 9, 8\): .*masks"):
        profile(model, example_inputs=x)
    with pytest.raises(ValueError, match=r"input_size and example_inputs are both given; accepted is one"):
        profile(model, SIZE, example_inputs=x)
    with pytest.raises(ValueError, match=r"input_size and example_inputs are both None; accepted is one"):
        profile(model)


def test_synchronised_normalisation_in_a_process_group(tmp_path):
    model = tnn.Sequential(nn.XSepConv2d(6, 6, 3), tnn.SyncBatchNorm(6))
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        found = profile(model, SIZE)
        apply_padding_plan(model, SIZE)
    finally:
        torch.distributed.destroy_process_group()
    assert [layer.type for layer in found.layers] == ["XSepConv2d", "SyncBatchNorm"]
    assert found.saved_bytes == profile(tnn.Sequential(model[0], tnn.BatchNorm2d(6)), SIZE).saved_bytes
