"""Builds the one binary, evenconv_cuda._C; the metadata is in pyproject.toml."""

import shutil
import sys
from pathlib import Path

from setuptools import setup

OLDEST_TORCH = (2, 11)


def refuse(reason):
    sys.exit(f"evenconv_cuda: {reason}")


try:
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension, get_cxx_compiler
except ImportError:
    refuse(
        "building needs PyTorch 2.11 or newer in this environment: install torch first, "
        "then run pip install --no-build-isolation ."
    )

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
    refuse(f"PyTorch {torch.__version__} is too old: 2.11 or newer is needed")
if shutil.which(get_cxx_compiler()) is None:
    refuse(f"no C++ compiler: '{get_cxx_compiler()}' was not found (install g++, or name one in CXX)")

try:
    import pybind11
except ImportError:
    refuse("building needs pybind11 in this environment: pip install pybind11")

ROOT = Path(__file__).resolve().parent
VERSION = (ROOT / "evenconv_cuda" / "version.txt").read_text().strip()

setup(
    version=VERSION,
    ext_modules=[
        CppExtension(
            "evenconv_cuda._C",
            sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")),
            depends=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.h")),
            include_dirs=[pybind11.get_include()],
            define_macros=[
                ("TORCH_TARGET_VERSION", "0x020b000000000000"),
                ("EVENCONV_VERSION", f'"{VERSION}"'),
                ("EVENCONV_TORCH_VERSION", f'"{torch.__version__}"'),
            ],
            extra_compile_args=["-O3", "-std=c++17", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra"],
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
