from contextlib import contextmanager
from itertools import count

import places
import pytest
import torch

import evenconv_cuda


@pytest.fixture(autouse=True)
def reproducible():
    torch.manual_seed(0)


# A GPU's tests are not collected where there is none; the CUDA kernels on the host are skipped with a reason.
@pytest.fixture(params=[p for p in places.PLACES if p != "cuda" or places.why_not(p) is None])
def place(request):
    """Every place where the operators run, one after the other."""
    reason = places.why_not(request.param)
    if reason:
        pytest.skip(reason)
    with places.at(request.param):
        yield request.param


@pytest.fixture(params=evenconv_cuda.build_info()["cpu_isa_available"])
def isa(request):
    """Every instruction set that this processor runs, one after the other."""
    binary = evenconv_cuda.extension.load_extension()
    best = evenconv_cuda.build_info()["cpu_isa"]
    binary.set_cpu_isa(request.param)
    yield request.param
    binary.set_cpu_isa(best)


class OnHost:
    """Orders and counters of the CUDA kernels on the CPU."""

    ORDERS = (("forward", 0), ("reverse", 0), ("shuffled", 1), ("shuffled", 2), ("shuffled", 3))

    def __init__(self, binary):
        self._binary = binary

    @contextmanager
    def order(self, name, seed=0):
        self._binary.set_order(name, seed)
        try:
            yield
        finally:
            self._binary.set_order("forward", 0)

    @contextmanager
    def count(self):
        """Counters, filled in at the end of the block."""
        counters = {}
        self._binary.reset_counters()
        self._binary.set_counting(True)
        try:
            yield counters
        finally:
            self._binary.set_counting(False)
            counters.update(self._binary.counters())


@pytest.fixture
def on_host():
    """The CUDA kernels on the CPU, in force during the test."""
    reason = places.why_not("cuda_on_host")
    if reason:
        pytest.skip(reason)
    with places.at("cuda_on_host"):
        yield OnHost(places.emulator())


@pytest.fixture
def no_clock(monkeypatch):
    """Candidates run once, to see that they can; their times are the numbers that count up from 1."""
    ticks = count(1)
    monkeypatch.setattr("benchmarks.timing._round", lambda order: {name: float(next(ticks)) for name, _ in order})
    monkeypatch.setattr("benchmarks.limits.rotated_bytes", lambda device: 1)  # or small cases take thousands of sets
