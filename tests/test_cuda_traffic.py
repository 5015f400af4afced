"""What the CUDA kernels move, counted on the host: the maps once each, and a share for the rest that is stated."""

from fractions import Fraction

import pytest
import torch
from cases import Case, given, gradient_like

from evenconv_cuda import functional

# Enough images for 10 thousand columns of every layout and dtype, in some seconds.
SHAPES = ((4, 8, 56, 56), (8, 16, 28, 28), (16, 32, 14, 14), (32, 64, 7, 7))
LAYOUTS = ("contiguous", "channels_last")
DTYPES = (torch.float32, torch.bfloat16)


class Measured:
    """Counters of a call, its plan, and what the plan makes of the weights and the partial sums."""

    def __init__(self, case, on_host, backward):
        from evenconv_cuda.extension import load_extension

        tensors = case.inputs()
        if backward:
            y = case.run(functional, tensors)
            grad = gradient_like(y).contiguous(memory_format=case_format(case))
        with on_host.count() as self.counters, torch.set_grad_enabled(backward):
            if backward:
                torch.autograd.grad(y, list(given(tensors).values()), grad)
            else:
                case.run(functional, tensors)
        N, C, H, W = case.shape
        itemsize = case.dtype.itemsize
        even = case.even if case.operator == "xsep_conv2d" else 0
        self.plan = plan = load_extension().cuda_plan(
            case.shape, str(case.dtype).removeprefix("torch."), case.layout == "channels_last", even, case.band,
            case.band, (1, 1), backward,
        )  # fmt: skip
        self.map_bytes = N * C * H * W * itemsize
        # Every thread reads the taps and biases of its channels; backward those of the even kernel twice.
        taps = plan["gradients"] + (even**2 if backward else 0)
        self.weight_bytes = plan["splits"] * plan["images"] * plan["tiles"] * C * taps * itemsize
        # Bands below each other read the rows that their kernels reach, and up to a step of four rows more.
        rows = (plan["bands"] - 1) * (even + case.band + 2)
        self.halo_bytes = rows * self.map_bytes * columns_read(plan, W) // H
        self.gradient_bytes = plan["gradients"] * C * itemsize
        self.partial_bytes = plan["splits"] * plan["gradients"] * C * 4


def columns_read(plan, W):
    """Columns that the blocks of a row read, over the row's."""
    halo = -(-plan["column_halo"] // plan["columns"]) * plan["columns"] if plan["column_tiles"] > 1 else 0
    begins = [tile * plan["column_tile"] - halo for tile in range(plan["column_tiles"])]
    ends = [begin + plan["tiles"] * plan["columns"] for begin in begins]
    return Fraction(sum(min(end, W) - max(begin, 0) for begin, end in zip(begins, ends)), W)


def case_format(case):
    return torch.channels_last if case.layout == "channels_last" else torch.contiguous_format


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("K", [3, 7])
def test_forward_reads_x_once_and_writes_the_result_once(on_host, shape, K, layout, dtype):
    """2 T, beside weights; x is read again only in columns beside another block's."""
    found = Measured(Case("xsep_conv2d", shape, band=K, layout=layout, dtype=dtype), on_host, backward=False)
    assert found.counters["launches"] == 1
    assert found.counters["bytes_written"] == found.map_bytes
    read = found.counters["bytes_read"] - found.map_bytes * columns_read(found.plan, shape[3])
    assert 0 <= read <= found.weight_bytes + found.halo_bytes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("K", [3, 7])
def test_backward_reads_x_and_the_gradient_once_and_writes_dx_once(on_host, shape, K, layout, dtype):
    """3 T, beside weights, and partial sums that are written and read once."""
    found = Measured(Case("xsep_conv2d", shape, band=K, layout=layout, dtype=dtype), on_host, backward=True)
    assert found.counters["launches"] == 2
    assert found.counters["bytes_written"] == found.map_bytes + found.partial_bytes + found.gradient_bytes
    read = found.counters["bytes_read"] - found.partial_bytes
    read -= 2 * found.map_bytes * columns_read(found.plan, shape[3])
    assert 0 <= read <= found.weight_bytes + 2 * found.halo_bytes


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_rows_of_whole_units_fill_their_sectors(on_host, backward, dtype):
    """A row of 56 is 7 or 14 units of 16 bytes. Of a warp's units few share a sector with those of another warp."""
    found = Measured(Case("xsep_conv2d", SHAPES[0], band=7, dtype=dtype), on_host, backward).counters
    assert found["sectors_written"] * 32 <= 1.25 * found["bytes_written"]
    assert found["sectors_read"] * 32 <= 1.25 * found["bytes_read"]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channels_last_writes_at_least_half_sectors(on_host, shape, backward, dtype):
    """Of 16 bytes, where blocks are made narrow so that there are enough of them."""
    found = Measured(Case("xsep_conv2d", shape, band=7, layout="channels_last", dtype=dtype), on_host, backward)
    assert found.counters["sectors_written"] * 32 <= 2.05 * found.counters["bytes_written"]
