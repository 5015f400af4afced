"""The build and the binary: what they say when something is missing."""

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import setuptools
import torch
from torch.utils import cpp_extension

import evenconv_cuda

ROOT = Path(__file__).resolve().parents[1]


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


@pytest.fixture
def setup_py(monkeypatch):
    """Runs setup.py and returns the binaries that it would build; what it would say is its ``notice``."""

    def run(**environment):
        for name in ("EVENCONV_CUDA_ON_HOST", "TORCH_CUDA_ARCH_LIST", "CFLAGS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = {}
        monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
        runpy.run_path(str(ROOT / "setup.py"))
        run.notice = given["cmdclass"]["build_ext"].notice
        return given["ext_modules"]

    return run


@pytest.fixture
def refusal(setup_py):
    """The one sentence with which setup.py ends."""

    def run(**environment):
        with pytest.raises(SystemExit) as error:
            setup_py(**environment)
        prefix, sentence = error.value.code.split(": ", 1)
        assert prefix == "evenconv_cuda"
        return sentence

    return run


@pytest.fixture
def toolkit(monkeypatch, tmp_path):
    """Gives PyTorch CUDA 13.0, GPUs of these compute capabilities and an nvcc that only answers questions."""

    def install(release="13.0", status=0, gpus=((9, 0),)):
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: gpus[index])
        monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path / "links"))
        nvcc, link = (tmp_path / folder / "bin" / "nvcc" for folder in ("toolkit", "links"))
        nvcc.parent.mkdir(parents=True)
        link.parent.mkdir(parents=True)
        link.symlink_to(nvcc)
        nvcc.write_text(f"""#!/bin/sh
case $1 in
--version) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
--list-gpu-arch) printf 'compute_%s\\n' 70 75 80 90 120 103 ;;
--dryrun) echo "#$ TOP={tmp_path}/toolkit/bin/.." >&2 ;;
esac
exit {status}
""")
        nvcc.chmod(0o755)
        return tmp_path / "toolkit"

    return install


def test_build_info():
    info = evenconv_cuda.build_info()
    assert info["version"] == evenconv_cuda.__version__
    assert info["cpu_isa"] == info["cpu_isa_available"][-1]
    assert info["cpu_isa_available"][0] == "baseline"
    assert info["cuda"] == bool(info["cuda_architectures"])
    assert info["torch"]
    assert info["compiler"]


def test_a_launch_plan_can_be_read_in_every_build():
    plan = evenconv_cuda.extension.load_extension().cuda_plan((8, 64, 56, 56), "float32", even=2, row=7, column=7)
    assert (plan["even"], plan["band"]) == (2, 7)
    assert plan["blocks"] > 0


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


REFUSED_MEMORY = """
import resource, torch
import evenconv_cuda
torch.set_num_threads(1)
ops = torch.ops.evenconv_cuda
x, weight = torch.ones(1).expand(64, 4, 1024, 1024), torch.ones(4, 1, 2, 2)
calls = [
    lambda: ops.symmetric_pad2d(x, 2, [0] * 4),
    lambda: ops.even_depthwise_conv2d(x, weight, None, [1, 1], [0] * 4),
    lambda: ops.even_depthwise_conv2d_backward(x, x, weight, None, [1, 1], [0] * 4, [True] * 3),
]
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
def refuse():
    for call in calls:
        for mode in (torch.no_grad, torch.inference_mode):
            try:
                with mode():
                    call()
            except RuntimeError as error:
                print(type(error).__name__, 'memory' in str(error), 'tried to allocate 107' in str(error))
refuse()
def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError('CUDA out of memory; tried to allocate 107')
torch.empty = out_of_memory
refuse()
"""


def test_what_pytorch_says_of_memory_reaches_the_caller():
    """Its own exception, of its own class: a GPU's is a torch.OutOfMemoryError."""
    lines = python(REFUSED_MEMORY).stdout.splitlines()
    assert lines == ["RuntimeError True True"] * 6 + ["OutOfMemoryError True True"] * 6


def test_setup_runs_in_this_environment():
    result = subprocess.run([sys.executable, "setup.py", "--name"], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split()[-1] == "evenconv-cuda", result.stderr


def test_setup_needs_torch(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "install torch first" in refusal()


def test_setup_needs_a_torch_that_is_new_enough(refusal, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.1")
    assert "PyTorch 2.10.1 is too old" in refusal()


def test_setup_needs_pybind11(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "pybind11", None)
    assert "needs pybind11" in refusal()


def test_setup_needs_a_compiler(refusal):
    assert "no C++ compiler: 'no-such-compiler' was not found" in refusal(CXX="no-such-compiler")


def test_setup_says_why_it_builds_for_the_cpu_alone(setup_py, toolkit, monkeypatch):
    def reason(**environment):
        setup_py(**environment)
        return setup_py.notice.removeprefix("evenconv_cuda: building for the CPU alone: ")

    monkeypatch.setattr(torch.version, "cuda", None)
    assert reason() == f"PyTorch {torch.__version__} has no CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    assert reason() == "nvcc was not found (install the CUDA toolkit, or name it in CUDA_HOME)"
    toolkit(gpus=())
    assert reason() == (
        "no GPU is visible (to build CUDA kernels all the same, name the architectures, as in "
        "TORCH_CUDA_ARCH_LIST='8.0;9.0')"
    )


def test_the_emulator_is_a_binary_of_its_own_that_is_built_when_asked_for(setup_py, toolkit):
    toolkit()
    assert [binary.name for binary in setup_py()] == ["evenconv_cuda._C"]
    package, emulator = setup_py(EVENCONV_CUDA_ON_HOST="1")
    assert emulator.name == "evenconv_cuda._cuda_on_host"
    assert {"csrc/cuda/device.cu", "csrc/cuda_on_host/emulator.cpp"} <= set(emulator.sources)
    assert ("EVENCONV_CUDA_ON_HOST", "1") in emulator.define_macros
    assert "cudart" not in emulator.libraries
    assert not any("cuda_on_host" in source for source in package.sources)


@pytest.mark.parametrize(
    ("wanted", "gpus", "built"),
    [
        ("9.0", (), "9.0"),
        ("8.0;9.0+PTX", ((12, 0),), "8.0 9.0+PTX"),
        ("8.0 9.0a", (), "8.0 9.0a"),
        ("", ((9, 0), (8, 0), (9, 0)), "8.0 9.0"),
        ("", ((10, 3),), "10.3"),
        ("", ((12, 9), (8, 0)), "8.0 12.0+PTX"),
    ],
)
def test_setup_builds_for_the_architectures_asked_for_or_those_of_the_gpus(setup_py, toolkit, wanted, gpus, built):
    toolkit(gpus=gpus)
    (extension,) = setup_py(TORCH_CUDA_ARCH_LIST=wanted)
    assert setup_py.notice == f"evenconv_cuda: building CUDA kernels for {built}"
    assert ("EVENCONV_CUDA_ARCHITECTURES", f'"{built}"') in extension.define_macros
    assert "csrc/cuda/device.cu" in extension.sources


def test_nvcc_gets_code_for_each_architecture_and_ptx_where_asked_for(setup_py, toolkit):
    toolkit()
    flags = setup_py(TORCH_CUDA_ARCH_LIST="8.0;12.0+PTX")[0].extra_compile_args["nvcc"]
    targets = [flag.removeprefix("-gencode=arch=") for flag in flags if "gencode" in flag]
    assert targets == ["compute_80,code=sm_80", "compute_120,code=sm_120", "compute_120,code=compute_120"]


def test_libraries_are_those_of_the_toolkit_that_nvcc_names(setup_py, toolkit):
    home = toolkit()
    assert any(folder.startswith(str(home)) for folder in setup_py()[0].library_dirs)


@pytest.mark.parametrize(
    ("nvcc", "environment", "message"),
    [
        (
            {},
            {"TORCH_CUDA_ARCH_LIST": "8.0;9.1"},
            "TORCH_CUDA_ARCH_LIST has '9.1'; accepted are 7.5, 8.0, 9.0, 10.3, 12.0",
        ),
        ({}, {"TORCH_CUDA_ARCH_LIST": "7.0"}, "TORCH_CUDA_ARCH_LIST has '7.0'; accepted are 7.5"),
        ({}, {"EVENCONV_CUDA_ON_HOST": "yes"}, "EVENCONV_CUDA_ON_HOST is 'yes'; accepted are 0 and 1"),
        ({"release": "12.4"}, {}, "nvcc is of CUDA 12.4"),
        ({"status": 1}, {}, "nvcc --version failed"),
        ({"gpus": ((6, 1),)}, {}, "a visible GPU has compute capability 6.1; accepted is 7.5 and newer"),
    ],
)
def test_setup_refuses_what_it_cannot_build(refusal, toolkit, nvcc, environment, message):
    toolkit(**nvcc)
    assert message in refusal(**environment)


def test_a_missing_binary_says_how_to_build_it():
    result = python("import sys; sys.modules['evenconv_cuda._C'] = None; import evenconv_cuda")
    assert "'pip install --no-build-isolation --editable .'" in result.stderr


def test_a_source_folder_without_a_binary_names_the_package_that_has_one(tmp_path):
    clone, installed = tmp_path / "clone", tmp_path / "site-packages" / "evenconv_cuda"
    shutil.copytree(ROOT / "evenconv_cuda", clone / "evenconv_cuda", ignore=shutil.ignore_patterns("*.so"))
    installed.mkdir(parents=True)
    (installed / "_C.so").touch()
    code = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in repr(finder)]
sys.path.append({str(installed.parent)!r})
import evenconv_cuda
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert f"imported from {clone}/evenconv_cuda" in result.stderr
    assert f"one is installed in {installed}: run Python from another folder" in result.stderr


def test_a_torch_that_is_too_old_is_named():
    result = python("import torch; torch.__version__ = '2.9.0'; import evenconv_cuda")
    assert "needs PyTorch 2.11 or newer; this is 2.9.0" in result.stderr


@pytest.mark.exhaustive
def test_sdist_has_every_file_of_the_project(tmp_path):
    """Tests with their helpers, benchmarks and Makefile among them."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout that says which files are the project's")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    made = ["egg_info", "--egg-base", tmp_path, "sdist", "--formats=tar", "--dist-dir", tmp_path]
    result = subprocess.run([sys.executable, "setup.py", *made], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("*.tar")
    with tarfile.open(archive) as files:
        packed = {name.partition("/")[2] for name in files.getnames() if files.getmember(name).isfile()}
    assert packed == {*tracked, "PKG-INFO", "setup.cfg"}
