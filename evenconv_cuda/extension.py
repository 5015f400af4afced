"""Loading the compiled half of the package."""

from __future__ import annotations

from importlib import import_module

OLDEST_TORCH = (2, 11)


def load_extension():
    """Import ``evenconv_cuda._C``, which registers the operators, or say how to get it."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise ImportError(f"evenconv_cuda needs PyTorch 2.11 or newer; this is {torch.__version__}")
    try:
        return import_module("evenconv_cuda._C")
    except ImportError as error:
        raise ImportError(
            "evenconv_cuda's binary is missing or does not load. Build it from the repository's root with "
            "'pip install --no-build-isolation .' (or 'python setup.py build_ext --inplace'); "
            f"the loader said: {error}"
        ) from error
