"""Derivatives of every order and kind, and what is saved for them."""

import places
import pytest
import torch
from cases import CONVOLUTIONS, OPERATORS, Case, given, gradient_like, outputs

from evenconv_cuda import functional, use_backend
from evenconv_cuda.directions import numbers

everywhere = pytest.mark.usefixtures("place")


def small(operator, **options):
    """A case whose numerical derivatives are affordable."""
    return Case(operator, shape=(2, 3, 4, 3), band=3, dtype=torch.float64, **options)


def as_function(case, tensors):
    """The operator as a function of its given tensors, for what passes tensors by position."""
    names = list(given(tensors))
    return lambda *values: case.run(functional, tensors | dict(zip(names, values)))


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
