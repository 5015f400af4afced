"""Even-sized and extremely separated convolutions for PyTorch, fused."""

from pathlib import Path

from . import flops, functional, nn, ops, reference
from .backend import current_backend, use_backend
from .directions import SYMMETRIC
from .extension import load_extension
from .plan import apply_padding_plan, padding_plan

__version__ = (Path(__file__).parent / "version.txt").read_text().strip()

__all__ = [
    "SYMMETRIC",
    "apply_padding_plan",
    "build_info",
    "current_backend",
    "flops",
    "functional",
    "nn",
    "ops",
    "padding_plan",
    "reference",
    "use_backend",
]


def build_info() -> dict:
    """What the binary was built from and runs on: versions, instruction sets, CUDA."""
    return load_extension().build_info()
