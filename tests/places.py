"""Where the operators run: the CPU's kernels, the CUDA kernels on the CPU thread by thread, or the CUDA kernels on a
GPU. Tensors of the tests are made on the CPU and moved."""

from contextlib import contextmanager
from importlib.util import find_spec

import torch

import evenconv_cuda

PLACES = ("cpu", "cuda_on_host", "cuda")

_current = "cpu"


def device():
    """The device of the tensors, by the place in force."""
    return "cuda" if _current == "cuda" else "cpu"


def why_not(place):
    """Why there is no such place here, or None."""
    if place == "cuda_on_host" and find_spec("evenconv_cuda._cuda_on_host") is None:
        return "evenconv_cuda._cuda_on_host is not built (EVENCONV_CUDA_ON_HOST=1)"
    if place == "cuda" and not (evenconv_cuda.build_info()["cuda"] and torch.cuda.is_available()):
        return "no GPU, or the binary has no kernels for it"
    return None


def emulator():
    """The binary that runs the CUDA kernels on the CPU."""
    from evenconv_cuda import _cuda_on_host

    return _cuda_on_host


@contextmanager
def at(place):
    previous, tf32 = _current, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # what results are compared with is as exact as its dtype
    _enter(place)
    try:
        yield
    finally:
        _enter(previous)
        torch.backends.cudnn.allow_tf32 = tf32


def _enter(place):
    global _current
    _current = place
    binary = evenconv_cuda.extension.load_extension()
    binary.set_host_device(emulator().device if place == "cuda_on_host" else None)
