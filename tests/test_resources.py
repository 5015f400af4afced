"""The budget of registers: what counts as over it."""

import pytest

from benchmarks.resources import BUDGET, Kernel


def kernel(name, registers=32, spilled=0, stack=0):
    return Kernel(name, registers, stack, spilled, shared_bytes=0, cubin=None)


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("chain_forward<float, false, 16, 2, 7>", BUDGET["chain_forward"]["contiguous"][7]),
        ("chain_backward<__half, true, 8, 0, 11>", BUDGET["chain_backward"]["channels_last"][11]),
        ("reduce<float, __half>", BUDGET["reduce"]),
    ],
)
def test_a_kernel_may_use_its_budget_and_a_stack_but_no_more_and_no_spills(name, budget):
    assert kernel(name).budget == budget
    assert kernel(name, registers=budget, stack=16).fits
    assert not kernel(name, registers=budget + 1).fits
    assert not kernel(name, spilled=4).fits
