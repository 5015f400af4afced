"""A case of each operator, and a comparison of networks, that take no time."""

import pytest

from benchmarks.cases import Case
from benchmarks.models import Comparison

SMALL = {
    "symmetric_pad2d": Case(2, 6, 9, 4, "symmetric_pad2d"),
    "even_conv2d": Case(2, 6, 9, 4, "even_conv2d", stride=2),
    "even_depthwise_conv2d": Case(2, 6, 9, 2, "even_depthwise_conv2d"),
    "separable_depthwise_conv2d": Case(2, 6, 9, 5, "separable_depthwise_conv2d"),
    "xsep_conv2d": Case(2, 6, 9, 5, stride=2),
}

each_operator = pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)

TINY = Comparison("resnet20", ("c3", "c2sp"), 2, 8)
