"""CUDA on the host runs kernels on guarded copies of the tensors: toy_device.cu breaks them, and it shows."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOST = ROOT / "csrc" / "cuda_on_host"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    program = tmp_path_factory.mktemp("toy") / "toy"
    sources = [ROOT / "tests" / "toy_device.cu", HOST / "device.cpp", HOST / "emulator.cpp"]
    command = ["g++", "-std=c++17", "-O1", "-pthread", "-I", HOST / "include", "-x", "c++", *sources, "-o", program]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return lambda name: subprocess.run([program, name], capture_output=True, text=True, check=True).stdout


def test_a_sound_kernel_writes_its_result_and_nothing_else(toy):
    assert toy("sound").split() == ["0", "1", "2", "-1", "4", "5", "6", "-1"]


@pytest.mark.parametrize("name", ["after", "before", "between rows"])
def test_a_write_beside_the_result_is_an_error(toy, name):
    assert toy(name) == "cuda_on_host: memory beside y was written"


def test_what_is_not_written_is_nan(toy):
    assert "nan" in toy("leave out").split()[6]


def test_what_lies_between_the_rows_of_an_input_is_nan(toy):
    assert "nan" in toy("between rows of x")[:9]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("announced beside", "write out of bounds: 4 bytes at y + 28, which has 28 bytes"),
        ("announced to x", "write to memory that may only be read: 4 bytes at x + 0, which has 28 bytes"),
        ("announced read beside", "read out of bounds: 4 bytes at x + -4, which has 28 bytes"),
    ],
)
def test_an_access_that_the_kernel_announces_is_a_fault(toy, name, message):
    assert toy(name).endswith(message)
