"""Wrong arguments: an error that names the argument, what was given and what is accepted; never a crash."""

import pytest
import torch

import evenconv_cuda
from evenconv_cuda import functional as EF
from evenconv_cuda import nn, use_backend

x = torch.randn(2, 6, 5, 5)
even, row, col = torch.randn(6, 1, 2, 2), torch.randn(6, 1, 1, 3), torch.randn(6, 1, 3, 1)


def xsep(**changes):
    return EF.xsep_conv2d(**({"x": x, "weight_even": even, "weight_row": row, "weight_col": col} | changes))


FUNCTIONS = [
    (lambda: xsep(x=x[0, 0]), ValueError, r"x has shape \(5, 5\); accepted is \(N, C, H, W\) or \(C, H, W\)"),
    (lambda: xsep(x=x[0, :, :0]), ValueError, r"x has shape \(6, 0, 5\); accepted are C, H and W of at least 1"),
    (lambda: xsep(x=x.int()), TypeError, r"x has dtype torch.int32; accepted are torch.float32"),
    (lambda: xsep(x=x.to(torch.complex64)), TypeError, r"x has dtype torch.complex64"),
    (lambda: xsep(x=x[..., :0]), ValueError, r"x has shape \(2, 6, 5, 0\); accepted are C, H and W of at least 1"),
    (lambda: xsep(x=x[:, :0]), ValueError, r"x has shape \(2, 0, 5, 5\); accepted are C, H and W of at least 1"),
    (lambda: xsep(x=x.double()), TypeError, r"weight_even has dtype torch.float32; accepted .* is torch.float64"),
    (lambda: xsep(x=x.to("meta")), ValueError, r"weight_even is on cpu, x on meta; accepted is one device"),
    (lambda: xsep(stride=True), ValueError, r"stride is True"),
    (lambda: xsep(stride=(1.0, 2.0)), ValueError, r"stride is \(1.0, 2.0\); accepted are 1 and 2"),
    (lambda: xsep(directions=None), ValueError, r"directions is None; accepted"),
    (lambda: xsep(directions={"BR", "TL", "BL", "TR"}), ValueError, r"directions is {.*}; accepted"),
    (lambda: EF.symmetric_pad2d(x, 2.0), ValueError, r"kernel_size is 2.0; accepted are 2 and 4"),
    (lambda: xsep(x=x.half(), bias_col=torch.randn(6).half()), TypeError, r"several dtypes .*bias_col torch.float16"),
    (
        lambda: EF.even_depthwise_conv2d(x.half(), even, torch.randn(6).half()),
        TypeError,
        r"several dtypes \(weight torch.float32, bias torch.float16\)",
    ),
    (lambda: EF.even_conv2d(x.half(), x[:, :, :2, :2], torch.randn(2).half()), TypeError, r"several dtypes"),
    (lambda: EF.separable_depthwise_conv2d(x.half(), row, col.half()), TypeError, r"several dtypes"),
    (lambda: xsep(x=x.numpy()), TypeError, r"x is a ndarray; accepted is a torch.Tensor"),
    (lambda: xsep(weight_even=even[:5]), ValueError, r"weight_even has shape \(5, 1, 2, 2\); accepted is .* C = 6"),
    (lambda: xsep(weight_even=torch.randn(6, 1, 3, 3)), ValueError, r"weight_even has shape .* k = 2 or 4"),
    (lambda: xsep(weight_even=even[0]), ValueError, r"weight_even has shape \(1, 2, 2\)"),
    (lambda: xsep(weight_even=None), TypeError, r"weight_even is a NoneType"),
    (lambda: xsep(weight_row=torch.randn(6, 1, 1, 4)), ValueError, r"weight_row has shape .* K odd, 1 to 31"),
    (lambda: xsep(weight_row=torch.randn(6, 1, 1, 33)), ValueError, r"weight_row has shape .* K odd, 1 to 31"),
    (lambda: xsep(weight_col=row), ValueError, r"weight_col has shape \(6, 1, 1, 3\); accepted is \(C, 1, K, 1\)"),
    (
        lambda: xsep(weight_col=col.double()),
        TypeError,
        r"weight_col has dtype torch.float64; accepted .* torch.float32",
    ),
    (lambda: xsep(weight_col=col.to("meta")), ValueError, r"weight_col is on meta, x on cpu; accepted is one device"),
    (lambda: xsep(weight_row=row.long()), TypeError, r"weight_row has dtype torch.int64"),
    (lambda: xsep(bias_row=torch.randn(5)), ValueError, r"bias_row has shape \(5,\); accepted is \(6,\)"),
    (lambda: xsep(bias_row=torch.randn(6).half()), TypeError, r"bias_row has dtype torch.float16"),
    (lambda: xsep(stride=3), ValueError, r"stride is 3; accepted are 1 and 2"),
    (lambda: xsep(stride=(1, 2, 1)), ValueError, r"stride is \(1, 2, 1\)"),
    (lambda: xsep(stride=(1, 0)), ValueError, r"stride is \(1, 0\)"),
    (lambda: xsep(stride="1"), ValueError, r"stride is '1'"),
    (lambda: xsep(directions="TT"), ValueError, r"directions is 'TT'; accepted are one of \('BR', 'TL', 'BL', 'TR'\)"),
    (lambda: xsep(directions=("BR", "TL")), ValueError, r"directions is \('BR', 'TL'\); accepted"),
    (lambda: EF.symmetric_pad2d(x, 3), ValueError, r"kernel_size is 3; accepted are 2 and 4"),
    (lambda: EF.symmetric_pad2d(x, 2, "XX"), ValueError, r"directions is 'XX'"),
    (lambda: EF.symmetric_pad2d(x.bool(), 2), TypeError, r"x has dtype torch.bool"),
    (lambda: EF.even_conv2d(x, torch.randn(8, 5, 2, 2)), ValueError, r"weight has shape .* accepted is \(O, C, k, k\)"),
    (lambda: EF.even_conv2d(x, torch.randn(8, 6, 2, 4)), ValueError, r"weight has shape \(8, 6, 2, 4\)"),
    (lambda: EF.even_conv2d(x, torch.randn(8, 6, 2, 2), x), ValueError, r"bias has shape .* accepted is \(8,\)"),
    (lambda: EF.even_depthwise_conv2d(x, even, stride=0), ValueError, r"stride is 0; accepted are 1 and 2"),
    (lambda: EF.separable_depthwise_conv2d(x, None, None), ValueError, r"weight_row and weight_col are both None"),
    (lambda: EF.separable_depthwise_conv2d(x, row, None, None, x), ValueError, r"bias_col is given without weight_col"),
    (
        lambda: EF.xsep_conv2d(x.half(), even.half(), row, col),
        TypeError,
        r"several dtypes \(weight_even torch.float16, weight_row torch.float32",
    ),
    (
        lambda: use_backend("cuda").__enter__(),
        ValueError,
        r"name is 'cuda'; accepted are \('fused', 'reference'\)",
    ),
    (lambda: evenconv_cuda.extension.load_extension().set_cpu_isa("mmx"), ValueError, r"isa is 'mmx'; accepted"),
]


@pytest.mark.parametrize(("call", "error", "message"), FUNCTIONS, ids=range(len(FUNCTIONS)))
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_functions(call, error, message, backend):
    with use_backend(backend), pytest.raises(error, match=message):
        call()


LAYERS = [
    (lambda: nn.XSepConv2d(6, 6, 4), r"kernel_size is 4; accepted are odd numbers from 1 to 31"),
    (lambda: nn.XSepConv2d(6, 6, 33), r"kernel_size is 33"),
    (lambda: nn.XSepConv2d(6, 6, (3, 5)), r"kernel_size is \(3, 5\); accepted are an int or a pair of equal ints"),
    (lambda: nn.XSepConv2d(6, 8, 3), r"out_channels is 8; accepted is in_channels, 6"),
    (lambda: nn.XSepConv2d(6, 6, 3, groups=2), r"groups is 2; accepted is in_channels, 6"),
    (lambda: nn.XSepConv2d(6, 6, 3, 3), r"stride is 3"),
    (lambda: nn.XSepConv2d(6, 6, 3, 1, 2), r"padding is 2; accepted is 'same' and kernel_size // 2, 1"),
    (lambda: nn.XSepConv2d(6, 6, 3, directions="up"), r"directions is 'up'"),
    (lambda: nn.SeparableDepthwiseConv2d(6, 6, 2), r"kernel_size is 2"),
    (lambda: nn.SeparableDepthwiseConv2d(6, 6, 3, dilation=2), r"dilation is 2; accepted is 1"),
    (lambda: nn.EvenConv2d(6, 8, 3), r"kernel_size is 3; accepted are 2 and 4"),
    (lambda: nn.EvenConv2d(6, 6, 2, groups=6), r"groups is 6; accepted is 1"),
    (lambda: nn.EvenConv2d(6, 8, 2, padding_mode="reflect"), r"padding_mode is 'reflect'; accepted is 'zeros'"),
    (lambda: nn.EvenDepthwiseConv2d(6, 8, 2), r"out_channels is 8"),
    (lambda: nn.SymmetricPad2d(5), r"kernel_size is 5; accepted are 2 and 4"),
]


@pytest.mark.parametrize(("build", "message"), LAYERS, ids=range(len(LAYERS)))
def test_layers(build, message):
    with pytest.raises(ValueError, match=message):
        build()


ops = torch.ops.evenconv_cuda


def chain(x=x, even=even, row=row, stride=(1, 1), directions=(0, 0, 0, 0)):
    return ops.xsep_conv2d(x, even, row, col, None, None, None, stride, directions)


DISPATCHER = [
    (lambda: ops.xsep_conv2d(x[0], even, row, col, None, None, None, [1, 1], [0] * 4), r"x has shape \(6, 5, 5\)"),
    (lambda: ops.xsep_conv2d(x.int(), even, row, col, None, None, None, [1, 1], [0] * 4), r"x has dtype Int"),
    (lambda: ops.xsep_conv2d(x, even[:3], row, col, None, None, None, [1, 1], [0] * 4), r"weight_even has shape"),
    (lambda: ops.xsep_conv2d(x, even, col, row, None, None, None, [1, 1], [0] * 4), r"weight_row has shape"),
    (
        lambda: ops.xsep_conv2d(x, even.double(), row, col, None, None, None, [1, 1], [0] * 4),
        r"weight_even has dtype Double; accepted",
    ),
    (lambda: ops.xsep_conv2d(x, even, row, col, even, None, None, [1, 1], [0] * 4), r"bias of weight_even has shape"),
    (lambda: ops.xsep_conv2d(x, even, row, col, None, None, None, [1, 3], [0] * 4), r"stride is 3"),
    (lambda: ops.xsep_conv2d(x, even, row, col, None, None, None, [1, 1], [7] * 4), r"directions holds 7"),
    (lambda: ops.separable_depthwise_conv2d(x, None, None, None, None, [1, 1]), r"both None"),
    (lambda: ops.symmetric_pad2d(x, 3, [0] * 4), r"kernel_size is 3"),
    (lambda: ops.symmetric_pad2d_backward(x[:, :, :1], 2, [0] * 4), r"grad has shape"),
    (
        lambda: ops.even_depthwise_conv2d_backward(x, x, even, None, [2, 2], [0] * 4, [True] * 3),
        r"grad has shape \(2, 6, 5, 5\); accepted is \(2, 6, 3, 3\)",
    ),
    (
        lambda: ops.even_depthwise_conv2d_backward(x.double(), x, even, None, [1, 1], [0] * 4, [True] * 3),
        r"grad has dtype Double; accepted is x's, Float",
    ),
    (lambda: chain(x=x[:, :0]), r"x has shape \(2, 0, 5, 5\); accepted are C, H and W of at least 1"),
    (lambda: chain(x=x.to("meta")), r"weight_even is on cpu, x on meta; accepted is one device"),
    (lambda: chain(row=row.to("meta")), r"weight_row is on meta, x on cpu; accepted is one device"),
    (lambda: chain(row=torch.randn(6, 1, 1, 4)), r"weight_row has shape \(6, 1, 1, 4\); accepted is .* K odd, 1 to 31"),
    (lambda: chain(row=torch.randn(6, 1, 1, 33)), r"weight_row has shape \(6, 1, 1, 33\)"),
    (lambda: chain(x=x.half(), row=row.half()), r"weight_row has dtype Half; accepted is that of the other weights"),
    (lambda: chain(stride=[1]), r"stride has 1 entries; accepted are 2"),
    (lambda: chain(directions=[0] * 3), r"directions has 3 entries; accepted are 4"),
    (
        lambda: ops.separable_depthwise_conv2d(x, row, None, None, torch.randn(6), [1, 1]),
        r"bias of weight_col is given without weight_col",
    ),
    (
        lambda: ops.even_depthwise_conv2d_backward(x, x, even, None, [1, 1], [0] * 4, [True] * 2),
        r"wanted has 2 entries; accepted are 3|Expected a value of type",
    ),
]


def emptied(tensor):
    """A tensor whose storage was resized to nothing."""
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(0)
    return tensor


def backward(grad=x, x=x, even=even, row=row):
    return ops.xsep_conv2d_backward(grad, x, even, row, col, None, None, None, [1, 1], [0] * 4, [True] * 7)


def wide(*size):
    """Sizes whose product with anything overflows, in no memory."""
    return torch.zeros(1).expand(size)


def single_band(row=None, col=None):
    return ops.separable_depthwise_conv2d(x, row, col, None, None, [1, 1])


DISPATCHER += [
    (lambda: single_band(col=torch.randn(6, 1, 0, 1)), r"weight_col has shape \(6, 1, 0, 1\)"),
    (lambda: single_band(row=torch.randn(6, 1, 1, 0)), r"weight_row has shape \(6, 1, 1, 0\)"),
    (lambda: single_band(col=torch.randn(6, 1, 1, 0)), r"weight_col has shape \(6, 1, 1, 0\)"),
    (lambda: backward(grad=x.to("meta")), r"grad is on meta, x on cpu"),
    (lambda: backward(row=row.to("meta")), r"weight_row is on meta, x on cpu"),
    (lambda: backward(grad=emptied(x)), r"grad has a storage of 0 bytes; accepted are at least 1200"),
    (lambda: backward(even=emptied(even)), r"weight_even has a storage of 0 bytes; accepted are at least 96"),
    (lambda: chain(x=emptied(x)), r"x has a storage of 0 bytes; accepted are at least 1200"),
    (lambda: ops.symmetric_pad2d(emptied(x), 2, [0] * 4), r"x has a storage of 0 bytes"),
    (lambda: ops.symmetric_pad2d_backward(emptied(x), 2, [0] * 4), r"grad has a storage of 0 bytes"),
    (
        lambda: ops.even_depthwise_conv2d_backward(
            *[wide(1, 1, 1, 2**60)] * 2, even[:1], None, [1, 1], [0] * 4, [False, True, True]
        ),
        r"has shape \(1, 1, 1, 1152921504606846976\); accepted are .* at most 1099511627776",
    ),
    (lambda: ops.symmetric_pad2d(wide(1, 1, 1, 2**63 - 1), 4, [0] * 4), r"at most 1099511627776"),
]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("call", "message"), DISPATCHER, ids=range(len(DISPATCHER)))
def test_dispatcher(call, message):
    """Straight at the binary: its own checks keep it from reading out of bounds."""
    with pytest.raises((RuntimeError, ValueError, TypeError), match=message):
        call()


def chain_of(x=x, even=even, row=row, stride=(1, 1), directions=(0,) * 4):
    return "xsep_conv2d", [x, even, row, col, None, None, None, stride, directions]


REFUSED = {
    "a map of three dimensions": chain_of(x=x[0]),
    "an integer map": chain_of(x=x.int()),
    "a complex map": chain_of(x=x.to(torch.complex64)),
    "an integer weight": chain_of(row=row.int()),
    "a weight of another dtype": chain_of(even=even.double()),
    "a kernel of no size": chain_of(row=torch.randn(6, 1, 1, 0)),
    "an even band": chain_of(row=torch.randn(6, 1, 1, 4)),
    "an odd kernel": chain_of(even=torch.randn(6, 1, 3, 3)),
    "channels that differ": chain_of(even=even[:5]),
    "a stride of 3": chain_of(stride=(3, 1)),
    "a stride of 0": chain_of(stride=(0, 1)),
    "a single stride": chain_of(stride=(1,)),
    "a negative direction": chain_of(directions=(-1,) * 4),
    "three directions": chain_of(directions=(0,) * 3),
    "no weights": ("separable_depthwise_conv2d", [x, None, None, None, None, (1, 1)]),
    "a bias alone": ("separable_depthwise_conv2d", [x, row, None, None, torch.randn(6), (1, 1)]),
    "a pad of 3": ("symmetric_pad2d", [x, 3, (0,) * 4]),
    "an integer pad": ("symmetric_pad2d", [x.int(), 2, (0,) * 4]),
    "a crop of what is too small": ("symmetric_pad2d_backward", [x[..., :1], 2, (0,) * 4]),
    "a gradient of another shape": (
        "even_depthwise_conv2d_backward",
        [x, x, even, None, (2, 2), (0,) * 4, [True] * 3],
    ),
    "a gradient of another dtype": (
        "even_depthwise_conv2d_backward",
        [x.double(), x, even, None, (1, 1), (0,) * 4, [True] * 3],
    ),
}


def on_meta(operator, args):
    return operator(*(arg.to("meta") if isinstance(arg, torch.Tensor) else arg for arg in args))


def in_autocast(operator, args):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return operator(*args)


def in_inference_mode(operator, args):
    with torch.inference_mode():
        return operator(*args)


def in_torch_func(operator, args):
    return torch.func.vjp(lambda x: operator(x, *args[1:]), args[0])


@pytest.mark.parametrize("run", [on_meta, in_autocast, in_inference_mode, in_torch_func])
@pytest.mark.parametrize("name", REFUSED)
def test_no_way_around_the_checks(name, run):
    """The same is refused where another kernel than the CPU's answers first."""
    operator, args = REFUSED[name]
    with pytest.raises((RuntimeError, ValueError, TypeError), match=r"accepted|a value of type|floating point dtype"):
        run(getattr(ops, operator), args)
