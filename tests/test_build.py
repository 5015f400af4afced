"""The build and the binary: what they say when something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import evenconv_cuda

ROOT = Path(__file__).resolve().parents[1]


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


def setup_py(prelude="", **environment):
    code = f"{prelude}\nimport sys; sys.argv = ['setup.py', '--name']; exec(open('setup.py').read())"
    return python(code, **environment)


def test_build_info():
    info = evenconv_cuda.build_info()
    assert info["version"] == evenconv_cuda.__version__
    assert info["cpu_isa"] == info["cpu_isa_available"][-1]
    assert info["cpu_isa_available"][0] == "baseline"
    assert info["cuda"] is False
    assert info["cuda_architectures"] == []
    assert info["torch"]
    assert info["compiler"]


def test_a_call_that_runs_out_of_memory_leaves_the_next_one_sound():
    """Scratch memory that could not be had must not be counted as there."""
    code = """
import resource, torch
from evenconv_cuda import functional
torch.set_num_threads(1)
def run(W):
    x = torch.ones(1, 16, 1, W)
    band = torch.ones(16, 1, 1, 31)
    return functional.xsep_conv2d(x, torch.ones(16, 1, 2, 2), band, band.transpose(2, 3))
run(10)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
try:
    run(400000)
except RuntimeError as error:
    print('refused')
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(run(3000).sum().item() > 0)
"""
    result = python(code)
    assert result.stdout.split() == ["refused", "True"], result.stdout + result.stderr


def test_setup_accepts_this_environment():
    result = setup_py("__file__ = 'setup.py'")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("prelude", "environment", "message"),
    [
        ("__file__ = 'setup.py'; import sys; sys.modules['torch'] = None", {}, "install torch first"),
        ("__file__ = 'setup.py'; import torch; torch.__version__ = '2.10.1'", {}, "PyTorch 2.10.1 is too old"),
        ("__file__ = 'setup.py'", {"CXX": "no-such-compiler"}, "no C++ compiler: 'no-such-compiler' was not found"),
        ("__file__ = 'setup.py'; import sys; sys.modules['pybind11'] = None", {}, "needs pybind11"),
    ],
)
def test_setup_refuses_in_one_sentence(prelude, environment, message):
    result = setup_py(prelude, **environment)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("evenconv_cuda: ")
    assert message in last


def test_a_missing_binary_says_how_to_build_it():
    result = python("import sys; sys.modules['evenconv_cuda._C'] = None; import evenconv_cuda")
    assert "pip install --no-build-isolation ." in result.stderr


def test_a_torch_that_is_too_old_is_named():
    result = python("import torch; torch.__version__ = '2.9.0'; import evenconv_cuda")
    assert "needs PyTorch 2.11 or newer; this is 2.9.0" in result.stderr
