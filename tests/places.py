"""Where the operators run: the CPU's kernels, the CUDA kernels on the CPU thread by thread, or the CUDA kernels on a
GPU. Tensors of the tests are made on the CPU and moved."""

from contextlib import contextmanager

import torch

import evenconv_cuda

PLACES = ("cpu", "cuda_on_host", "cuda")

_device = "cpu"


def device():
    """The device of the tensors, by the place in force."""
    return _device


def why_not(place):
    """Why there is no such place here, or None."""
    info = evenconv_cuda.build_info()
    if place == "cuda_on_host" and not info["cuda_on_host"]:
        return "the binary was built without EVENCONV_CUDA_ON_HOST=1"
    if place == "cuda" and not (info["cuda"] and torch.cuda.is_available()):
        return "no GPU, or the binary has no kernels for it"
    return None


@contextmanager
def at(place):
    global _device
    tf32 = torch.backends.cudnn.allow_tf32
    _device = "cuda" if place == "cuda" else "cpu"
    torch.backends.cudnn.allow_tf32 = False  # what results are compared with is as exact as its dtype
    try:
        with evenconv_cuda.use_backend("cuda_on_host" if place == "cuda_on_host" else "fused"):
            yield
    finally:
        _device, torch.backends.cudnn.allow_tf32 = "cpu", tf32
