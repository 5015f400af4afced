"""What the commands' options share: types that say what they accept, and the check for packages that commands need."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTIONS = {
    "PIL": "pillow",
    "lightning": "lightning",
    "matplotlib": "matplotlib",
    "onnx": "onnx",
    "onnxscript": "onnxscript",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboard",
    "tqdm": "tqdm",
}
"""What commands import beyond the package's own dependencies: module and distribution."""


def accepting(convert: Callable, accepts: Callable[..., bool], accepted: str) -> Callable:
    """An argparse type that says what was given and what is accepted."""

    def parse(text: str):
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{text!r} is given; accepted is {accepted}")
        return value

    return parse


def one_of(names: Iterable[str]) -> Callable:
    return accepting(str, lambda name: name in names, f"one of {', '.join(names)}")


positive = accepting(int, lambda value: value >= 1, "a whole number from 1")
fours = accepting(int, lambda value: value >= 4 and value % 4 == 0, "a multiple of 4")
odd = accepting(int, lambda value: value % 2 == 1 and 1 <= value <= 31, "an odd number from 1 to 31")
rate = accepting(float, lambda value: 0 < value < math.inf, "a number above 0")
existing = accepting(Path, Path.exists, "the name of a file or directory that exists")
folder = accepting(
    Path, lambda path: path.is_dir() or not path.exists(), "the name of a directory, there already or not"
)
writable = accepting(
    Path, lambda path: path.parent.is_dir() and not path.is_dir(), "the name of a file in a directory that exists"
)


def require_extra(command: str, modules: Iterable[str], extra: str = "demo") -> None:
    """Leave with the names of what ``command`` needs and is not installed, and of the ``extra`` that brings it."""
    missing = [DISTRIBUTIONS[module] for module in modules if find_spec(module) is None]
    if missing:
        sys.exit(f"The {command} needs {', '.join(missing)}, missing here: pip install evenconv-cuda[{extra}]")
