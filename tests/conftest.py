import pytest
import torch

import evenconv_cuda


@pytest.fixture(autouse=True)
def reproducible():
    torch.manual_seed(0)


@pytest.fixture(params=evenconv_cuda.build_info()["cpu_isa_available"])
def isa(request):
    """Every instruction set that this processor runs, one after the other."""
    binary = evenconv_cuda.extension.load_extension()
    best = evenconv_cuda.build_info()["cpu_isa"]
    binary.set_cpu_isa(request.param)
    yield request.param
    binary.set_cpu_isa(best)
