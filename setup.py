"""Builds the one binary, evenconv_cuda._C; the metadata is in pyproject.toml.

Where PyTorch has CUDA and nvcc is there, the CUDA kernels are in it, for the architectures of TORCH_CUDA_ARCH_LIST or
else for every one that nvcc knows. With EVENCONV_CUDA_ON_HOST=1 they are compiled for the CPU instead, for tests.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup

OLDEST_TORCH = (2, 11)


def refuse(reason):
    sys.exit(f"evenconv_cuda: {reason}")


try:
    import torch
    from torch.utils import cpp_extension
except ImportError:
    refuse(
        "building needs PyTorch 2.11 or newer in this environment: install torch first, "
        "then run pip install --no-build-isolation ."
    )

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
    refuse(f"PyTorch {torch.__version__} is too old: 2.11 or newer is needed")
if shutil.which(cpp_extension.get_cxx_compiler()) is None:
    refuse(f"no C++ compiler: '{cpp_extension.get_cxx_compiler()}' was not found (install g++, or name one in CXX)")

try:
    import pybind11
except ImportError:
    refuse("building needs pybind11 in this environment: pip install pybind11")

ROOT = Path(__file__).resolve().parent
VERSION = (ROOT / "evenconv_cuda" / "version.txt").read_text().strip()
OLDEST_ARCHITECTURE = 75
ON_HOST = os.environ.get("EVENCONV_CUDA_ON_HOST") == "1"


def find(folder, pattern):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / folder).glob(pattern))


def known_architectures(nvcc):
    """Those that this nvcc and PyTorch's build can name, the newest with PTX for what comes after it."""
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    numbers = sorted(int(name.removeprefix("compute_")) for name in known.split())
    names = [f"{number // 10}.{number % 10}" for number in numbers if number >= OLDEST_ARCHITECTURE]
    names = [name for name in names if cpp_accepts(name)]
    return [*names[:-1], f"{names[-1]}+PTX"]


def cpp_accepts(name):
    os.environ["TORCH_CUDA_ARCH_LIST"] = name
    try:
        cpp_extension._get_cuda_arch_flags()
    except ValueError:
        return False
    finally:
        del os.environ["TORCH_CUDA_ARCH_LIST"]
    return True


def why_no_cuda():
    if ON_HOST:
        return "EVENCONV_CUDA_ON_HOST=1 asks for the CUDA kernels on the CPU"
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} has no CUDA"
    if cpp_extension.CUDA_HOME is None or shutil.which(f"{cpp_extension.CUDA_HOME}/bin/nvcc") is None:
        return "nvcc was not found (install the CUDA toolkit, or name it in CUDA_HOME)"
    return None


def on_host(source):
    """A C++ file that is this CUDA file: by its ending the compiler would not know it."""
    path = ROOT / "build" / "cuda_on_host" / f"{Path(source).stem}.cpp"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'#include "{ROOT / source}"\n'
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path.relative_to(ROOT))


sources = [*find(".", "*.cpp"), *find("cpu", "*.cpp"), *find("cuda", "*.cpp")]
include_dirs = [pybind11.get_include()]
flags = {"cxx": ["-O3", "-std=c++17", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra"]}
macros = [
    ("TORCH_TARGET_VERSION", "0x020b000000000000"),
    ("EVENCONV_VERSION", f'"{VERSION}"'),
    ("EVENCONV_TORCH_VERSION", f'"{torch.__version__}"'),
]
architectures = []
extension = cpp_extension.CppExtension
reason = why_no_cuda()
if reason is None:
    extension = cpp_extension.CUDAExtension
    architectures = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    architectures = architectures or known_architectures(f"{cpp_extension.CUDA_HOME}/bin/nvcc")
    os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(architectures)
    sources += find("cuda", "*.cu")
    macros.append(("EVENCONV_CUDA", "1"))
    flags["nvcc"] = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "-Xcompiler=-fvisibility=hidden"]
    wheels = Path(torch.__file__).parents[1] / "nvidia" / f"cu{torch.version.cuda.split('.')[0]}" / "include"
    include_dirs += [str(wheels)] if wheels.is_dir() else []  # headers that a small toolkit lacks
else:
    print(f"evenconv_cuda: building for the CPU alone: {reason}", file=sys.stderr)
if ON_HOST:
    sources += [*find("cuda_on_host", "*.cpp"), *map(on_host, find("cuda", "*.cu"))]
    include_dirs.append(str(ROOT / "csrc" / "cuda_on_host" / "include"))
    macros.append(("EVENCONV_CUDA_ON_HOST", "1"))
    flags["cxx"] += ["-Wno-unknown-pragmas", "-fno-strict-aliasing"]
macros.append(("EVENCONV_CUDA_ARCHITECTURES", f'"{" ".join(architectures)}"'))

setup(
    version=VERSION,
    ext_modules=[
        extension(
            "evenconv_cuda._C",
            sources,
            depends=[*find(".", "**/*.h"), *find(".", "**/*.cu")],
            include_dirs=include_dirs,
            define_macros=macros,
            extra_compile_args=flags,
        )
    ],
    cmdclass={"build_ext": cpp_extension.BuildExtension},
)
