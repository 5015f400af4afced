"""DO-Conv: the authors' definition, its identity at the start, folding, gradients, checkpoints."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn as tnn

from evenconv_cuda import nn, use_backend

FORMS = {
    "dense": {"in_channels": 6, "out_channels": 8, "kernel_size": 3, "padding": 1},
    "oblong": {"in_channels": 6, "out_channels": 8, "kernel_size": (3, 5), "stride": 2, "padding": (0, 2)},
    "grouped": {"in_channels": 6, "out_channels": 9, "kernel_size": 3, "groups": 3, "dilation": 2},
    "depthwise": {"in_channels": 6, "out_channels": 6, "kernel_size": 5, "groups": 6, "padding": 2},
    "multiplied": {"in_channels": 6, "out_channels": 12, "kernel_size": 3, "groups": 6},
    "reflected": {"in_channels": 6, "out_channels": 4, "kernel_size": 3, "padding": (1, 2), "padding_mode": "reflect"},
    "same": {"in_channels": 6, "out_channels": 4, "kernel_size": 4, "padding": "same", "padding_mode": "circular"},
    "pointwise": {"in_channels": 6, "out_channels": 4, "kernel_size": 1},
}


@pytest.fixture(params=FORMS)
def options(request):
    return FORMS[request.param]


@pytest.fixture
def x():
    return torch.randn(2, 6, 9, 8, dtype=torch.float64)


def trained(layer):
    """D and W away from where they start."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.double()


def kernel_by_definition(layer):
    """K[o, i] = (D + d_diag)[input channel of (o, i)] @ W[o, i], element by element."""
    outputs, inputs, S = layer.W.shape
    M, N = layer.kernel_size
    kernel = torch.zeros(outputs, inputs, M * N, dtype=layer.W.dtype)
    for o in range(outputs):
        group = o // (outputs // layer.groups)
        for i in range(inputs):
            for tap in range(M * N):
                for s in range(S):
                    diagonal = 1.0 if s % (M * N) == tap and s < S // (M * N) * M * N else 0.0
                    depthwise = layer.D[group * inputs + i, tap, s] if M * N > 1 else 0.0
                    kernel[o, i, tap] += (depthwise + diagonal) * layer.W[o, i, s]
    return kernel.view(outputs, inputs, M, N)


def test_starts_as_conv2d(options, x):
    torch.manual_seed(3)
    layer = nn.DOConv2d(**options, dtype=torch.float64)
    torch.manual_seed(3)
    like = tnn.Conv2d(**options, dtype=torch.float64)
    assert torch.equal(layer.weight, like.weight)
    assert torch.equal(layer.bias, like.bias)
    assert torch.equal(layer(x), like(x))


@pytest.mark.parametrize("extra", [0, 1, "twice"])
def test_kernel_and_result(options, x, extra):
    taps = tnn.Conv2d(**options).weight[0, 0].numel()
    layer = trained(nn.DOConv2d(**options, d_mul=2 * taps if extra == "twice" else taps + extra))
    kernel = kernel_by_definition(layer)
    torch.testing.assert_close(layer.weight, kernel)
    like = tnn.Conv2d(**options, dtype=torch.float64)
    with torch.no_grad():
        like.weight.copy_(kernel)
        like.bias.copy_(layer.bias)
    torch.testing.assert_close(layer(x), like(x))


def test_fold(options, x):
    layer = trained(nn.DOConv2d(**options)).eval()
    plain = layer.fold()
    assert type(plain) is tnn.Conv2d
    assert not plain.training
    assert plain.weight.is_leaf
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-12, atol=1e-12)


def test_gradients(options, x):
    layer = trained(nn.DOConv2d(**options))
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), x)

    assert torch.autograd.gradcheck(run, (x[:1].requires_grad_(), *layer.parameters()), fast_mode=True)


@pytest.mark.parametrize("kernel_size", [2, 4])
@pytest.mark.parametrize("directions", ["TL", ("BR", "TL", "BL", "TR")])
def test_even(x, kernel_size, directions):
    torch.manual_seed(3)
    layer = nn.DOEvenConv2d(6, 8, kernel_size, 2, directions=directions, dtype=torch.float64)
    torch.manual_seed(3)
    like = nn.EvenConv2d(6, 8, kernel_size, 2, directions=directions, dtype=torch.float64)
    assert torch.equal(layer(x), like(x))
    trained(layer)
    torch.testing.assert_close(layer.weight, kernel_by_definition(layer))
    plain = layer.fold()
    assert type(plain) is nn.EvenConv2d
    assert repr(plain) == repr(like)
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-12, atol=1e-12)
    with use_backend("reference"):
        torch.testing.assert_close(plain(x), layer(x), rtol=1e-12, atol=1e-12)
    layer(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_fold_follows_the_directions(x):
    layer = nn.DOEvenConv2d(6, 8, 2, dtype=torch.float64)
    layer.directions = ("TR",) * 4
    assert torch.equal(layer.fold()(x), layer(x))
    assert layer.fold().directions == ("TR",) * 4


def authors_checkpoint(out_channels, in_channels, groups, taps):
    """Keys and shapes of the authors' layers, with their frozen identity."""
    identity = torch.eye(taps).reshape(1, taps, taps).repeat(in_channels, 1, 1)
    return {
        "W": torch.randn(out_channels, in_channels // groups, taps),
        "bias": torch.randn(out_channels),
        "D": torch.randn(in_channels, taps, taps),
        "d_diag": identity,
    }


def test_authors_dense_checkpoint():
    state = authors_checkpoint(8, 6, 1, 9)
    layer = nn.DOConv2d(6, 8, 3, padding=1)
    layer.load_state_dict(state)
    kernel = torch.einsum("ims,ois->oim", state["D"] + state["d_diag"], state["W"]).reshape(8, 6, 3, 3)
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, kernel, state["bias"], padding=1))


def test_authors_depthwise_checkpoint():
    state = authors_checkpoint(6, 6, 6, 9)
    layer = nn.DOConv2d(6, 6, 3, groups=6)
    layer.load_state_dict(state)
    kernel = torch.einsum("cms,cs->cm", state["D"] + state["d_diag"], state["W"][:, 0]).reshape(6, 1, 3, 3)
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, kernel, state["bias"], groups=6))


def test_checkpoints_that_do_not_fit():
    model = tnn.Sequential(tnn.Sequential(nn.DOConv2d(6, 8, 3)))
    state = model.state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*0\.0\.D"):
        model.load_state_dict({name: value for name, value in state.items() if name != "0.0.D"})
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\).*0\.0\.E"):
        model.load_state_dict({**state, "0.0.E": torch.zeros(1)})
    plain = tnn.Sequential(tnn.Sequential(tnn.Conv2d(6, 8, 3))).state_dict()
    with pytest.raises(RuntimeError, match=r"0\.0\.weight is a plain convolution's; accepted are 0\.0\.W"):
        model.load_state_dict(plain)


def test_attributes_and_copies(options, x):
    layer = trained(nn.DOConv2d(**options))
    like = tnn.Conv2d(**options)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(layer, name) == getattr(like, name), name
        assert f"{getattr(layer, name)}" in repr(layer)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))


def test_the_identity_is_no_parameter():
    layer = nn.DOConv2d(6, 8, 3, bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["W", "D"]
    assert set(layer.state_dict()) == {"W", "D", "d_diag"}


def test_autocast_folds_in_full_precision(x):
    layer, x = trained(nn.DOConv2d(6, 8, 3)).float(), x.float()
    exact = layer.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, exact)
        assert layer(x).dtype == torch.bfloat16


def test_compile(options, x):
    torch._dynamo.reset()
    layer = trained(nn.DOConv2d(**options))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize("d_mul", [8, 0, 9.0, True])
def test_bad_d_mul(d_mul):
    with pytest.raises(ValueError, match=r"d_mul is .*accepted are None and whole numbers from M \* N = 9"):
        nn.DOConv2d(6, 8, 3, d_mul=d_mul)


@pytest.mark.parametrize("channels", [(6, 8, 1), (8, 6, 1), (16, 8, 2), (8, 8, 8)], ids=str)
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_kernels_of_any_channels(channels, kernel_size):
    layer = trained(nn.DOConv2d(*channels[:2], kernel_size, groups=channels[2]))
    torch.testing.assert_close(layer.weight, kernel_by_definition(layer))
    assert layer.weight.is_contiguous()


WRITES = {
    "data.normal_": lambda layer: layer.weight.data.normal_(),
    "init.normal_": lambda layer: tnn.init.normal_(layer.weight, 0, 0.02),
    "init of data": lambda layer: tnn.init.xavier_uniform_(layer.weight.data),
    "a view": lambda layer: layer.weight.detach()[0].view(-1).zero_(),
    "setitem": lambda layer: layer.weight.data.__setitem__(0, 1.0),
    "setter": lambda layer: setattr(layer.weight, "data", torch.zeros(8, 6, 3, 3)),
    "copy_": lambda layer: layer.weight.copy_(torch.zeros(8, 6, 3, 3)),
    "out": lambda layer: torch.zeros((8, 6, 3, 3), out=layer.weight),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("kind", [nn.DOConv2d, nn.DOEvenConv2d])
def test_a_write_that_would_be_lost_is_refused(kind, write):
    layer = kind(6, 8, 3 if kind is nn.DOConv2d else 2)
    before = layer.weight.clone()
    with torch.no_grad(), pytest.raises(RuntimeError, match="writes into a weight that is computed from W and D"):
        write(layer)
    assert torch.equal(layer.weight, before)


def test_a_write_into_a_pointwise_weight_is_one_into_w(x):
    layer = nn.DOConv2d(6, 4, 1)
    layer.weight.data.fill_(2)
    assert torch.equal(layer.W, torch.full((4, 6, 1), 2.0))


def test_what_is_read_of_the_weight_is_a_tensor_of_its_own():
    layer = trained(nn.DOConv2d(6, 8, 3))
    parameter = tnn.Parameter(layer.weight)
    with torch.no_grad():
        parameter.add_(1)
    assert type(layer.weight * 2) is type(layer.weight.clone()) is torch.Tensor
    layer.weight.square().sum().backward()
    assert layer.D.grad.abs().sum() > 0

    def result(W):
        return torch.func.functional_call(layer, {"W": W}, torch.ones(1, 6, 3, 3, dtype=W.dtype)).sum()

    assert torch.func.grad(result)(layer.W).any()


@pytest.mark.parametrize("extra", [0, 1, "twice"])
def test_an_assigned_weight_is_the_weight(options, x, extra):
    like = tnn.Conv2d(**options, dtype=torch.float64)
    taps = like.weight[0, 0].numel()
    layer = trained(nn.DOConv2d(**options, d_mul=2 * taps if extra == "twice" else taps + extra))
    layer.weight, layer.bias = like.weight, like.bias
    torch.testing.assert_close(layer(x), like(x))
    assert "weight" not in dict(layer.named_parameters())
    with pytest.raises(ValueError, match=r"weight has shape \(1, 1\); accepted is"):
        layer.weight = torch.zeros(1, 1)


def test_batch_norm_fuses(options, x):
    layer, norm = trained(nn.DOConv2d(**options)).eval(), tnn.BatchNorm2d(options["out_channels"]).double().eval()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    torch.testing.assert_close(torch.nn.utils.fusion.fuse_conv_bn_eval(layer, norm)(x), norm(layer(x)))


def test_parameters_cast_without_their_buffers():
    """As FSDP2 casts what a layer computes with: parameters and inputs, no buffers."""
    layer = trained(nn.DOConv2d(6, 8, 3)).float()
    exact = kernel_by_definition(copy.deepcopy(layer).double())
    for name in ("W", "D", "bias"):
        setattr(layer, name, tnn.Parameter(getattr(layer, name).detach().bfloat16()))
    assert layer(torch.randn(1, 6, 5, 5, dtype=torch.bfloat16)).dtype == layer.weight.dtype == torch.bfloat16
    assert (layer.weight - exact).abs().max() < 0.05 * exact.abs().max()


def test_small_factors_are_not_lost_in_half_precision():
    layer = nn.DOConv2d(4, 4, 3).bfloat16()
    tnn.init.constant_(layer.D, 0.001)  # beside the identity's 1 less than half a unit in the last place
    tnn.init.ones_(layer.W)
    assert torch.equal(layer.weight, torch.full_like(layer.W, 1.009).unflatten(2, (3, 3)))


def test_authors_checkpoint_of_before_july_2022():
    state = authors_checkpoint(8, 6, 1, 9)
    layers = [tnn.Sequential(nn.DOConv2d(6, 8, 3)) for _ in range(2)]
    layers[0].load_state_dict({f"0.{name}": value for name, value in state.items()})
    layers[1].load_state_dict({f"0.{name.replace('d_', 'D_')}": value for name, value in state.items()})
    assert torch.equal(layers[0][0].weight, layers[1][0].weight)


class Folds(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts how often a kernel is composed."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.name() == "aten::bmm"
        return function(*args, **(kwargs or {}))


def folds(layer, x, times=1):
    with Folds() as folds:
        for _ in range(times):
            layer(x)
    return folds.count


def test_inference_folds_once(x):
    layer = trained(nn.DOConv2d(6, 8, 3)).eval()
    with torch.inference_mode():
        assert folds(layer, x, 3) == 1
    assert folds(layer, x, 2) == 2
    with torch.inference_mode():
        assert folds(layer, x) == 0
        assert folds(copy.deepcopy(layer), x) == 1
        layer.train()
        assert folds(layer, x, 2) == 2
        layer.eval()
        assert torch.equal(layer(x), layer.train()(x))


CHANGES = {
    "in place": lambda layer: layer.W.detach().add_(1),
    "optimizer": lambda layer: torch.optim.SGD([layer.D], 1.0).step(),
    "assigned": lambda layer: setattr(layer, "weight", torch.ones(8, 6, 3, 3)),
    "loaded": lambda layer: layer.load_state_dict(trained(nn.DOConv2d(6, 8, 3)).state_dict()),
    "loaded in place": lambda layer: layer.load_state_dict(trained(nn.DOConv2d(6, 8, 3)).state_dict(), assign=True),
    "data set": lambda layer: setattr(layer.D, "data", layer.D.data + 1),
    "data and mode": lambda layer: (layer.train(), layer.W.data.add_(1), layer.eval()),
    "cast": lambda layer: layer.float().double(),
    "cast and changed": lambda layer: (layer.float(), layer.D.detach().add_(1), layer.double()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_kept_kernel_follows_its_factors(x, change):
    layer = trained(nn.DOConv2d(6, 8, 3)).eval()
    layer.D.grad = torch.ones_like(layer.D)
    with torch.inference_mode():
        layer(x)
    change(layer)
    fresh = F.conv2d(x, kernel_by_definition(layer), layer.bias)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), fresh)
