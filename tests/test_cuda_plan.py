"""How the CUDA kernels cut a chain into blocks: properties that hold for every input. No kernel runs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evenconv_cuda

cuda_plan = evenconv_cuda.extension.load_extension().cuda_plan

MOST_BLOCKS = 2**31 - 1
MOST_SHARED = 64 << 10  # bytes that a block can have on every architecture from 7.5 on

SIZES = st.sampled_from((0, *range(1, 32, 2)))
CHAINS = st.tuples(st.sampled_from((0, 2, 4)), SIZES, SIZES).filter(any)
LENGTHS = st.one_of(st.integers(1, 3), st.integers(1, 70), st.integers(1, 4000))


@st.composite
def arguments(draw):
    even, row, column = draw(CHAINS)
    return {
        "shape": (
            draw(st.one_of(st.integers(0, 5), st.integers(0, 5000))),
            draw(LENGTHS),
            draw(LENGTHS),
            draw(LENGTHS),
        ),
        "dtype": draw(st.sampled_from(("float32", "float64", "float16", "bfloat16"))),
        "channels_last": draw(st.booleans()),
        "even": even,
        "row": row,
        "column": column,
        "stride": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "backward": draw(st.booleans()),
    }


def pieces(whole, part):
    return -(-whole // part)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(arguments())
def test_every_plan(arguments):
    plan = cuda_plan(**arguments)
    N, C, H, W = arguments["shape"]
    assert plan == cuda_plan(**arguments)
    assert 1 <= plan["threads"] <= 128
    assert plan["threads"] == plan["images"] * plan["units"] * plan["tiles"]
    assert plan["unit_bytes"] in (4, 8, 16)

    # What the blocks own covers the tensor, and the last of them in each direction owns something.
    assert plan["channel_blocks"] == pieces(C, plan["units"] * plan["lanes"])
    assert plan["column_tiles"] == pieces(W, plan["column_tile"])
    assert plan["bands"] == pieces(H, plan["band_rows"])
    assert plan["chunks"] == pieces(max(N, 1), plan["images_per_chunk"])
    assert plan["images_per_chunk"] % plan["images"] == 0
    assert plan["splits"] == plan["column_tiles"] * plan["bands"] * plan["chunks"]
    assert plan["blocks"] == plan["channel_blocks"] * plan["splits"]

    # The threads of a block have its own columns and, where there are others beside it, what it reads of theirs.
    columns = plan["tiles"] * plan["columns"]
    reach = arguments["even"] // 2 + max(arguments["row"], 1) // 2
    assert plan["column_halo"] == reach
    assert columns >= plan["column_tile"] + (2 * reach if plan["column_tiles"] > 1 else 0)

    # Bands begin at a row that a stride keeps.
    assert plan["bands"] == 1 or plan["band_rows"] % arguments["stride"][0] == 0


@settings(max_examples=500, deadline=None, derandomize=True)
@given(arguments())
def test_shared_memory_is_what_a_block_can_have(arguments):
    assert cuda_plan(**arguments)["shared_bytes"] <= MOST_SHARED


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("W", [1, 7, 14, 56])
def test_shared_memory_of_the_longest_kernels(dtype, channels_last, W):
    for even, row, column in ((4, 31, 31), (2, 31, 0), (2, 0, 31), (0, 31, 31)):
        for backward in (False, True):
            for C in (1, 8, 64):
                plan = cuda_plan((32, C, 56, W), dtype, channels_last, even, row, column, (1, 1), backward)
                assert plan["shared_bytes"] <= MOST_SHARED, (even, row, column, backward, C)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "shape", [(2**22, 32, 32, 32), (1, 2**31, 2, 2), (1, 3, 2**20, 2**14), (2, 2, 3, 2**31), (2**33, 1, 1, 1)], ids=str
)
def test_a_grid_for_more_than_two_to_the_31_elements(shape, channels_last):
    for backward in (False, True):
        plan = cuda_plan(shape, "float32", channels_last, 2, 7, 7, (1, 1), backward)
        assert 0 < plan["blocks"] <= MOST_BLOCKS
        assert plan["channel_blocks"] * plan["units"] * plan["lanes"] >= shape[1]
        assert plan["column_tiles"] * plan["column_tile"] >= shape[3]
        assert plan["bands"] * plan["band_rows"] >= shape[2]
        assert plan["chunks"] * plan["images_per_chunk"] >= shape[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [7, 14, 28, 56, 112])
@pytest.mark.parametrize("K", [3, 7])
def test_partial_sums_of_a_large_tensor_are_small(size, K, channels_last, dtype):
    """Of 64 MiB: a hundredth, or what some 528 blocks need, four for each multiprocessor of an H200; at most 4 %."""
    itemsize = 4 if dtype == "float32" else 2
    for C in (16, 64, 512, 960):
        N = pieces(64 << 20, C * size * size * itemsize)
        plan = cuda_plan((N, C, size, size), dtype, channels_last, 2, K, K, (1, 1), True)
        share = plan["splits"] * plan["gradients"] * C * 4 / (N * C * size * size * itemsize)
        across = plan["channel_blocks"] * plan["column_tiles"]
        assert share <= 0.01 or plan["blocks"] < 528 + across, (C, plan)
        assert share <= 0.04, (C, plan)
        assert plan["blocks"] >= 256
