"""Even-sized and extremely separated convolutions for PyTorch, fused."""

from pathlib import Path

from . import analysis, flops, functional, models, nn, ops, reference
from .backend import current_backend, use_backend
from .convert import Conversion, convert, convert_like
from .directions import SYMMETRIC
from .extension import load_extension
from .plan import PaddingReport, apply_padding_plan, padding_plan
from .profile import Profile, profile
from .rules import Rule
from .standard import to_standard

__version__ = (Path(__file__).parent / "version.txt").read_text().strip()

__all__ = [
    "SYMMETRIC",
    "Conversion",
    "PaddingReport",
    "Profile",
    "Rule",
    "analysis",
    "apply_padding_plan",
    "build_info",
    "convert",
    "convert_like",
    "current_backend",
    "flops",
    "functional",
    "models",
    "nn",
    "ops",
    "padding_plan",
    "profile",
    "reference",
    "to_standard",
    "use_backend",
]


def build_info() -> dict:
    """What the binary was built from and runs on: versions, instruction sets, CUDA."""
    return load_extension().build_info()
