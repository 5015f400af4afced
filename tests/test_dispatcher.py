"""The registered operators: schemas, autocast, vmap, devices."""

import threading

import cases
import places
import pytest
import torch
from cases import CONVOLUTIONS, OPERATORS, REGISTERED, Case, given, gradient_like, outputs
from exhaustive import all_but

from evenconv_cuda import current_backend, functional, ops, use_backend
from evenconv_cuda.directions import numbers

everywhere = pytest.mark.usefixtures("place")


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
@pytest.mark.parametrize("operator", REGISTERED)
@pytest.mark.parametrize("layout", all_but(["contiguous"], cases.LAYOUTS))
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
    case = Case("xsep_conv2d", shape=(2, 3, 4, 3), band=3, dtype=torch.float64)
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


def test_blocks_that_overlap_leave_the_backend_as_it_was():
    """In two threads, and in one where they end in another order than they began."""
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def other():
        with use_backend("reference"):
            seen.append(current_backend())
            entered.set()
            leave.wait(10)
        seen.append(current_backend())

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with use_backend("fused"):
        assert current_backend() == "fused"
        leave.set()
        thread.join()
    assert (seen, current_backend()) == (["reference", "fused"], "fused")
    first, second = use_backend("reference"), use_backend("fused")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current_backend() == "fused"
    second.__exit__(None, None, None)
    assert current_backend() == "fused"


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("names", [("fused", "reference"), ("reference", "fused")], ids=str)
def test_a_backward_takes_the_backend_of_its_forward(operator, names):
    case = Case(operator, shape=(2, 6, 9, 8), dtype=torch.float64)
    tensors = case.inputs()
    with use_backend(names[0]):
        y = case.run(functional, tensors)
    with torch.profiler.profile() as profile, use_backend(names[1]):
        torch.autograd.grad(y, list(given(tensors).values()), gradient_like(y))
    ours = [event.key for event in profile.key_averages() if event.key.startswith("evenconv_cuda::")]
    assert bool(ours) == (names[0] == "fused")
