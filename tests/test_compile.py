"""The operators under torch.compile and torch.export."""

import threading

import pytest
import torch
from cases import OPERATORS, Case, given, gradient_like
from exhaustive import all_but

from evenconv_cuda import current_backend, functional, use_backend

LAYOUTS = ("contiguous", "channels_last")


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dynamic", all_but([False], [False, True]), ids=["static", "dynamic"])
@pytest.mark.parametrize("backend", all_but(["fused"], ["fused", "reference"]))
def test_compile_fullgraph(operator, dynamic, backend):
    torch._dynamo.reset()
    with use_backend(backend):
        check_compiled(operator, dynamic)


def check_compiled(operator, dynamic):
    for layout, H in (("contiguous", 9), ("channels_last", 12)):
        case = Case(operator, shape=(2, 6, H, 8), stride=2, layout=layout, dtype=torch.float64)

        def model(tensors, case=case):
            return case.run(functional, tensors).relu()

        compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="aot_eager")
        tensors = case.inputs()
        expected, y = model(tensors), compiled(tensors)
        torch.testing.assert_close(y, expected)
        assert y.stride() == expected.stride()
        leaves = list(given(tensors).values())
        grads = (
            torch.autograd.grad(y, leaves, gradient_like(y)),
            torch.autograd.grad(expected, leaves, gradient_like(y)),
        )
        torch.testing.assert_close(*grads)


def test_compile_with_inductor():
    torch._dynamo.reset()
    case = Case("xsep_conv2d", shape=(2, 6, 9, 8))
    tensors = case.inputs()

    def model(x):
        return case.run(functional, tensors | {"x": x * 2}).relu() + 1

    y = torch.compile(model, fullgraph=True)(tensors["x"])
    torch.testing.assert_close(y, model(tensors["x"]))
    grads = [torch.autograd.grad(out.square().sum(), tensors["x"])[0] for out in (y, model(tensors["x"]))]
    torch.testing.assert_close(*grads)


def test_compiled_code_follows_the_backend():
    torch._dynamo.reset()
    case = Case("xsep_conv2d", shape=(1, 4, 6, 6), dtype=torch.float64)
    tensors = case.inputs()
    seen = []

    def spy(graph, example_inputs):
        seen.append("evenconv_cuda" in graph.code)
        return graph.forward

    compiled = torch.compile(lambda x: case.run(functional, tensors | {"x": x}), backend=spy, fullgraph=True)
    y = compiled(tensors["x"])
    with use_backend("reference"):
        torch.testing.assert_close(compiled(tensors["x"]), y)
    assert seen == [True, False]


def test_compiled_code_follows_the_backend_of_its_thread():
    torch._dynamo.reset()
    case = Case("xsep_conv2d", shape=(1, 4, 6, 6), dtype=torch.float64)
    tensors = case.inputs()
    ran = []

    def spy(graph, example_inputs):
        name = "fused" if "evenconv_cuda" in graph.code else "reference"
        return lambda *args: ran.append(name) or graph.forward(*args)

    compiled = torch.compile(lambda x: case.run(functional, tensors | {"x": x}), backend=spy, fullgraph=True)
    with use_backend("reference"):
        compiled(tensors["x"])
        thread = threading.Thread(target=compiled, args=(tensors["x"],))
        thread.start()
        thread.join()
        with use_backend("fused"):
            compiled(tensors["x"])
        compiled(tensors["x"])
    compiled(tensors["x"])
    assert ran == ["reference", "fused", "fused", "reference", "fused"]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_backend_inside_compiled_code(backend):
    torch._dynamo.reset()
    case = Case("xsep_conv2d", shape=(1, 4, 6, 6), dtype=torch.float64)
    tensors = case.inputs()

    def both(x):
        with use_backend("reference"):
            plain = case.run(functional, tensors | {"x": x})
        return plain, case.run(functional, tensors | {"x": x})

    plain, fused = torch.compile(both, backend=backend, fullgraph=True)(tensors["x"])
    torch.testing.assert_close(plain, fused)
    assert current_backend() == "fused"


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_export(operator, layout):
    case = Case(operator, shape=(2, 6, 9, 8), layout=layout, stride=1, dtype=torch.float64)
    parameters = {name: None if t is None else torch.nn.Parameter(t.detach()) for name, t in case.inputs().items()}
    del parameters["x"]

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, parameter in parameters.items():
                self.register_parameter(name, parameter)

        def forward(self, x):
            return case.run(functional, {"x": x} | {name: getattr(self, name) for name in parameters})

    model = Model()
    x = case.inputs()["x"].detach()
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))
    dim = torch.export.Dim
    shapes = {"x": {0: dim("N", min=2), 2: dim("H", min=3), 3: dim("W", min=3)}}
    exported = torch.export.export(model, (x,), dynamic_shapes=shapes)
    other = torch.randn(5, 6, 7, 13, dtype=torch.float64)
    other = other.to(memory_format=torch.channels_last) if layout == "channels_last" else other
    torch.testing.assert_close(exported.module()(other), model(other))
