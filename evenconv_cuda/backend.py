"""Which implementation the functions and layers run through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

BACKENDS = ("fused", "reference")

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

    >>> with evenconv_cuda.use_backend("reference"):
    ...     y = model(x)
    """
    if name not in BACKENDS:
        raise ValueError(f"name is {name!r}; accepted are {BACKENDS}")
    global _current
    previous = _current
    _current = name
    try:
        yield
    finally:
        _current = previous
