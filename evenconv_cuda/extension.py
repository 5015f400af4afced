"""Loading the compiled half of the package."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

OLDEST_TORCH = (2, 11)
HERE = Path(__file__).parent


def load_extension():
    """Import ``evenconv_cuda._C``, which registers the operators, or say how to get it."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise ImportError(f"evenconv_cuda needs PyTorch 2.11 or newer; this is {torch.__version__}")
    try:
        return import_module("evenconv_cuda._C")
    except ImportError as error:
        raise ImportError(f"{_why_missing()}; the loader said: {error}") from error


def _why_missing() -> str:
    """A source folder without a binary may stand before the package that was installed."""
    for folder in sys.path:
        package = Path(folder, "evenconv_cuda").resolve()
        if package != HERE.resolve() and any(package.glob("_C.*")):
            return (
                f"evenconv_cuda was imported from {HERE}, where no binary loads, though one is installed in {package}: "
                "run Python from another folder, or build here with 'pip install --no-build-isolation --editable .'"
            )
    return (
        "evenconv_cuda's binary is missing or does not load: build it from the repository's root with "
        "'pip install --no-build-isolation --editable .'"
    )
