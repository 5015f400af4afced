"""The comparison itself: it must let rounding pass and nothing else."""

import pytest
import torch
from tolerance import check_close, largest_error


@pytest.fixture
def exact():
    return torch.linspace(-3, 3, 1000, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_passes(exact, dtype):
    rounded = exact.to(dtype)
    check_close("y", rounded, rounded, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_wrong_element_fails(exact, dtype):
    rounded = exact.to(dtype)
    wrong = rounded.clone()
    wrong[17] += 64 * torch.finfo(dtype).eps
    with pytest.raises(AssertionError, match="y is off by"):
        check_close("y", wrong, rounded, exact)


def test_a_shape_or_a_nan_fails(exact):
    with pytest.raises(AssertionError, match="shape"):
        check_close("y", exact[1:], exact, exact)
    with pytest.raises(AssertionError, match="finite"):
        check_close("y", exact * float("nan"), exact, exact)


def test_error_of_nothing_is_zero():
    empty = torch.empty(0, dtype=torch.float64)
    assert largest_error(empty, empty) == 0
