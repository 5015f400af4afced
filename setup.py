"""Builds the binary, evenconv_cuda._C; the metadata is in pyproject.toml.

Where PyTorch has CUDA and nvcc is there, the CUDA kernels are in it, for the architectures of TORCH_CUDA_ARCH_LIST or
else for those of the GPUs that are visible. EVENCONV_CUDA_ON_HOST=1 adds evenconv_cuda._cuda_on_host, the CUDA kernels
compiled for the CPU, for tests.
"""

import os
import re
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
OLDEST_ARCHITECTURE = 7.5
EMULATOR = "evenconv_cuda._cuda_on_host"


def find(folder, pattern):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / folder).glob(pattern))


def asks_for_host():
    value = os.environ.get("EVENCONV_CUDA_ON_HOST", "0")
    if value not in ("0", "1"):
        refuse(f"EVENCONV_CUDA_ON_HOST is {value!r}; accepted are 0 and 1")
    return value == "1"


def why_no_cuda():
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} has no CUDA"
    if cpp_extension.CUDA_HOME is None or shutil.which(f"{cpp_extension.CUDA_HOME}/bin/nvcc") is None:
        return "nvcc was not found (install the CUDA toolkit, or name it in CUDA_HOME)"
    if not architectures_asked_for() and not torch.cuda.is_available():
        return (
            "no GPU is visible (to build CUDA kernels all the same, name the architectures, as in "
            "TORCH_CUDA_ARCH_LIST='8.0;9.0')"
        )
    return None


def ask_nvcc(*options):
    nvcc = f"{cpp_extension.CUDA_HOME}/bin/nvcc"
    answer = subprocess.run([nvcc, *options], capture_output=True, text=True)
    if answer.returncode != 0:
        refuse(f"{nvcc} {' '.join(options)} failed: {(answer.stderr or answer.stdout).strip()}")
    return answer.stdout + answer.stderr


def find_toolkit():
    """The nvcc on PATH may be a link or a script elsewhere; the libraries are where it says itself."""
    top = re.search(r"TOP=(.*)", ask_nvcc("--dryrun", "-x", "cu", "-c", os.devnull))
    return str(Path(top[1]).resolve()) if top else cpp_extension.CUDA_HOME


def check_toolkit():
    release = re.search(r"release ([0-9.]+)", ask_nvcc("--version"))[1]
    if release.split(".")[0] != torch.version.cuda.split(".")[0]:
        refuse(
            f"nvcc is of CUDA {release}, PyTorch {torch.__version__} of CUDA {torch.version.cuda}; accepted is nvcc of "
            "the same major version (name that toolkit in CUDA_HOME)"
        )


def architectures_asked_for():
    return os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()


def choose_architectures():
    """Those of TORCH_CUDA_ARCH_LIST, or those of the visible GPUs."""
    numbers = re.findall(r"compute_(\d+)(\d)", ask_nvcc("--list-gpu-arch"))
    known = sorted({f"{major}.{minor}" for major, minor in numbers}, key=float)
    known = [number for number in known if float(number) >= OLDEST_ARCHITECTURE]
    for name in architectures_asked_for():
        if name.removesuffix("+PTX").rstrip("af") not in known:
            refuse(f"TORCH_CUDA_ARCH_LIST has {name!r}; accepted are {', '.join(known)}, each also with +PTX")
    return architectures_asked_for() or sorted({code_for(gpu, known) for gpu in visible_gpus()}, key=numeric)


def visible_gpus():
    return [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]


def numeric(name):
    return float(name.removesuffix("+PTX"))


def code_for(capability, known):
    """A GPU that nvcc does not know runs the PTX of the newest architecture before it."""
    name = "{}.{}".format(*capability)
    if name in known:
        return name
    older = [number for number in known if float(number) <= float(name)]
    if not older:
        refuse(f"a visible GPU has compute capability {name}; accepted is {known[0]} and newer")
    return f"{older[-1]}+PTX"


def gencode(name):
    number = name.removesuffix("+PTX").replace(".", "")
    codes = [f"sm_{number}", f"compute_{number}"] if name.endswith("+PTX") else [f"sm_{number}"]
    return [f"-gencode=arch=compute_{number},code={code}" for code in codes]


class Build(cpp_extension.BuildExtension):
    """Hands the emulator's sources to the C++ compiler in files of their own, whose ending it knows and whose objects
    are not those of the other binary."""

    notice = ""  # what is built and why, said once where it is

    def initialize_options(self):
        super().initialize_options()
        self.build_temp = "build/objects"  # pip's too, so that ninja finds what need not be compiled again

    def build_extensions(self):
        print(self.notice, file=sys.stderr)
        for extension in self.extensions:
            if extension.name == EMULATOR:
                extension.sources = [self.as_cpp(source) for source in extension.sources]
        super().build_extensions()

    def as_cpp(self, source):
        path = Path(self.build_temp) / "cuda_on_host" / f"{Path(source).parent.name}_{Path(source).stem}.cpp"
        text = f'#include "{ROOT / source}"\n'
        if not path.exists() or path.read_text() != text:  # a file that is newer would be compiled again
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(path)


def cxx_flags(level):
    """Those of CFLAGS come last in what setuptools hands to the compiler, and first here."""
    given = os.environ.get("CFLAGS", "")
    optimise = [] if "-O" in given else [level]
    debug = [] if "-g" in given else ["-g0"]
    return [*optimise, *debug, "-std=c++17", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra"]


def package_binary():
    sources = [*find(".", "*.cpp"), *find("cpu", "*.cpp"), *find("cuda", "*.cpp")]
    flags = {"cxx": cxx_flags("-O3")}
    macros = [
        ("TORCH_TARGET_VERSION", "0x020b000000000000"),
        ("EVENCONV_VERSION", f'"{VERSION}"'),
        ("EVENCONV_TORCH_VERSION", f'"{torch.__version__}"'),
    ]
    architectures = []
    extension = cpp_extension.CppExtension
    no_cuda = why_no_cuda()
    if no_cuda is None:
        check_toolkit()
        cpp_extension.CUDA_HOME = find_toolkit()
        architectures = choose_architectures()
        Build.notice = f"evenconv_cuda: building CUDA kernels for {' '.join(architectures)}"
        extension = cpp_extension.CUDAExtension
        sources += find("cuda", "*.cu")
        macros.append(("EVENCONV_CUDA", "1"))
        flags["nvcc"] = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "-Xcompiler=-fvisibility=hidden"]
        flags["nvcc"] += [flag for name in architectures for flag in gencode(name)]
    else:
        Build.notice = f"evenconv_cuda: building for the CPU alone: {no_cuda}"
    macros.append(("EVENCONV_CUDA_ARCHITECTURES", f'"{" ".join(architectures)}"'))
    return extension(
        "evenconv_cuda._C",
        sources,
        depends=find(".", "**/*.h"),
        include_dirs=[pybind11.get_include()],
        define_macros=macros,
        extra_compile_args=flags,
    )


def emulator_binary():
    """At the level at which compiling and the tests together are shortest."""
    return cpp_extension.CppExtension(
        EMULATOR,
        [*find("cuda_on_host", "*.cpp"), *find("cuda", "*.cpp"), *find("cuda", "*.cu")],
        depends=find(".", "**/*.h"),
        include_dirs=[pybind11.get_include(), str(ROOT / "csrc" / "cuda_on_host" / "include")],
        define_macros=[("EVENCONV_CUDA_ON_HOST", "1")],
        extra_compile_args=[*cxx_flags("-O1"), "-Wno-unknown-pragmas", "-fno-strict-aliasing"],
    )


setup(
    version=VERSION,
    ext_modules=[package_binary(), *([emulator_binary()] if asks_for_host() else [])],
    cmdclass={"build_ext": Build},
)
