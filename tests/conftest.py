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
