"""Weight gradients are summed in one order: the same bits every time, whatever the number of threads."""

import pytest
import torch
from cases import Case, outputs

from evenconv_cuda import functional

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("operator", ["even_depthwise_conv2d", "separable_depthwise_conv2d", "xsep_conv2d"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(16, 3, 14, 14), (1, 4, 300, 60), (5, 40, 7, 7)], ids=str)
def test_same_bits(operator, layout, shape, threads):
    case = Case(operator, shape=shape, layout=layout, band=7)
    tensors = case.inputs()
    first = outputs(case, functional, tensors)
    for count in (1, 2, 3, 2):
        threads(count)
        again = outputs(case, functional, tensors)
        for name, value in first.items():
            assert torch.equal(value, again[name]), f"{name} with {count} threads"


def test_dense_at_a_given_number_of_threads():
    case = Case("even_conv2d", shape=(5, 3, 61, 47))
    tensors = case.inputs()
    first, again = (outputs(case, functional, tensors) for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_concurrent_calls():
    """Several Python threads at once: scratch memory is each thread's own."""
    from concurrent.futures import ThreadPoolExecutor

    cases = [Case("xsep_conv2d", shape=(2, 6 + n, 20 + n, 15), band=3 + 2 * (n % 3), seed=n) for n in range(12)]
    alone = [outputs(case, functional, case.inputs()) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: outputs(case, functional, case.inputs()), cases))
    for expected, found in zip(alone, together):
        for name, value in expected.items():
            assert torch.equal(value, found[name]), name
