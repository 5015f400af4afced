"""One case of each family of CUDA kernels on the host, small enough for a run under sanitizers."""

import pytest
import torch
from cases import Case, outputs

from evenconv_cuda import functional, reference

CASES = [
    Case("symmetric_pad2d", even=4),
    Case("even_depthwise_conv2d", even=4, layout="channels_last", dtype=torch.bfloat16),
    Case("separable_depthwise_conv2d", band=7, stride=(2, 1)),
    Case("separable_depthwise_conv2d", band=5, bands="row", dtype=torch.float16),
    Case("xsep_conv2d", band=3, layout="sliced", dtype=torch.bfloat16),
    Case("xsep_conv2d", band=13, shape=(2, 8, 5, 8), layout="channels_last"),
    Case("xsep_conv2d", band=5, even=4, dtype=torch.float64),
]


@pytest.mark.sanitize
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)
def test_sanitizers_find_nothing_in_the_kernels(on_host, case):
    tensors = case.inputs()
    found = outputs(case, functional, tensors)
    for name, expected in outputs(case, reference, tensors).items():
        torch.testing.assert_close(found[name], expected, rtol=0.1, atol=0.1)
