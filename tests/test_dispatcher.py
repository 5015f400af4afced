"""What PyTorch's own machinery asks of an operator: derivatives, compile, export, autocast, vmap."""

import cases
import places
import pytest
import torch
from cases import OPERATORS, REGISTERED, Case, given, gradient_like, outputs

from evenconv_cuda import functional, ops, use_backend
from evenconv_cuda.directions import numbers

CONVOLUTIONS = tuple(name for name in OPERATORS if name != "symmetric_pad2d")
LAYOUTS = ("contiguous", "channels_last")

everywhere = pytest.mark.usefixtures("place")


def small(operator, **options):
    """A case whose numerical derivatives are affordable."""
    return Case(operator, shape=(2, 3, 4, 3), band=3, dtype=torch.float64, **options)


def as_function(case, tensors):
    """The operator as a function of its given tensors, for what passes tensors by position."""
    names = list(given(tensors))
    return lambda *values: case.run(functional, tensors | dict(zip(names, values)))


def arguments(case):
    """The registered operator's arguments, in the schema's order."""
    tensors = list(case.inputs().values())
    x, parameters = tensors[0], tensors[1:]
    options = case.options()
    rest = [options["kernel_size"]] if "kernel_size" in options else []
    if "stride" in options:
        rest.append(list(options["stride"]) if isinstance(options["stride"], tuple) else [options["stride"]] * 2)
    if "directions" in options:
        rest.append(numbers(options["directions"]))
    return [x, *parameters[::2], *parameters[1::2], *rest]


@everywhere
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("stride", [1, (2, 1)], ids=str)
def test_gradcheck_and_gradgradcheck(operator, stride):
    case = small(operator, stride=stride)
    tensors = case.inputs()
    function, leaves = as_function(case, tensors), list(given(tensors).values())
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def tied(shared):
    """Calls whose arguments depend on each other, as a scalar function of one tensor."""
    band = torch.linspace(-1, 1, 9, dtype=shared.dtype, device=shared.device).reshape(3, 1, 1, 3) * shared.mean()
    even = shared[0, :, :2, :2].unsqueeze(1)
    calls = {
        "a weight is the other's transpose": lambda: functional.xsep_conv2d(shared, even, band, band.transpose(2, 3)),
        "a bias is given twice": lambda: functional.separable_depthwise_conv2d(
            shared, band, band.transpose(2, 3), shared.mean((0, 2, 3)), shared.mean((0, 2, 3))
        ),
        "weights are made of x": lambda: functional.even_depthwise_conv2d(shared, even, even[:, 0, 0, 0]),
        "a layer is applied twice": lambda: functional.xsep_conv2d(
            functional.xsep_conv2d(shared, even, band, band.transpose(2, 3)), even, band, band.transpose(2, 3)
        ),
    }
    return {name: call().square().sum() for name, call in calls.items()}


@everywhere
def test_double_backward_of_arguments_that_depend_on_each_other():
    """gradcheck's leaves are independent; here paths between arguments must be counted once."""
    shared = torch.randn(2, 3, 4, 5, dtype=torch.float64, device=places.device(), requires_grad=True)
    with use_backend("reference"):
        expected = tied(shared)
    for name, loss in tied(shared).items():
        first = [torch.autograd.grad(value, shared, create_graph=True)[0] for value in (loss, expected[name])]
        torch.testing.assert_close(*first, msg=f"gradient where {name}")
        second = [torch.autograd.grad(g.square().sum(), shared, retain_graph=True)[0] for g in first]
        torch.testing.assert_close(*second, msg=f"penalty's gradient where {name}")


@everywhere
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "transform", ["grad of grad", "jvp", "jacfwd", "jacrev", "vjp", "hessian", "vmap of vjp", "forward-mode"]
)
def test_torch_func(operator, transform):
    """Every transform against the reference."""
    func = torch.func
    case = small(operator)
    tensors = {n: None if t is None else t.detach() for n, t in case.inputs().items()}
    x = tensors["x"]

    def f(x):
        return case.run(functional, tensors | {"x": x}).pow(3)

    def scalar(x):
        return f(x).sum()

    def forward_mode(x):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x.cos())
            return torch.autograd.forward_ad.unpack_dual(f(dual)).tangent

    transforms = {
        "grad of grad": func.grad(lambda x: func.grad(scalar)(x).square().sum()),
        "jvp": lambda x: func.jvp(f, (x,), (x.cos(),))[1],
        "jacfwd": func.jacfwd(lambda x: f(x).mean((2, 3))),
        "jacrev": func.jacrev(lambda x: f(x).mean((2, 3))),
        "vjp": lambda x: func.vjp(f, x)[1](f(x).cos())[0],
        "hessian": func.hessian(lambda v: scalar(x * v.reshape(1, 3, 1, 1))),
        "vmap of vjp": lambda x: torch.vmap(lambda v: func.vjp(f, x)[1](v)[0])(torch.stack([f(x), f(x).sin()])),
        "forward-mode": forward_mode,
    }
    argument = torch.ones(3, dtype=x.dtype, device=x.device) if transform == "hessian" else x
    value = transforms[transform](argument)
    with use_backend("reference"):
        expected = transforms[transform](argument)
    assert expected.abs().max() > 0
    torch.testing.assert_close(value, expected)


@everywhere
@pytest.mark.parametrize("even", [2, 4])
def test_derivatives_of_the_crop(even):
    """The pad's backward is an operator of its own, whose derivatives are pads."""
    crop = torch.ops.evenconv_cuda.symmetric_pad2d_backward
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64, device=places.device(), requires_grad=True)

    def cubed(x):
        return crop(x, even, numbers(("TL", "BR", "TR", "BL"))).pow(3).sum()

    assert torch.autograd.gradcheck(cubed, x)
    assert torch.autograd.gradgradcheck(cubed, x)
    torch.testing.assert_close(torch.func.grad(cubed)(x.detach()), torch.autograd.grad(cubed(x), x)[0])


@everywhere
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_batched_gradients(operator):
    case = small(operator)
    tensors = case.inputs()
    y, leaves = case.run(functional, tensors), list(given(tensors).values())
    grads = torch.stack([gradient_like(y), gradient_like(y).cos()])
    batched = torch.autograd.grad(y, leaves, grads, is_grads_batched=True, retain_graph=True)
    for index, grad in enumerate(grads):
        single = torch.autograd.grad(y, leaves, grad, retain_graph=True)
        torch.testing.assert_close([gradient[index] for gradient in batched], list(single))


@everywhere
@pytest.mark.parametrize("bands", ["row", "col"])
def test_gradcheck_of_a_single_band(bands):
    case = small("separable_depthwise_conv2d", bands=bands)
    tensors = case.inputs()
    function, leaves = as_function(case, tensors), list(given(tensors).values())
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@everywhere
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_gradients_of_a_part_of_the_inputs(operator):
    """Frozen weights, or a map that needs no gradient, change nothing for the others."""
    case = small(operator)
    tensors = case.inputs()
    whole = outputs(case, functional, tensors)
    y = case.run(functional, tensors)
    for name in given(tensors):
        frozen = {n: t if t is None or n == name else t.detach() for n, t in tensors.items()}
        (gradient,) = torch.autograd.grad(case.run(functional, frozen), frozen[name], gradient_like(y))
        torch.testing.assert_close(gradient, whole[name])


@pytest.mark.parametrize("operator", ["even_depthwise_conv2d", "separable_depthwise_conv2d", "xsep_conv2d"])
def test_saved_for_backward_is_x_and_the_weights(operator):
    case = Case(operator, shape=(2, 6, 9, 8))
    tensors = case.inputs()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        case.run(functional, tensors)
    assert sum(saved) == sum(t.numel() for t in given(tensors).values())


@everywhere
@pytest.mark.parametrize("operator", REGISTERED)
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_opcheck(operator, layout):
    case = Case(operator, shape=(2, 6, 5, 7), layout=layout, stride=(2, 1), band=3)
    forward = getattr(torch.ops.evenconv_cuda, operator).default
    backward = getattr(torch.ops.evenconv_cuda, f"{operator}_backward").default
    args = arguments(case)
    torch.library.opcheck(forward, args)
    detached = [a.detach() if isinstance(a, torch.Tensor) else a for a in args]
    grad = gradient_like(forward(*detached))
    if operator == "symmetric_pad2d":
        torch.library.opcheck(backward, (grad.requires_grad_(), *args[1:]))
        return
    tensors = len(case.inputs())
    for wanted in ([True] * tensors, [True] + [False] * (tensors - 1), [False] + [True] * (tensors - 1)):
        torch.library.opcheck(backward, (grad, *detached, wanted))


@everywhere
@pytest.mark.parametrize("operator", REGISTERED)
def test_the_dispatcher_operator_itself_differentiates(operator):
    case = Case(operator, shape=(2, 5, 6, 7), dtype=torch.float64)
    args = arguments(case)
    y = getattr(torch.ops.evenconv_cuda, operator)(*args)
    leaves = [a for a in args if isinstance(a, torch.Tensor)]
    direct = torch.autograd.grad(y, leaves, gradient_like(y))
    tensors = case.inputs()
    through = outputs(case, functional, tensors)
    assert torch.equal(y, through["y"])
    named = {id(t): name for name, t in zip(_in_schema_order(tensors), leaves)}
    for leaf, gradient in zip(leaves, direct):
        assert torch.equal(gradient, through[named[id(leaf)]])


def _in_schema_order(tensors):
    names = list(tensors)
    return [names[0], *names[1::2], *names[2::2]]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_compile_fullgraph(operator, dynamic, backend, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr("evenconv_cuda.backend._current", backend)
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


@everywhere
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(operator, dtype):
    case = Case(operator, shape=(2, 6, 9, 8))
    tensors = case.inputs()
    with torch.autocast(places.device(), dtype=dtype):
        y = case.run(functional, tensors)
    assert y.dtype == dtype
    low = tensors | {"x": tensors["x"].detach().to(dtype)}
    torch.testing.assert_close(y, case.run(functional, low))
    for inside in (False, True):
        with torch.autocast(places.device(), dtype=dtype, enabled=inside):
            gradients = torch.autograd.grad(y.float().square().mean(), list(given(tensors).values()), retain_graph=True)
        assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


@everywhere
def test_autocast_leaves_float64_alone_and_reaches_double_backward():
    case = small("xsep_conv2d")
    with torch.autocast(places.device(), dtype=torch.bfloat16):
        tensors = case.inputs()
        y = case.run(functional, tensors)
        assert y.dtype == torch.float64
        (first,) = torch.autograd.grad(y.square().sum(), tensors["x"], create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), tensors["x"])
    assert first.dtype == second.dtype == torch.float64


@everywhere
def test_double_backward_inside_autocast_is_not_cast():
    case = Case("xsep_conv2d", shape=(2, 6, 9, 8))
    tensors = case.inputs()
    y = case.run(functional, tensors)
    gradients = []
    for inside in (False, True):
        with torch.autocast(places.device(), dtype=torch.bfloat16, enabled=inside):
            (first,) = torch.autograd.grad(y, tensors["x"], gradient_like(y), create_graph=True)
        gradients.append(first)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("operator", [name for name in REGISTERED if name != "symmetric_pad2d"])
@pytest.mark.parametrize("key", ["AutocastCPU", "AutocastCUDA"])
def test_autocast_is_registered(operator, key):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"evenconv_cuda::{operator}", key)


@everywhere
def test_autocast_casts_weights_of_other_half_types():
    case = Case("xsep_conv2d", shape=(1, 4, 5, 5), dtype=torch.float32)
    tensors = {n: t.detach() if n == "x" else t.detach().half() for n, t in case.inputs().items()}
    with torch.autocast(places.device(), dtype=torch.bfloat16):
        assert case.run(functional, tensors).dtype == torch.bfloat16


@everywhere
@pytest.mark.parametrize(
    ("operator", "batched"),
    [("symmetric_pad2d", "x"), *((name, part) for name in CONVOLUTIONS for part in ("x", "all", "weights"))],
)
def test_vmap(operator, batched):
    case = Case(operator, shape=(2, 5, 6, 7), dtype=torch.float64)
    tensors = {n: None if t is None else t.detach() for n, t in case.inputs().items()}
    names = [n for n in given(tensors) if batched == "all" or (n == "x") == (batched == "x")]
    batch = {n: torch.stack([tensors[n] * k for k in (1, 2, 3)], dim=1) for n in names}

    def one(**part):
        return case.run(functional, tensors | part)

    y = torch.vmap(lambda part: one(**part), in_dims=1)(batch)
    for k in range(3):
        torch.testing.assert_close(y[k], one(**{n: t.select(1, k) for n, t in batch.items()}))


@everywhere
@pytest.mark.parametrize("operator", OPERATORS)
def test_per_sample_gradients(operator):
    """vmap over grad: what differential privacy and influence functions do."""
    case = Case(operator, shape=(3, 5, 6, 7), dtype=torch.float64)
    tensors = case.inputs()
    names = list(given(tensors))
    detached = {n: tensors[n].detach() for n in names}

    def loss(sample, part):
        return case.run(functional, tensors | part | {"x": sample.unsqueeze(0)}).square().sum()

    per_sample = torch.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(0, None))(detached["x"], detached)
    for n in range(3):
        leaf = {name: t.clone().requires_grad_() for name, t in detached.items()}
        sample = leaf["x"][n].detach().clone().requires_grad_()
        parameters = [leaf[name] for name in names if name != "x"]
        expected = torch.autograd.grad(loss(sample, leaf), [sample, *parameters])
        torch.testing.assert_close(per_sample[0][n], expected[0])
        for name, gradient in zip([name for name in names if name != "x"], expected[1:]):
            torch.testing.assert_close(per_sample[1][name][n], gradient)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_device_without_kernels_runs_the_reference(operator, monkeypatch):
    case = Case(operator, shape=(2, 6, 9, 8), dtype=torch.float64)
    tensors = case.inputs()
    fused = outputs(case, functional, tensors)
    monkeypatch.setattr(ops, "KERNEL_DEVICES", {"another"})
    with torch.profiler.profile() as profile:
        plain = outputs(case, functional, tensors)
    assert not [event.key for event in profile.key_averages() if "evenconv_cuda" in event.key]
    torch.testing.assert_close(plain, fused)


def test_meta_tensors_have_shapes_and_no_data():
    case = Case("xsep_conv2d", shape=(2, 6, 9, 8), stride=2)
    tensors = {n: t.detach().to("meta") for n, t in case.inputs().items()}
    y = case.run(functional, tensors)
    assert y.device.type == "meta"
    assert y.shape == (2, 6, 5, 4)
