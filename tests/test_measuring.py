"""What the benchmarks measure with: times in turns and blocks, the machine's limits, bytes."""

import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cases import SMALL, each_operator

from benchmarks import timing
from benchmarks.candidates import candidates
from benchmarks.cases import OTHERS, SWEEPS, XSEP
from benchmarks.limits import Limits, copies_of, measure_limits, needs, sets_for
from benchmarks.machine import last_level_cache
from benchmarks.memory import peak_bytes
from benchmarks.results import merged
from benchmarks.timing import LEAST_ROUNDS, interleaved, spread
from evenconv_cuda import reference
from evenconv_cuda.saved import saved_bytes

ROOT = Path(__file__).resolve().parents[1]
LIMITS = Limits(1e10, {"float32": 1e11, "bfloat16": 1e11})


def test_spread():
    values = list(np.random.default_rng(0).permutation(101) + 1.0)
    found = spread([values[:50], values[50:], [51.0]])
    deciles = dict(
        zip(("min", "p10", "p25", "median", "p75", "p90"), np.quantile([*values, 51], (0, 0.1, 0.25, 0.5, 0.75, 0.9)))
    )
    assert {name: found[name] for name in deciles} == pytest.approx(deciles, rel=1e-3)
    assert found["rounds"] == 102
    assert found["blocks"] == [np.median(values[:50]), np.median(values[50:]), 51]
    assert spread([[1.23456789, 1.23456789]])["median"] == 1.235


def test_candidates_take_turns_in_changing_order():
    order = []
    times = interleaved({name: lambda name=name: order.append(name) for name in "abc"}, 20)
    rounds = ["".join(order[at : at + 3]) for at in range(0, len(order), 3)]
    assert all(sorted(one) == list("abc") for one in rounds)
    assert len(set(rounds)) > 3
    assert len(times["a"]) == len(times["b"]) == 20
    block = order.copy()
    order.clear()
    interleaved({name: lambda name=name: order.append(name) for name in "abc"}, 20)
    assert order != block


class Clock:
    """Stands still but for what is done."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def taking(self, seconds):
        """A call that takes so long."""

        def call():
            self.now += seconds

        return call


@pytest.mark.parametrize(("at_most_s", "rounds"), [(None, 100), (1.0, 52), (0.03, LEAST_ROUNDS)])
def test_times_are_those_of_the_clock_and_end(at_most_s, rounds, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    times = interleaved({"slow": clock.taking(2**-6), "fast": clock.taking(2**-8)}, 100, at_most_s=at_most_s)
    assert times == {"slow": [1e3 / 64] * rounds, "fast": [1e3 / 256] * rounds}


def test_blocks_are_merged():
    rows = [{"model": "net", "ms": 1}] * 2
    keys = dict.fromkeys(("conv", "backend", "layout", "precision", "mode", "batch", "size"), 0)
    blocks = [
        [row | keys | {"batch": n, "ms": [n + 1.0, block + 2.0]} for n, row in enumerate(rows)] for block in range(3)
    ]
    first, second = merged(blocks, 3)
    assert (first["ms"]["rounds"], first["ms"]["blocks"]) == (6, [1.5, 2, 2.5])
    assert (second["ms"]["min"], second["ms"]["blocks"]) == (2, [2, 2.5, 3])
    assert merged([blocks[0], blocks[1][:1], blocks[2]], 3) == [first]
    assert merged(blocks, 4) == merged([], 3) == []


@each_operator
@pytest.mark.parametrize("what", ["forward", "backward", "step"])
def test_what_an_operator_needs(case, what):
    """Maps by their shapes; products by convolutions of ones with ones, which count the taps that meet the map."""
    x, grad = candidates(case, torch.bfloat16)["pad+concat, NCHW"].sets[0]
    met = taps_on_the_map(case)
    maps = {"forward": x.nbytes + grad.nbytes, "backward": x.nbytes + grad.nbytes + (x.nbytes if met else 0)}
    flops = {"forward": 2 * met, "backward": 4 * met}
    moved, multiplied = needs(case, "bfloat16", what)
    assert moved == (sum(maps.values()) if what == "step" else maps[what])
    inexact = case.stride > 1 and case.operator == "even_conv2d"  # which are skipped depends on the direction
    assert multiplied == pytest.approx(sum(flops.values()) if what == "step" else flops[what], rel=0.2 * inexact)


def taps_on_the_map(case):
    K, stride, ones = case.K, case.stride, torch.ones(2, 6, 9, 9)
    if case.operator == "symmetric_pad2d":
        return 0
    if case.operator == "even_conv2d":
        return reference.even_conv2d(ones, torch.ones(6, 6, K, K), stride=stride).sum().item()
    even = reference.even_depthwise_conv2d(ones, torch.ones(6, 1, 2, 2)).sum().item()
    if case.operator == "even_depthwise_conv2d":
        return even
    row = reference.separable_depthwise_conv2d(ones, torch.ones(6, 1, 1, K), None, stride=(1, stride))
    col = reference.separable_depthwise_conv2d(torch.ones_like(row), None, torch.ones(6, 1, K, 1), stride=(stride, 1))
    return (row.sum() + col.sum()).item() + even * (case.operator == "xsep_conv2d")


def test_limits():
    assert LIMITS.milliseconds(10**7, 10**7, "float32") == 1
    assert LIMITS.milliseconds(10**7, 10**9, "bfloat16") == 10
    wide = Limits(2e10, {"float32": 2e11})
    highest = Limits.highest([LIMITS, wide])
    assert highest == Limits(2e10, {"float32": 2e11, "bfloat16": 1e11})
    assert highest.milliseconds(0, 10**9, "bfloat16") == 5


def test_the_fastest_copy_is_a_limit():
    (copy,) = merged([[{**vars(SMALL["xsep_conv2d"]), **COPY, "ms": [2.0, 3.0]}]], 1)
    assert copies_of([copy]).copy_bytes_per_s == 2 * 4 * 2 * 6 * 81 / 2e-3


COPY = {"dtype": "float32", "pass": "forward", "candidate": "copy", "layout": "NCHW", "mode": "eager"}


def test_the_machines_limits_are_what_its_fastest_calls_reach(monkeypatch):
    """Two milliseconds a copy, five a product of matrices, half of one a convolution."""
    monkeypatch.setattr("benchmarks.limits.COPIED_BYTES", {"cpu": 1 << 12})
    monkeypatch.setattr("benchmarks.limits.MATRIX", {"cpu": (8,)})
    monkeypatch.setattr("benchmarks.limits.MAPS", {"cpu": ((1, 4, 6),)})

    def measured(calls, *_):
        for call in calls.values():
            call()
        return {name: [9.0, 2.0 if name == "copy" else 5.0 if len(name) == 2 else 0.5] for name in calls}

    monkeypatch.setattr("benchmarks.limits.interleaved", measured)
    limits = measure_limits("cpu", (torch.float32, torch.bfloat16))
    convolution = 2 * (4 * 6 * 6) * (4 * 3 * 3)
    assert limits.copy_bytes_per_s == pytest.approx(2 * 4096 / 2e-3)
    assert limits.flops_per_s == pytest.approx(dict.fromkeys(("float32", "bfloat16"), convolution / 0.5e-3))


def test_inputs_do_not_fit_into_the_cache():
    for case in (*XSEP, *OTHERS, *SWEEPS):
        sets = sets_for(case, torch.float32, "cpu")
        assert sets * 2 * 4 * case.N * case.C * case.H**2 > max(63 << 20, 1.9 * (last_level_cache() or 0))
        assert sets >= 2


def test_saved_bytes():
    found = candidates(SMALL["xsep_conv2d"], torch.float32)
    x, weights = 4 * 2 * 6 * 81, 4 * 6 * (4 + 5 + 5)
    assert saved_bytes(found["fused, NCHW"].forward) == x + weights
    assert saved_bytes(found["pad+concat, NCHW"].forward) > 2 * (x + weights)
    fused = found["fused, NCHW"]
    assert saved_bytes(fused.forward, without=[fused.sets[0][0]]) == weights


def test_counting_saved_bytes_keeps_nothing_alive():
    x, results = torch.randn(100, requires_grad=True), []

    def forward():
        y = (2 * x).relu()
        results.append(weakref.ref(y))
        return y.sum()

    assert saved_bytes(forward) == 400
    assert results[0]() is None


def test_peak_bytes():
    if peak_bytes(lambda: None) is None:
        pytest.skip("no /proc/self/clear_refs here")
    size = 64 << 20

    def call():
        first = torch.ones(size // 4)
        del first
        second = torch.ones(size // 4)
        return second + second

    assert size * 1.9 < peak_bytes(call) < size * 2.2


KEEPING = """
import resource, sys, torch
from benchmarks.memory import keep_memory
sys.exit(3) if not keep_memory() else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(4 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults() for _ in range(30)))
"""


def test_memory_is_kept():
    ran = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, cwd=ROOT)
    if ran.returncode == 3:
        pytest.skip("this allocator cannot be told to keep memory")
    first, *_, last = map(int, ran.stdout.split())
    assert first > 1000 > 10 * last
