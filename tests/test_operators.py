"""What the operators compute: against the definition, for every dtype, layout, stride, direction and size."""

import definition
import places
import pytest
import torch
from agreement import check
from cases import CONVOLUTIONS, DIRECTIONS, LAYOUTS, OPERATORS, Case, as_float64, gradient_like, outputs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerance import check_close

from evenconv_cuda import functional, reference

pytestmark = pytest.mark.usefixtures("place")

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
STRIDES = (1, 2, (1, 2), (2, 1))


@pytest.mark.parametrize(
    ("operator", "stride"),
    [(name, stride) for name in OPERATORS for stride in STRIDES if stride == 1 or name != "symmetric_pad2d"],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_definition(operator, stride, dtype, layout):
    number = LAYOUTS.index(layout) + len(LAYOUTS) * STRIDES.index(stride)
    case = Case(
        operator,
        shape=(3, (5, 8, 19, 33)[number % 4], 11, 18),
        even=(2, 4)[number % 2],
        band=(3, 5, 7, 9, 11)[number % 5],
        directions=DIRECTIONS[number % len(DIRECTIONS)],
        stride=stride,
        layout=layout,
        dtype=dtype,
        bias=number % 3 > 0,
    )
    check(case)


@pytest.mark.parametrize("operator", ["even_depthwise_conv2d", "separable_depthwise_conv2d", "xsep_conv2d"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("place", ["cpu"], indirect=True)
def test_every_instruction_set(isa, operator, layout, dtype):
    for C in (1, 2, 4, 7, 16, 24, 35):
        check(Case(operator, shape=(2, C, 7, 21), layout=layout, dtype=dtype, even=4 if C == 7 else 2))


@pytest.mark.parametrize("directions", DIRECTIONS, ids=str)
@pytest.mark.parametrize("even", [2, 4])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("operator", ["symmetric_pad2d", "even_depthwise_conv2d", "even_conv2d"])
def test_every_direction(operator, directions, even, channels):
    for layout in ("contiguous", "channels_last"):
        shape = (2, channels, 5, 6)
        check(Case(operator, shape, even=even, directions=directions, layout=layout, dtype=torch.float64))


@pytest.mark.parametrize("band", range(1, 32, 2))
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_every_band(band, layout):
    for bands in ("both", "row", "col"):
        case = Case("separable_depthwise_conv2d", band=band, bands=bands, layout=layout, dtype=torch.float64)
        check(case)
    check(Case("xsep_conv2d", band=band, directions="TL", layout=layout, dtype=torch.float64))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 40), (2, 3, 40, 1), (1, 5, 2, 3), (7, 2, 3, 3)], ids=str)
def test_tiny_maps(operator, shape):
    for layout in LAYOUTS:
        check(Case(operator, shape, band=31, stride=1, layout=layout, dtype=torch.float64))
        if operator != "symmetric_pad2d":
            check(Case(operator, shape, band=7, stride=2, layout=layout, dtype=torch.float64))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(1, 17, 150, 130), (40, 4, 7, 7), (2, 3, 9, 3000), (1, 16, 700, 40)], ids=str)
def test_maps_that_are_cut_into_bands_and_stacks(shape, layout, place):
    if place == "cuda_on_host":
        pytest.skip("test_cuda_kernels.py cuts maps as those kernels do")
    for dtype in (torch.float64, torch.float32):
        check(Case("xsep_conv2d", shape, band=7, layout=layout, dtype=dtype))
        check(Case("even_depthwise_conv2d", shape, even=4, stride=2, layout=layout, dtype=dtype))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_float32_weights_beside_a_half_map(operator, dtype):
    for layout in ("contiguous", "channels_last"):
        check(Case(operator, shape=(2, 20, 9, 17), dtype=dtype, weight_dtype=torch.float32, layout=layout))


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_empty_batch(operator, layout):
    case = Case(operator, shape=(0, 6, 5, 4), layout=layout)
    for name, value in outputs(case, functional, case.inputs()).items():
        assert not value.any(), name


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_format_is_kept(operator, layout):
    case = Case(operator, shape=(2, 6, 5, 4), layout=layout)
    tensors = case.inputs()
    y = case.run(functional, tensors)
    channels_last = "channels_last" in layout
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert y.is_contiguous(memory_format=memory_format)
    (dx,) = torch.autograd.grad(y.sum(), tensors["x"])
    assert dx.shape == tensors["x"].shape


@pytest.mark.parametrize("operator", OPERATORS)
def test_gradient_of_another_layout(operator):
    """The gradient that arrives may be expanded, or of the other memory format."""
    case = Case(operator, shape=(2, 18, 6, 5), dtype=torch.float64)
    tensors = case.inputs()
    y = case.run(functional, tensors)
    row = torch.linspace(-1, 1, y.shape[3], dtype=y.dtype, device=y.device)
    for grad in (row.expand(y.shape), gradient_like(y).to(memory_format=torch.channels_last)):
        fused = outputs(case, functional, tensors, grad)
        exact = outputs(case, definition, as_float64(tensors), grad)
        for name, value in fused.items():
            check_close(name, value, exact[name], exact[name])


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_weights_of_any_strides(operator):
    """Expanded, permuted and channels_last weights; gradients come in the memory format of theirs."""
    case = Case(operator, shape=(2, 6, 7, 8), dtype=torch.float64)
    dense = case.inputs()
    odd = {
        n: t if t is None or t.dim() == 1 else t.detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        for n, t in dense.items()
    }
    last = {
        n: t if t is None or t.dim() == 1 else t.detach().to(memory_format=torch.channels_last)
        for n, t in dense.items()
    }
    expected = outputs(case, functional, dense)
    for tensors in (odd, last):
        leaves = {n: None if t is None else t.detach().requires_grad_() for n, t in tensors.items()}
        for name, value in outputs(case, functional, leaves).items():
            torch.testing.assert_close(value, expected[name])
            if tensors is last and "weight" in name:
                assert value.stride() == leaves[name].stride(), name


def test_default_directions():
    for operator, default in (
        ("even_depthwise_conv2d", DIRECTIONS[4]),
        ("even_conv2d", DIRECTIONS[4]),
        ("xsep_conv2d", "BR"),
    ):
        case = Case(operator, shape=(1, 6, 5, 5), directions=default, dtype=torch.float64)
        tensors = case.inputs()
        assert torch.equal(getattr(functional, operator)(**tensors), case.run(functional, tensors))


def test_weight_gradients_of_many_images_are_summed_in_double():
    N = 4096
    x = torch.full((N, 1, 3, 3), 1 / 3, device=places.device(), requires_grad=True)
    weight = torch.ones(1, 1, 1, 1, device=places.device(), requires_grad=True)
    y = functional.separable_depthwise_conv2d(x, weight, None)
    (gradient,) = torch.autograd.grad(y, weight, torch.full_like(y, 1 / 7))
    exact = x.double().sum() * torch.tensor(1 / 7).double()
    assert abs(gradient.item() - exact.item()) <= 2 * torch.finfo(torch.float32).eps * exact.item()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_infinity_reaches_no_further_than_the_kernel(operator, layout):
    """Zeros in a scratch buffer must not turn a neighbour's infinity into a NaN elsewhere."""
    case = Case(operator, shape=(2, 5, 8, 9), band=3, layout=layout, dtype=torch.float64)
    tensors = case.inputs()
    with torch.no_grad():
        tensors["x"][1, 2, 4, 8] = float("inf")
        y, exact = case.run(functional, tensors), case.run(reference, tensors)
    assert torch.equal(y.isfinite(), exact.isfinite())
    assert not y.isfinite().all()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("operator", OPERATORS)
def test_any_shape(operator, place, data):
    size = st.integers(1, 12 if place == "cuda_on_host" else 40)
    case = Case(
        operator,
        shape=(data.draw(st.integers(1, 5)), data.draw(size), data.draw(size), data.draw(size)),
        even=data.draw(st.sampled_from((2, 4))),
        band=data.draw(st.integers(0, 15)) * 2 + 1,
        bands=data.draw(st.sampled_from(("both", "row", "col"))) if operator.startswith("sep") else "both",
        stride=(data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))),
        directions=data.draw(st.sampled_from(DIRECTIONS)),
        layout=data.draw(st.sampled_from(LAYOUTS)),
        bias=data.draw(st.booleans()),
        dtype=torch.float64,
    )
    check(case)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_single_map_without_a_batch(operator, layout):
    case = Case(operator, shape=(1, 6, 7, 8), stride=(2, 1), layout=layout, dtype=torch.float64)
    tensors = case.inputs()
    single = tensors | {"x": tensors["x"].detach()[0].requires_grad_()}
    exact = outputs(case, definition, tensors)
    found = outputs(case, functional, single, gradient_like(exact["y"])[0])
    for name, value in found.items():
        expected = exact[name][0] if name in ("x", "y") else exact[name]
        assert value.shape == expected.shape
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("strides", [(1, 1, 6, 3), (12, 1, 6, 3), (7, 1, 6, 3), (12, 4, 2, 1), (1, 4, 2, 1)], ids=str)
@pytest.mark.parametrize("module", [functional, reference])
def test_an_only_output_channel_of_any_strides(module, strides):
    """The strides of a size of 1 say nothing, and must not matter."""
    case = Case("even_conv2d", shape=(2, 3, 5, 4), stride=(2, 1), layout="channels_last", dtype=torch.float64)
    tensors = case.inputs()
    weight = tensors["weight"].detach()[:1]
    tensors |= {"weight": weight.clone().requires_grad_(), "bias": tensors["bias"].detach()[:1].requires_grad_()}
    exact = outputs(case, definition, tensors)
    other = torch.empty_strided(weight.shape, strides, dtype=weight.dtype, device=weight.device).copy_(weight)
    found = outputs(case, module, tensors | {"weight": other.requires_grad_()}, gradient_like(exact["y"]))
    torch.testing.assert_close(found, exact)


def test_elements_more_than_two_to_the_31_apart():
    size = 2**31 + 64
    x = torch.empty(size, dtype=torch.bfloat16, device=places.device()).as_strided((2, 2, 4, 4), (2**31, 16, 4, 1))
    x.copy_(torch.randn(x.shape))
    case = Case("xsep_conv2d", shape=tuple(x.shape), band=3, dtype=torch.bfloat16)
    tensors = case.inputs() | {"x": x.requires_grad_()}
    near = tensors | {"x": x.detach().clone().requires_grad_()}
    far = outputs(case, functional, tensors)
    for name, value in outputs(case, functional, near).items():
        assert torch.equal(far[name], value), name


@pytest.mark.exhaustive
def test_a_result_of_more_than_two_to_the_31_elements(place):
    if place == "cuda_on_host":
        pytest.skip("2^28 threads are too many to run one by one")
    one = torch.ones(1, 4, 1, 1, dtype=torch.bfloat16, device=places.device())
    y = functional.symmetric_pad2d(one.expand(1, 4, 2**15, 2**14 + 1), 2)
    assert y.numel() > 2**31
    assert y[0, 3, 1:, :-1].amin() == 1  # the last group pads top and right
    assert y[0, 3, 0].count_nonzero() == 0
    assert y[0, 3, :, -1].count_nonzero() == 0
