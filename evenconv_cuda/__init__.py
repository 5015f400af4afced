"""Even-sized and extremely separated convolutions for PyTorch, fused."""

from pathlib import Path

from . import functional, nn, ops, reference
from .backend import current_backend, use_backend
from .directions import SYMMETRIC
from .extension import load_extension

__version__ = (Path(__file__).parent / "version.txt").read_text().strip()

__all__ = [
    "SYMMETRIC",
    "build_info",
    "current_backend",
    "functional",
    "nn",
    "ops",
    "reference",
    "use_backend",
]


def build_info() -> dict:
    """What the binary was built from and runs on: versions, instruction sets, CUDA."""
    return load_extension().build_info()
