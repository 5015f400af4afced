"""Which implementation the functions and layers run through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

BACKENDS = ("fused", "reference")


class _Thread(threading.local):
    """The backends of the blocks that a thread is in. torch.compile guards on the last, which it can do with no
    ContextVar before PyTorch 2.14."""

    def __init__(self):
        self.entered = ["fused"]


_thread = _Thread()


def current_backend() -> str:
    """The backend in force here: ``"fused"`` unless :func:`use_backend` says otherwise."""
    return _thread.entered[-1]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every operator of the package through ``name`` inside a ``with`` block, in the thread that entered it.

    ``"fused"`` is the compiled kernels, ``"reference"`` plain PyTorch (:mod:`evenconv_cuda.reference`). The backward of
    what ran inside goes the same way, wherever and in whichever thread it runs. Blocks may end in any order.

    >>> with evenconv_cuda.use_backend("reference"):
    ...     y = model(x)
    """
    if name not in BACKENDS:
        raise ValueError(f"name is {name!r}; accepted are {BACKENDS}")
    entered = _thread.entered
    entered.append(name)
    try:
        yield
    finally:
        del entered[len(entered) - 1 - entered[::-1].index(name)]
