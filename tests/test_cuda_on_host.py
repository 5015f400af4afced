"""CUDA on the host finds each fault that toy_kernels.cu plants and counts the traffic that is known by hand."""

import itertools
import json
import math
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
HOST = ROOT / "csrc" / "cuda_on_host"
FLAGS = ["-std=c++17", "-pthread", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror"]
BEGIN = "fault: block (0, 0, 0), thread (0, 0, 0): "


def build(folder, *flags):
    program = folder / "toys"
    sources = [ROOT / "tests" / "toy_kernels.cu", HOST / "emulator.cpp"]
    command = ["g++", *FLAGS, *flags, "-I", HOST / "include", "-x", "c++", *sources, "-o", program]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return program


def run(program, *arguments, **options):
    result = subprocess.run([program, *arguments], capture_output=True, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("toys"), "-O2")


@pytest.fixture
def toy(program):
    """The lines that a toy prints."""
    return lambda *arguments: run(program, *arguments, text=True).splitlines()


@pytest.fixture
def values(toy):
    """The numbers in the last line that a toy prints."""
    return lambda *arguments: [float(word) for word in toy(*arguments)[-1].split()]


@pytest.fixture
def counters(toy):
    """What a toy counts, without the zeros."""
    return lambda *arguments: {name: count for name, count in json.loads(toy(*arguments)[0]).items() if count}


REVERSED = [block * 256 + 255 - thread for block in range(4) for thread in range(256)]
ORDERS = [["forward"], ["reverse"], ["shuffled", "1"], ["shuffled", "2"]]


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_makes_results_the_same_in_every_order(values, order):
    assert values("reverse", *order) == REVERSED


def test_without_its_barrier_a_kernel_gives_different_results_in_different_orders(values):
    forward, reverse = (values("reverse without barrier", order) for order in ["forward", "reverse"])
    differ = [a != b and not (math.isnan(a) and math.isnan(b)) for a, b in zip(forward, reverse)]
    assert all(differ)


def test_threads_and_blocks_run_in_the_order_asked_for(toy):
    visited = [8 * block + thread for block in range(3) for _ in range(2) for thread in range(8)]
    for order, expected in [("forward", visited), ("reverse", visited[::-1])]:
        assert [[int(word) for word in line.split()] for line in toy("order", order)] == [expected] * 2


def test_a_shuffled_order_is_fresh_for_each_interval_and_follows_from_the_seed(toy):
    first, second = toy("order", "shuffled", "1")
    assert first == second
    assert first != toy("order", "shuffled", "2")[0]
    visited = [int(word) for word in first.split()]
    intervals = [visited[begin : begin + 8] for begin in range(0, 48, 8)]
    assert len({tuple(thread % 8 for thread in interval) for interval in intervals}) == 6
    for before, after in zip(intervals[::2], intervals[1::2]):
        assert sorted(before) == sorted(after)


def test_indices_count_x_first_and_z_last(values):
    assert values("indices") == list(range(24)) * 24


@pytest.mark.parametrize("order", ORDERS)
def test_shuffles_take_the_value_of_the_lane_named(values, order):
    assert values("sum", *order) == [496, 496, 496, 15]


def lines_of(kernel):
    """The numbers of the kernel's lines that hold a barrier or a shuffle."""
    lines = (ROOT / "tests" / "toy_kernels.cu").read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if f"void {kernel}(" in line)
    body = itertools.takewhile(lambda numbered: numbered[1], enumerate(lines[begin:], begin + 1))
    return [number for number, line in body if "_sync" in line or "__syncthreads" in line]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "barrier for some",
            "thread (47, 0, 0): waits at the __syncthreads of line {}, but thread (48, 0, 0) returned",
        ),
        (
            "one pass more for some",
            "thread (47, 0, 0): waits at the __syncthreads of line {}, but thread (48, 0, 0) returned",
        ),
        (
            "two barriers",
            "thread (63, 0, 0): waits at the __syncthreads of line {1}, but thread (0, 0, 0) waits at the "
            "__syncthreads of line {0}",
        ),
        ("shuffle of some", "thread (0, 0, 0): waits in the shuffle of line {} for lane 16, which returned"),
        (
            "shuffle beside a barrier",
            "thread (0, 0, 0): waits in the shuffle of line {} for lane 16, which waits at the __syncthreads of "
            "line {}",
        ),
        (
            "shuffle in a short block",
            "thread (0, 0, 0): waits in the shuffle of line {} for lane 20, which does not exist",
        ),
        ("shuffle without oneself", "thread (16, 0, 0): shuffle or __syncwarp whose mask lacks the calling lane"),
    ],
)
def test_threads_that_wait_for_others_that_do_not_come_are_a_fault(toy, name, message):
    kernel = {"shuffle in a short block": "sum_warp"}.get(name, name.replace(" ", "_"))
    assert toy(name) == ["fault: block (0, 0, 0), " + message.format(*lines_of(kernel))]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("misaligned", "read that is misaligned: 16 bytes at in + 4, which has 4096 bytes"),
        ("read after", "read out of bounds: 4 bytes at in + 4096, which has 4096 bytes"),
        ("read before", "read out of bounds: 4 bytes at in + -4, which has 4096 bytes"),
        ("read across the end", "read out of bounds: 16 bytes at in + 4080, which has 4088 bytes"),
        ("write after", "write out of bounds: 4 bytes at out + 4096, which has 4096 bytes"),
        ("write to the input", "write to memory that may only be read: 4 bytes at in + 12, which has 4096 bytes"),
        ("read after shared", "read out of bounds: 4 bytes at dynamic shared memory + 64, which has 64 bytes"),
        ("async of 12", "asynchronous copy of a size other than 4, 8 and 16, or filled beyond it"),
        ("async misaligned", "read that is misaligned: 8 bytes at in + 4, which has 4096 bytes"),
        ("async after", "read out of bounds: 8 bytes at in + 4096, which has 4096 bytes"),
        ("async to global memory", "asynchronous copy other than from global to shared memory"),
    ],
)
def test_an_access_that_a_gpu_would_not_survive_is_a_fault(toy, name, message):
    assert toy(name) == [BEGIN + message]


def test_an_index_that_overflows_32_bits_is_a_fault(toy):
    offset = 4 * (40000 * 60000 - 2**32)
    assert toy("row 40000") == [f"{BEGIN}read out of bounds: 4 bytes at large + {offset}, which has {12 << 30} bytes"]


def test_a_fault_leaves_nothing_behind(values):
    assert values("after faults") == list(range(1024))


def test_data_of_an_asynchronous_copy_is_there_once_it_is_waited_for(values):
    assert values("stages") == list(range(256))


def test_data_of_an_asynchronous_copy_is_nan_before_it_is_waited_for(values):
    found = values("stages not waited for")
    assert found[:128] == list(range(128))
    assert all(math.isnan(value) for value in found[128:])


def test_an_asynchronous_copy_fills_with_zeros_what_it_does_not_read(values):
    assert values("stages with zeros") == [0 if i % 4 == 3 else i for i in range(256)]
    assert values("stages of zeros only") == [0] * 256


def test_shared_memory_is_nan_until_it_is_written(values):
    assert all(math.isnan(value) for value in values("unwritten"))


def test_a_block_does_not_see_the_shared_memory_of_the_one_before(values):
    first, second = values("blocks apart")
    assert first == 1
    assert math.isnan(second)


@pytest.mark.parametrize("name", ["large block", "high grid", "deep grid", "empty grid", "empty block"])
def test_a_launch_of_a_size_that_cuda_refuses_is_an_error(toy, name):
    assert toy(name) == ["error: invalid configuration argument"]


def test_shared_memory_above_48_kib_has_to_be_asked_for_and_ends_at_227(toy):
    assert toy("shared unasked") == ["error: invalid argument"]
    assert toy("shared asked") == ["no error", "error: invalid argument", "invalid argument"]


def test_a_coalesced_copy_moves_no_more_sectors_than_its_bytes_fill(counters):
    assert counters("copy") == {
        "launches": 1,
        "bytes_read": 4096,
        "bytes_written": 4096,
        "sectors_read": 4096 // 32,
        "sectors_written": 4096 // 32,
        "requests_read": 8,
        "requests_written": 8,
    }


@pytest.mark.parametrize(("stride", "sectors"), [("8", 32), ("0", 1)])
def test_a_gather_moves_each_sector_that_it_touches_once(counters, stride, sectors):
    assert counters(f"gather {stride}") == {
        "launches": 1,
        "bytes_read": 128,
        "bytes_written": 128,
        "sectors_read": sectors,
        "sectors_written": 4,
        "requests_read": 1,
        "requests_written": 1,
    }


@pytest.mark.parametrize(
    ("name", "conflicts"),
    [
        ("column", 31),
        ("broadcast", 0),
        ("row", 0),
        ("row of 2", 0),
        ("row of 4", 0),
        ("row of halves", 0),
        ("every second of 4", 4),
    ],
)
def test_lanes_conflict_where_they_want_different_words_of_a_bank(counters, name, conflicts):
    assert counters(f"shared {name}").pop("shared_conflicts", 0) == conflicts


def test_barriers_are_counted_once_for_each_block_and_requests_for_each_warp(counters):
    found = counters("reverse")
    assert found["barriers"] == 4
    assert found["shared_requests"] == 64
    assert found["requests_read"] == found["requests_written"] == 32


def test_an_asynchronous_copy_counts_what_it_reads_and_what_it_fills(counters):
    written = {"launches": 1, "bytes_written": 1024, "sectors_written": 32, "requests_written": 2, "shared_requests": 4}
    assert counters("stages") == written | {"bytes_read": 1024, "sectors_read": 32, "requests_read": 2}
    assert counters("stages with zeros") == written | {"bytes_read": 768, "sectors_read": 32, "requests_read": 2}
    assert counters("stages of zeros only") == written


def test_two_threads_of_the_host_take_turns(toy):
    assert toy("turns") == ["0 wrong"]


def test_a_switch_between_threads_takes_well_below_a_microsecond(values):
    """256 threads that meet 50 barriers: 12 800 switches to the threads and as many back."""
    (milliseconds,) = values("time")
    assert milliseconds < 5


def test_half_types_convert_as_pytorch_does(program):
    patterns = torch.arange(1 << 16).to(torch.uint16)
    exact = patterns.view(torch.float16).float()
    exact = exact[exact.isfinite()]
    wide = patterns.view(torch.bfloat16).float()
    wide = wide[wide.isfinite()]
    middles = [torch.cat([(x[1:] + x[:-1]) / 2, x]) for x in (exact.sort().values, wide.double().sort().values)]
    samples = torch.cat([middle.float() for middle in middles])
    samples = torch.cat([samples.nextafter(torch.tensor(to)) for to in (-math.inf, math.inf)] + [samples])
    samples = torch.cat([samples, torch.tensor([math.inf, math.nan, 65519.0, 65520.0, 3.4028235e38, 1e-45])])

    found = run(program, "convert", input=samples.numpy().tobytes())
    floats = torch.frombuffer(bytearray(found[: 8 << 16]), dtype=torch.float32).reshape(-1, 2)
    halves = torch.frombuffer(bytearray(found[8 << 16 :]), dtype=torch.uint16).reshape(-1, 4)
    assert torch.equal(floats[:, 0].nan_to_num(7), patterns.view(torch.float16).float().nan_to_num(7))
    assert torch.equal(floats[:, 1].nan_to_num(7), patterns.view(torch.bfloat16).float().nan_to_num(7))
    for column, dtype, sign in [
        (0, torch.float16, 1),
        (1, torch.float16, -1),
        (2, torch.bfloat16, 1),
        (3, torch.bfloat16, -1),
    ]:
        expected = (sign * samples).to(dtype)
        got = halves[:, column].contiguous().view(dtype)
        number = ~expected.isnan()
        assert torch.equal(got.isnan(), ~number)
        assert torch.equal(got[number].view(torch.int16), expected[number].view(torch.int16))


SOUND = [
    "copy", "reverse", "sum", "stages", "stages with zeros", "stages of zeros only", "indices", "order", "turns",
    "shared asked", "shared column", "unwritten", "blocks apart", "after faults", "shuffle of some", "convert",
]  # fmt: skip


@pytest.mark.exhaustive
def test_sanitizers_find_nothing_in_the_emulator(tmp_path):
    program = build(tmp_path, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    for name in SOUND:
        run(program, name, stdin=subprocess.DEVNULL)
