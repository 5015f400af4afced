"""What a type checker makes of a user's code."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SNIPPET = """
from torch import Tensor, nn as tnn
from evenconv_cuda import nn

xsep = nn.XSepConv2d(8, 8, 5, stride=(1, 2), directions="TL")
even: tnn.Parameter = xsep.weight_even
row: tnn.Parameter = xsep.weight_row
bias: tnn.Parameter | None = xsep.bias_col
groups: tuple[str, str, str, str] = xsep.directions
kernel: tuple[int, int] = xsep.kernel_size
xsep.directions = "TR"
xsep.group_sizes = (2, 2, 2, 2)
normalised = nn.XSepConv2dNormActivation(8, 8, 5)
norm: tnn.Module = normalised.norm_even
channels: int = nn.SeparableDepthwiseConv2d(8, 8, 3).in_channels
pair: tuple[int, ...] = nn.C2sp(3, 8, stride=2, padding="same", bias=False, directions="BR").stride
do = nn.DOConv2d(3, 8, 3, padding=1, d_mul=9)
factor: tnn.Parameter = do.W
weight: Tensor = do.weight
do.weight = weight
plain: tnn.Conv2d = do.fold()
nn.prune(nn.C4sp(8, 8, (4, 4)), keep_in=[0, 1])

nn.C2sp(3, 8, bais=False)  # wrong: bais
nn.C4sp("3", 8)  # wrong: "str"
nn.C4sp(3, 8, stride="2")  # wrong: "str"
"""


@pytest.mark.exhaustive
def test_a_users_snippet(tmp_path, request):
    """The first run reads all of PyTorch's types, the next ones what the cache has of them."""
    source = Path(tmp_path, "snippet.py")
    source.write_text(textwrap.dedent(SNIPPET))
    cache = request.config.cache.mkdir("mypy")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-error-summary", "--hide-error-context"]
    root = Path(__file__).parent.parent
    found = subprocess.run([*command, "--cache-dir", str(cache), str(source)], cwd=root, capture_output=True, text=True)
    errors = [line for line in found.stdout.splitlines() if ": error: " in line]
    wrong = [(n, line.split("# wrong: ")[1]) for n, line in enumerate(SNIPPET.splitlines(), 1) if "# wrong: " in line]
    assert len(errors) == len(wrong), found.stdout + found.stderr
    for error, (number, word) in zip(errors, wrong):
        assert f"snippet.py:{number}: " in error
        assert word in error
