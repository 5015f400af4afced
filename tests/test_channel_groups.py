"""Channel groups: directions and sizes in the state, in copies made from attributes, and through pruning."""

import copy
import io
import pickle

import definition
import pytest
import torch
import torch.nn.functional as F
from torch import nn as tnn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evenconv_cuda import apply_padding_plan, nn, to_standard, use_backend

MIXED = ("TL", "BR", "TR", "BL")
LAYERS = {
    "EvenConv2d": lambda c, **options: nn.EvenConv2d(c, 8, 2, **options),
    "C4sp": lambda c, **options: nn.C4sp(c, 8, **options),
    "EvenDepthwiseConv2d": lambda c, **options: nn.EvenDepthwiseConv2d(c, c, 4, **options),
    "XSepConv2d": lambda c, **options: nn.XSepConv2d(c, c, 5, **options),
    "XSepConv2dNormActivation": lambda c, **options: nn.XSepConv2dNormActivation(c, c, 5, **options),
    "DOEvenConv2d": lambda c, **options: nn.DOEvenConv2d(c, 8, 2, **options),
}


@pytest.fixture(params=LAYERS)
def make(request):
    return lambda channels=7, **options: randomised(LAYERS[request.param](channels, **options))


def randomised(layer):
    with torch.no_grad():
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if tensor.is_floating_point() and name != "d_diag":
                tensor.uniform_(0.2, 1)
    return layer.double().eval()


def map_of(channels):
    return torch.randn(2, channels, 6, 5, dtype=torch.float64)


def pads(layer, channels):
    """The corner that each channel pads towards: away from where a pulse in that channel alone moves."""
    corners = []
    for channel in range(channels):
        pulse = torch.zeros(1, channels, 13, 13, dtype=torch.float64)
        still = layer(pulse)
        pulse[:, channel, 6, 6] = 1
        moved = (layer(pulse) - still).abs().sum((0, 1)).nonzero().double().mean(0)
        corners.append(("B" if moved[0] < 6 else "T") + ("R" if moved[1] < 6 else "L"))
    return corners


@pytest.mark.parametrize("directions", ["TR", MIXED])
def test_a_state_of_other_directions_is_refused(make, directions):
    model = tnn.Sequential(tnn.Identity(), make(directions=directions))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    same = tnn.Sequential(tnn.Identity(), make(directions=directions))
    x = map_of(7)
    for assign in (False, True):
        same.load_state_dict(state, assign=assign)
        assert torch.equal(same(x), model(x))
    other = tnn.Sequential(tnn.Identity(), make(directions="BL"))
    before = copy.deepcopy([*other[1].parameters(recurse=False)])
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"1: the state has directions .*T.*, the layer directions \('BL'"):
            other.load_state_dict(state, strict=strict)
        assert all(map(torch.equal, other[1].parameters(recurse=False), before))


def test_states_of_older_versions_load(make):
    layer, other = make(), make()
    state = {name: value for name, value in layer.state_dict().items() if name != "_extra_state"}
    other.load_state_dict(state)
    assert torch.equal(other(x := map_of(7)), layer(x))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(dict([*state.items()][1:]))


def test_a_pickled_layer_of_an_older_version():
    layer = nn.C2sp(6, 8, directions="TL")
    old = {
        name: value for name, value in layer.__dict__.items() if not name.startswith(("_directions", "_group", "_ch"))
    }
    twin = nn.C2sp.__new__(nn.C2sp)
    twin.__setstate__(old | {"directions": ("TL",) * 4, "padding": "same"})
    assert repr(twin) == repr(layer)
    assert twin.group_sizes == (2, 2, 1, 1)


def test_the_pad_has_its_state_too():
    state = nn.SymmetricPad2d(2, "TL").state_dict()
    nn.SymmetricPad2d(2, "TL").load_state_dict(state)
    nn.SymmetricPad2d(2, "TL").load_state_dict({})
    with pytest.raises(RuntimeError, match="SymmetricPad2d: the state has"):
        nn.SymmetricPad2d(2).load_state_dict(state)


@pytest.mark.parametrize("state", [torch.zeros(3), torch.tensor([9, 0, 0, 0]), "BR", torch.zeros(2, 4)], ids=str)
def test_a_state_that_is_none(state):
    with pytest.raises(RuntimeError, match=r"(?s)_extra_state is .* accepted are the numbers of four directions"):
        nn.SymmetricPad2d(2).load_state_dict({"_extra_state": state})


def test_the_plan_travels():
    def network():
        return tnn.Sequential(*(nn.XSepConv2d(8, 8, 3) for _ in range(3)))

    planned = network()
    apply_padding_plan(planned)
    with pytest.raises(RuntimeError, match="1: the state has directions") as refused:
        network().load_state_dict(planned.state_dict())
    assert "2: the state has directions ('BR', 'TL', 'BL', 'TR') of group sizes (2, 2, 2, 2)" in str(refused.value)


def test_the_state_is_where_the_layer_is(make):
    layer = make()
    assert all(isinstance(value, torch.Tensor) for value in layer.state_dict().values())
    assert layer.to("meta").state_dict()["_extra_state"].is_meta
    make().load_state_dict(make().to("meta").state_dict() | make().state_dict())
    program = torch.export.export(tnn.Sequential(make()), (x := map_of(7),))
    assert program.module()(x).shape == make()(x).shape


@pytest.mark.parametrize("sizes", [(0, 3, 4, 0), (1, 1, 1, 4), (7, 0, 0, 0)], ids=str)
def test_group_sizes(make, sizes):
    layer, x = make(directions=MIXED, group_sizes=sizes), map_of(7)
    wanted = [direction for direction, size in zip(MIXED, sizes) for _ in range(size)]
    assert pads(layer, 7) == wanted
    torch.testing.assert_close(to_standard(layer)(x), layer(x))
    y = layer(x)
    with use_backend("reference"):
        torch.testing.assert_close(layer(x), y)
    assert f"group_sizes={sizes}" in repr(layer)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    assert torch.equal(twin(x), layer(x))
    make(directions=MIXED, group_sizes=sizes).load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match=f"of group sizes \\({sizes[0]}, "):
        make(directions=MIXED).load_state_dict(layer.state_dict())


def test_group_sizes_of_a_pad():
    x, sizes = map_of(7), (0, 3, 4, 0)
    layer = nn.SymmetricPad2d(2, MIXED, sizes)
    padded = torch.cat(
        [definition.symmetric_pad2d(x[:, :3], 2, "BR"), definition.symmetric_pad2d(x[:, 3:], 2, "TR")], 1
    )
    assert torch.equal(layer(x), padded)
    assert torch.equal(to_standard(layer)(x), padded)
    assert torch.equal(to_standard(nn.SymmetricPad2d(2))(x), nn.SymmetricPad2d(2)(x))


@pytest.mark.parametrize("sizes", [(1, 2, 3), (4, 4, -1, 0), (2, 2, 2, 2), 7, (1.0, 2, 2, 2)], ids=str)
def test_sizes_that_do_not_fit(sizes):
    with pytest.raises(ValueError, match=r"group_sizes is .*; accepted are four whole numbers from 0 that sum to .* 7"):
        nn.C2sp(7, 8, group_sizes=sizes)


def test_compiles_with_any_groups(make):
    torch._dynamo.reset()
    layer = make(directions=MIXED, group_sizes=(1, 1, 1, 4))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x := map_of(7)), layer(x))


def test_a_pruned_layer_is_the_whole_one_with_the_other_channels_zero(make):
    whole = make(
        16, directions=MIXED, **({"bias": True} if "bias" in dir(make(16)) and make(16).bias is not None else {})
    )
    pruned, x = copy.deepcopy(whole), map_of(16)
    keep, out = [4, 5, 6, 11, 12, 15], [0, 3, 7]
    depthwise = whole.groups != 1
    nn.prune(pruned, keep, keep if depthwise else torch.tensor(out))
    zeroed = torch.zeros_like(x)
    zeroed[:, keep] = x[:, keep]
    expected = whole(zeroed)[:, keep if depthwise else out]
    torch.testing.assert_close(pruned(x[:, keep]), expected)
    torch.testing.assert_close(to_standard(pruned)(x[:, keep]), expected)
    assert pruned.group_sizes == (0, 3, 1, 2)
    assert (pruned.in_channels, pruned.out_channels) == (6, 6 if depthwise else 3)
    assert pruned.groups == (6 if depthwise else 1)
    again = copy.deepcopy(pruned)
    nn.prune(again, [1, 2, 3])
    assert again.group_sizes == (0, 2, 1, 0)
    pruned(x[:, keep]).sum().backward()


def test_pruning_a_separated_layer_and_a_do_conv():
    layer, x = nn.SeparableDepthwiseConv2d(6, 6, 3), torch.randn(1, 6, 5, 5)
    expected = layer(x)[:, [1, 4]]
    nn.prune(layer, keep_out=[1, 4])
    torch.testing.assert_close(layer(x[:, [1, 4]]), expected)
    for groups in (1, 6):
        layer = nn.DOConv2d(6, 6, 3, groups=groups)
        torch.nn.init.normal_(layer.D)
        x[:, [0, 2, 3, 5]] = 0
        expected = layer(x)[:, [1, 4]]
        nn.prune(layer, [1, 4], [1, 4])
        torch.testing.assert_close(layer(x[:, [1, 4]]), expected)


@pytest.mark.parametrize(
    ("layer", "keep", "error"),
    [
        (tnn.Conv2d(4, 4, 3), {"keep_in": [1]}, "layer is a Conv2d; accepted are the convolutions of evenconv_cuda.nn"),
        (nn.C2sp(4, 4), {"keep_in": [2, 1]}, r"keep_in is \[2, 1\]; accepted are numbers of channels below 4"),
        (nn.C2sp(4, 4), {"keep_out": []}, r"keep_out is \[\]"),
        (nn.C2sp(4, 4), {"keep_out": [4]}, r"keep_out is \[4\]"),
        (nn.C2sp(4, 4), {"keep_out": torch.tensor([True, False])}, "keep_out is tensor"),
        (nn.XSepConv2d(4, 4, 3), {"keep_in": [1], "keep_out": [2]}, "accepted are equal ones"),
        (nn.DOConv2d(4, 4, 3, groups=2), {"keep_in": [1]}, "groups=2; accepted are dense and depthwise"),
        (
            nn.XSepConv2dNormActivation(4, 4, 3, norm_layer=lambda n: tnn.GroupNorm(2, n)),
            {"keep_in": [1]},
            "normalises by GroupNorm",
        ),
    ],
)
def test_prune_refuses(layer, keep, error):
    before = repr(layer)
    with pytest.raises((ValueError, TypeError), match=error):
        nn.prune(layer, **keep)
    assert repr(layer) == before


@pytest.mark.parametrize("name", ["C4sp", "EvenDepthwiseConv2d", "XSepConv2d", "DOEvenConv2d"])
def test_channels_taken_by_hand_are_noticed(name):
    layer = randomised(LAYERS[name](16, directions=MIXED))
    for name, parameter in [*layer.named_parameters(), *layer.named_buffers()]:
        axis = int(layer.groups == 1 and name in ("weight", "W"))
        if layer.groups != 1 or name != "bias":
            kept = parameter.detach().narrow(axis, 4, 12)
            setattr(layer, name, tnn.Parameter(kept) if isinstance(parameter, tnn.Parameter) else kept)
    layer.in_channels = 12
    with pytest.raises(ValueError, match=r"group_sizes is \(4, 4, 4, 4\), .* 12 input channels; .*nn\.prune"):
        layer(map_of(12))


def test_a_conv2d_made_from_its_attributes_is_refused(make):
    layer, x = make(directions="TL"), map_of(7)
    with pytest.raises(ValueError, match="Invalid padding string 'even kernel, directions TL'"):
        tnn.Conv2d(7, 8, layer.kernel_size, layer.stride, layer.padding)
    weight = torch.zeros(8, 7, *layer.kernel_size, dtype=x.dtype)
    with pytest.raises(RuntimeError, match="Invalid padding string: 'even kernel, directions TL'"):
        F.conv2d(x, weight, None, layer.stride, layer.padding)
    layer.directions = MIXED
    assert layer.padding == "even kernel, directions TL BR TR BL"


@pytest.mark.parametrize("options", [{"directions": "TL"}, {"directions": MIXED, "group_sizes": (0, 3, 4, 0)}], ids=str)
def test_a_layer_made_from_the_attributes_of_another(make, options):
    layer = make(stride=2, **options)
    arguments = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
    twin = type(layer)(*arguments, layer.dilation, layer.groups).double().eval()
    assert (twin.directions, twin.group_sizes) == (layer.directions, layer.group_sizes)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(x := map_of(7)), layer(x))
    with pytest.raises(ValueError, match=r"directions is 'BL', padding .*; accepted is one of them, or equal ones"):
        type(layer)(*arguments, directions="BL")


@pytest.mark.parametrize("directions", ["TL", MIXED])
def test_batch_norm_fuses_into_the_layers_that_are_conv2d(directions):
    for layer in (nn.C2sp(7, 8), nn.C4sp(7, 8, bias=False), nn.EvenDepthwiseConv2d(7, 7, 2)):
        layer.directions = directions
        norm = randomised(tnn.BatchNorm2d(layer.out_channels))
        layer, x = layer.double().eval(), map_of(7)
        torch.testing.assert_close(fuse_conv_bn_eval(layer, norm)(x), norm(layer(x)))


def test_half_of_an_odd_kernel_is_its_padding():
    for kind in (nn.SeparableDepthwiseConv2d, nn.XSepConv2d, nn.XSepConv2dNormActivation):
        for padding in (2, (2, 2), [2, 2], "same"):
            assert kind(6, 6, 5, 1, padding).padding == kind(6, 6, 5).padding
        with pytest.raises(ValueError, match="padding is 1; accepted is 'same' and kernel_size // 2, 2"):
            kind(6, 6, 5, 1, 1)
    assert nn.SeparableDepthwiseConv2d(6, 6, 5).padding == "same"
    for kind in (nn.EvenConv2d, nn.C2sp, nn.DOEvenConv2d, nn.EvenDepthwiseConv2d):
        with pytest.raises(ValueError, match="padding is 1; accepted is 'same', where `directions` say"):
            kind(6, 6, 2, 1, 1)


def test_c2sp_takes_its_kernel_size():
    assert (nn.C2sp(6, 8, 2, 2).stride, nn.C4sp(6, 8, (4, 4)).kernel_size) == ((2, 2), (4, 4))
    with pytest.raises(ValueError, match="kernel_size is 3; accepted is 2"):
        nn.C2sp(6, 8, 3)
