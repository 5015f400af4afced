"""Which implementation the functions and layers run through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .extension import load_extension

BACKENDS = ("fused", "reference", "cuda_on_host")

# A plain global: torch.compile guards on it, and retraces when it changes; a ContextVar it cannot trace.
_current = "fused"


def current_backend() -> str:
    """The backend in force here: ``"fused"`` unless :func:`use_backend` says otherwise."""
    return _current


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every operator of the package through ``name`` inside a ``with`` block, in every thread.

    ``"fused"`` is the compiled kernels, ``"reference"`` plain PyTorch (:mod:`evenconv_cuda.reference`). The backward of
    what ran inside goes the same way.

    ``"cuda_on_host"`` runs the CUDA kernels on CPU tensors, thread by thread: for tests and debugging, in a build with
    ``EVENCONV_CUDA_ON_HOST=1``. It holds for what is called inside the block, so the backward belongs inside too.

    >>> with evenconv_cuda.use_backend("reference"):
    ...     y = model(x)
    """
    if name not in BACKENDS:
        raise ValueError(f"name is {name!r}; accepted are {BACKENDS}")
    if name == "cuda_on_host" and not load_extension().build_info()["cuda_on_host"]:
        raise ValueError("name is 'cuda_on_host', which needs a build with EVENCONV_CUDA_ON_HOST=1 in the environment")
    previous = _current
    _enter(name)
    try:
        yield
    finally:
        _enter(previous)


def _enter(name: str) -> None:
    global _current
    _current = name
    load_extension().set_host_device("cuda_on_host" if name == "cuda_on_host" else "cpu")
