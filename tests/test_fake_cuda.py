"""CUDA tensors without a GPU: under FakeTensorMode operators and layers give a CPU run's shapes, strides and dtypes."""

from itertools import product

import pytest
import torch
from cases import LAYOUTS, OPERATORS, REGISTERED, Case, given, gradient_like, outputs
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import evenconv_cuda
from evenconv_cuda import functional, nn, ops

CUDA = torch.device("cuda:0")
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
STRIDES = (1, (2, 1))
LAYERS = (
    lambda **options: nn.SymmetricPad2d(2),
    lambda **options: nn.EvenDepthwiseConv2d(6, 6, 4, stride=2, **options),
    lambda **options: nn.SeparableDepthwiseConv2d(6, 6, 5, **options),
    lambda **options: nn.XSepConv2d(6, 6, 3, **options),
    lambda **options: nn.C2sp(6, 8, **options),
)
needs_autograd = pytest.mark.skipif(
    torch.version.cuda is None, reason="CUDA tensors that require gradients need a PyTorch with CUDA"
)


@pytest.fixture(autouse=True)
def kernels_for_cuda(monkeypatch):
    """In a build without them too: shapes do not depend on what would run."""
    monkeypatch.setattr(ops, "KERNEL_DEVICES", ops.KERNEL_DEVICES | {"cuda"})


def fake(tensor, requires_grad=False):
    """A fake tensor on the GPU that lies as this one does."""
    if tensor is None:
        return None
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=CUDA, requires_grad=requires_grad
    )


def check_alike(found, real, strides=True):
    assert found.device == CUDA
    assert (found.shape, found.dtype) == (real.shape, real.dtype)
    if strides:
        assert found.stride() == real.stride()


def strides_are_ours(operator):
    """Dense convolutions are PyTorch's, which lays results out as the library behind it likes on each device."""
    return operator != "even_conv2d"


def run_graph(result, grad):
    """Gradients by leaf, node by node: autograd's engine would ask the GPU for its streams."""
    gradients = {}

    def visit(node, grad):
        if hasattr(node, "variable"):
            gradients[node.variable] = grad
            return
        results = node.apply(grad) if hasattr(node, "apply") else node(grad)
        results = [results] if isinstance(results, torch.Tensor) else [r for r in results if r is not None]
        following = [following for following, _ in node.next_functions if following is not None]
        for next_node, grad in zip(following, results, strict=True):
            visit(next_node, grad)

    with torch.no_grad():
        visit(result.grad_fn, grad)
    return gradients


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_results_are_as_on_the_cpu(operator, layout):
    for stride, dtype in product(STRIDES, DTYPES):
        case = Case(operator, stride=stride, layout=layout, dtype=dtype)
        tensors = case.inputs()
        with FakeTensorMode():
            y = case.run(functional, {name: fake(tensor) for name, tensor in tensors.items()})
        check_alike(y, case.run(functional, tensors), strides_are_ours(operator))


@needs_autograd
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_are_as_on_the_cpu(operator, layout):
    for stride, dtype in product(STRIDES, DTYPES):
        case = Case(operator, stride=stride, layout=layout, dtype=dtype)
        tensors = case.inputs()
        expected = outputs(case, functional, tensors)
        with FakeTensorMode():
            faked = {name: fake(tensor, requires_grad=True) for name, tensor in tensors.items()}
            y = case.run(functional, faked)
            gradients = run_graph(y, fake(gradient_like(expected["y"])))
        check_alike(y, expected["y"], strides_are_ours(operator))
        for name, leaf in given(faked).items():
            check_alike(gradients[leaf], expected[name], strides_are_ours(operator))


@pytest.mark.parametrize("wanted", ["x", "weights", "all"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("operator", [name for name in REGISTERED if name != "symmetric_pad2d"])
def test_backward_operators_are_as_on_the_cpu(operator, layout, wanted):
    """The registered operators themselves, which need no autograd and so no CUDA in PyTorch."""
    case = Case(operator, layout=layout, dtype=torch.bfloat16, weight_dtype=torch.float32)
    tensors = {name: tensor.detach() for name, tensor in case.inputs().items()}
    names = sorted(tensors, key=lambda name: (name != "x", name.startswith("bias")))
    options = {"stride": (1, 1)} | ({} if operator == "separable_depthwise_conv2d" else {"directions": [0, 1, 2, 3]})
    arguments = [tensors[name] for name in names]
    which = [wanted in ("all", "x" if name == "x" else "weights") for name in names]
    backward = getattr(torch.ops.evenconv_cuda, f"{operator}_backward")
    grad = gradient_like(case.run(functional, tensors))
    expected = backward(grad, *arguments, *options.values(), which)
    with FakeTensorMode():
        found = backward(fake(grad), *(fake(tensor) for tensor in arguments), *options.values(), which)
    for one, other, want in zip(found, expected, which):
        check_alike(one, other)
        assert (one.numel() > 0) == want


@needs_autograd
@pytest.mark.parametrize("make", LAYERS)
def test_layers_are_as_on_the_cpu(make):
    x = Case("symmetric_pad2d", layout="channels_last").inputs()["x"]
    expected = make()(x)
    with FakeTensorMode():
        layer = make(device="cuda")
        y = layer(fake(x))
        assert all(parameter.device == CUDA for parameter in layer.parameters())
    check_alike(y, expected)


@pytest.mark.parametrize("operator", REGISTERED)
def test_traces_to_one_operator(operator):
    case = Case(operator, bias=False)
    tensors = case.inputs()
    with FakeTensorMode():
        faked = given({name: fake(tensor) for name, tensor in tensors.items()})
        graph = make_fx(lambda tensors: case.run(functional, tensors), tracing_mode="fake")(faked).graph
    calls = [node for node in graph.nodes if node.op == "call_function"]
    assert [node.target for node in calls] == [getattr(torch.ops.evenconv_cuda, operator).default]
    check_alike(calls[0].meta["val"], case.run(functional, tensors))


@needs_autograd
def test_exports_a_model():
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = torch.nn.Sequential(
            nn.C2sp(3, 8, device="cuda"), torch.nn.ReLU(), nn.XSepConv2d(8, 8, 7, device="cuda")
        )
        program = torch.export.export(model, (torch.empty(2, 3, 9, 8, device="cuda"),))
    operators = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.evenconv_cuda.xsep_conv2d.default in operators
    output = program.graph.output_node().args[0][0].meta["val"]
    assert output.shape == (2, 8, 9, 8)
    assert output.device == CUDA


def test_weights_elsewhere_are_refused():
    case = Case("xsep_conv2d", bias=False)
    tensors = {name: tensor.detach() for name, tensor in given(case.inputs()).items()}
    with FakeTensorMode() as mode, pytest.raises((RuntimeError, ValueError), match="cuda"):
        case.run(functional, {name: mode.from_tensor(t) for name, t in tensors.items()} | {"x": fake(tensors["x"])})


def test_kernels_are_registered_for_cuda():
    """As build_info() says, whether a GPU is there or not."""
    for name in REGISTERED:
        for operator in (name, f"{name}_backward"):
            registered = torch._C._dispatch_has_kernel_for_dispatch_key(f"evenconv_cuda::{operator}", "CUDA")
            assert registered == evenconv_cuda.build_info()["cuda"]
