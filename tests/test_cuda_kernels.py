"""The CUDA kernels, run on the host: every variant of them, every way of cutting a tensor, every layout."""

import itertools
import math

import places
import pytest
import torch
from agreement import check, same_bits
from cases import DIRECTIONS, LAYOUTS, ODD_LAYOUTS, Case, as_layout, given, gradient_like, outputs
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from evenconv_cuda import functional, reference

pytestmark = pytest.mark.usefixtures("on_host")

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DENSE = ("contiguous", "channels_last")
TUNED = (3, 5, 7, 9, 11)


def xsep(even, band):
    return {"operator": "xsep_conv2d", "even": even, "band": band}


def separable(band, bands="both"):
    return {"operator": "separable_depthwise_conv2d", "band": band, "bands": bands}


# The chains, one for each kernel and for each way through the kernel of any sizes.
VARIANTS = {
    **{f"even {k}": {"operator": "even_depthwise_conv2d", "even": k} for k in (2, 4)},
    **{f"bands {K}": separable(K) for K in (1, *TUNED, 13, 31)},
    **{f"xsep 2 {K}": xsep(2, K) for K in (1, *TUNED, 13, 31)},
    **{f"xsep 4 {K}": xsep(4, K) for K in (3, 7, 13)},
    **{f"{bands} {K}": separable(K, bands) for bands in ("row", "col") for K in (3, 15, 31)},
    "row 3, column 7": separable((3, 7)),
    "row 31, column 3": separable((31, 3)),
    "xsep 2 row 9, column 1": xsep(2, (9, 1)),
    "xsep 4 row 5, column 13": xsep(4, (5, 13)),
}
# One chain for each kernel: even alone, tuned and any sizes, with and without the even pass.
FAMILIES = {name: VARIANTS[name] for name in ("even 2", "even 4", "bands 3", "xsep 2 7", "bands 13", "xsep 4 3")}

# One chain for each template of a kernel.
COMPILED = {name: VARIANTS[name] for name in VARIANTS if name[:4] in ("even", "band", "xsep") and "31" not in name}

variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
family = pytest.mark.parametrize("variant", FAMILIES.values(), ids=list(FAMILIES))
layout = pytest.mark.parametrize("layout", DENSE)
dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.mark.sanitize
@pytest.mark.parametrize("variant", COMPILED.values(), ids=list(COMPILED))
@layout
@dtype
def test_each_kernel(variant, layout, dtype):
    """Rows that are aligned to 16, 8, 4 and 2 bytes, each with units of its own."""
    for row_bytes in (64, 72, 36, 26):
        shape = (2, 5, 9, row_bytes // dtype.itemsize)
        check(Case(**variant, shape=shape, layout=layout, dtype=dtype))


@variant
@layout
@dtype
def test_each_variant_has_the_same_bits_in_every_order(on_host, variant, layout, dtype):
    number = list(VARIANTS.values()).index(variant)
    case = Case(
        **variant,
        shape=(2, (5, 8, 6, 1)[number % 4], 6, (9, 18, 8, 7)[number % 4]),
        directions=DIRECTIONS[number % len(DIRECTIONS)],
        stride=(1, 2, (1, 2), 1, (2, 1))[number % 5],
        layout=layout,
        dtype=dtype,
        bias=number % 3 > 0,
    )
    check(case)
    tensors = case.inputs()
    results = []
    for order in on_host.ORDERS:
        with on_host.order(*order):
            results.append(outputs(case, functional, tensors))
    for order, result in zip(on_host.ORDERS[1:], results[1:]):
        for name, value in result.items():
            assert same_bits(value, results[0][name]), f"{name} in order {order}"


# Column tiles with halos, bands of rows, several images to a block, channels in several blocks, a block of one thread.
CUTS = {
    "column tiles": (1, 2, 3, 1000),
    "bands": (1, 2, 300, 9),
    "bands and column tiles": (1, 2, 70, 540),
    "images together": (600, 2, 7, 7),
    "channels": (1, 65, 7, 14),
    "many channels": (1, 300, 3, 2),
    "one row": (2, 6, 1, 40),
    "one column": (2, 6, 40, 1),
    "one element": (5, 64, 1, 1),
}


@pytest.mark.parametrize("shape", CUTS.values(), ids=list(CUTS))
@layout
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_each_way_of_cutting_a_tensor(on_host, shape, layout, dtype):
    chains = [xsep(2, 7), {"operator": "even_depthwise_conv2d", "even": 4, "stride": 2}]
    if math.prod(shape) < 10_000:  # the kernel of any sizes takes its time
        chains.append(xsep(2, 13))
    for chain in chains:
        case = Case(**chain, shape=shape, layout=layout, dtype=dtype, directions=("TR", "BR", "BL", "TL"))
        with on_host.order("reverse"):
            check(case)


def test_longest_kernel_on_the_smallest_maps():
    for layout, H, W in itertools.product(DENSE, (1, 5), (1, 2, 5)):
        check(Case(**xsep(4, 31), shape=(2, 9, H, W), layout=layout))
    check(Case(**separable(31), shape=(2, 128, 1, 1), dtype=torch.float16))


def test_a_map_of_too_many_rows_is_refused():
    x = torch.zeros((), dtype=torch.float16).expand(1, 1, 2**30 + 1, 1)
    with pytest.raises(RuntimeError, match="H = 1073741825 and W = 1; accepted on CUDA are at most 1073741824"):
        functional.even_depthwise_conv2d(x, torch.ones(1, 1, 2, 2, dtype=torch.float16))


@pytest.mark.parametrize("layout", [*LAYOUTS, *ODD_LAYOUTS])
@dtype
def test_each_layout(layout, dtype):
    """Units of 16 bytes, smaller pieces of them and single elements, of x and of the result's gradient."""
    for W, chain in itertools.product((16, 18, 9), (xsep(2, 5), xsep(2, 13))):
        check(Case(**chain, shape=(2, 8, 3, W), layout=layout, dtype=dtype))
    case = Case(**xsep(2, 5), shape=(2, 8, 5, 16), layout=layout, dtype=dtype, stride=(2, 1))
    y = case.run(reference, case.inputs())
    for of_grad in (*LAYOUTS, *ODD_LAYOUTS):
        check(case, as_layout(y.shape, of_grad, y.dtype).detach())
    check(case, y.detach().new_ones(()).expand(y.shape))


@family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_float32_weights_beside_a_half_map(variant, dtype):
    for layout in DENSE:
        check(Case(**variant, shape=(2, 20, 9, 17), dtype=dtype, weight_dtype=torch.float32, layout=layout))


@family
@layout
def test_each_direction_of_each_channel_group(variant, layout):
    """Pairs of channels that share a thread may be padded to different sides."""
    if variant["operator"] == "separable_depthwise_conv2d":
        pytest.skip("no even kernel")
    for directions in itertools.permutations(DIRECTIONS[:4]):
        for channels in (5, 6):
            shape = (1, channels, 4, 5)
            check(Case(**variant, shape=shape, directions=directions, layout=layout, dtype=torch.bfloat16))


@family
@layout
def test_each_subset_of_the_gradients(variant, layout):
    case = Case(**variant, shape=(2, 6, 7, 9), layout=layout)
    tensors = case.inputs()
    whole = outputs(case, functional, tensors)
    names = list(given(tensors))
    for wanted in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(1, len(names))):
        leaves = {n: t if t is None or n in wanted else t.detach() for n, t in tensors.items()}
        y = case.run(functional, leaves)
        gradients = torch.autograd.grad(y, [leaves[name] for name in wanted], gradient_like(y))
        for name, gradient in zip(wanted, gradients):
            assert same_bits(gradient, whole[name]), f"{name} of {wanted}"


@family
@layout
def test_no_images(variant, layout):
    case = Case(**variant, shape=(0, 6, 5, 4), layout=layout)
    for name, value in outputs(case, functional, case.inputs()).items():
        assert not value.any(), name


@family
@layout
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_reaches_no_further_than_the_kernel(variant, layout, value):
    """The backward's reach is that of its definition: where the transposed convolution has the element."""
    case = Case(**variant, shape=(2, 5, 12, 13), layout=layout)
    for at in ((0, 1, 0, 0), (1, 4, 11, 12), (1, 2, 5, 6)):
        tensors = {name: t if t is None else t.detach() for name, t in case.inputs().items()}
        x = tensors["x"] = tensors["x"].clone()
        for touched in ("x", "gradient"):
            found = []
            for place in ("cuda_on_host", "cpu"):
                with places.at(place):
                    x = tensors["x"].clone().requires_grad_()
                    grad = gradient_like(x)
                    with torch.no_grad():
                        (x if touched == "x" else grad)[at] = value
                    y = case.run(functional, tensors | {"x": x})
                    found.append((y.detach(), *torch.autograd.grad(y, x, grad)))
            for a, b in zip(*found):
                assert torch.equal(a.isnan(), b.isnan())
                assert torch.equal(a.isinf(), b.isinf())
            assert not all(value.isfinite().all() for value in found[0])
            assert found[0][0].isfinite()[0 if at[0] else 1].all()


@layout
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_kernel_of_one_copies_every_finite_value(layout, dtype):
    """Subnormals and the largest values too."""
    info = torch.finfo(dtype)
    values = torch.tensor([info.max, info.min, info.tiny, info.tiny / 4, info.smallest_normal / 2, -0.0, 1, info.eps])
    x = (
        values.to(dtype)
        .repeat(2, 6, 5, 2)
        .to(memory_format=torch.channels_last if "last" in layout else torch.contiguous_format)
    )
    for K in (3, 13):
        band = torch.zeros(6, 1, 1, K, dtype=dtype)
        band[..., K // 2] = 1
        even = torch.zeros(6, 1, 2, 2, dtype=dtype)
        even[:, :, 0, 0] = 1
        y = functional.xsep_conv2d(x, even, band, band.transpose(2, 3))
        assert torch.equal(y, x)


@pytest.mark.parametrize("far", range(4))
@layout
def test_elements_more_than_two_to_the_31_apart(far, layout):
    """In x and in the result's gradient, in each dimension; few pages of the memory are touched."""
    shape = (2, 3, 5, 4)
    if far == 1 and layout == "channels_last":
        pytest.skip("channels lie side by side, or it is not channels_last")
    order = [d for d in ((3, 2, 1, 0) if layout == "contiguous" else (1, 3, 2, 0)) if d != far] + [far]

    def spread(values):
        strides, reach = [0] * 4, 1
        for d in order:
            strides[d] = 2**31 // (shape[d] - 1) + 8 if d == far else reach
            reach = reach + (shape[d] - 1) * strides[d]
        memory = torch.empty(reach, dtype=torch.bfloat16)
        assert reach > 2**31
        return memory.as_strided(shape, strides).copy_(values)

    case = Case(**xsep(2, 3), shape=shape, layout=layout, dtype=torch.bfloat16)
    near = case.inputs()
    grad = gradient_like(near["x"])
    tensors = near | {"x": spread(near["x"].detach()).requires_grad_()}
    expected = outputs(case, functional, near, grad)
    for name, value in outputs(case, functional, tensors, spread(grad)).items():
        assert same_bits(value, expected[name]), name


def sizes():
    return st.one_of(st.sampled_from((1, 2, 3, 7, 8, 14, 15)), st.integers(1, 20))


@st.composite
def cases(draw):
    operator = draw(st.sampled_from(("even_depthwise_conv2d", "separable_depthwise_conv2d", "xsep_conv2d")))
    K = st.one_of(st.sampled_from(TUNED), st.integers(0, 15).map(lambda n: 2 * n + 1))
    dtype = draw(st.sampled_from(DTYPES))
    half = dtype in (torch.float16, torch.bfloat16)
    return Case(
        operator,
        shape=(draw(st.integers(1, 3)), draw(st.sampled_from((1, 2, 3, 5, 6, 8, 17))), draw(sizes()), draw(sizes())),
        even=draw(st.sampled_from((2, 4))),
        band=draw(st.one_of(K, st.tuples(K, K))),
        bands=draw(st.sampled_from(("both", "row", "col"))) if operator.startswith("sep") else "both",
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        directions=draw(st.tuples(*[st.sampled_from(DIRECTIONS[:4])] * 4)),
        bias=draw(st.booleans()),
        layout=draw(st.sampled_from((*DENSE, *LAYOUTS, *ODD_LAYOUTS))),
        dtype=dtype,
        weight_dtype=torch.float32 if half and draw(st.booleans()) else None,
        seed=draw(st.integers(0, 99)),
    )


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@drawn(cases())
def test_any_case(case):
    check(case)
