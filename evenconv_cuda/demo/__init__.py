"""Train a digit classifier through the fused operators and through the unfused reference, and compare the two.

A network of XSepConv and C2sp layers learns scikit-learn's handwritten digits twice at once: from the same weights, on
the same batches, a step of one backend after the same step of the other. A table and a figure tell what differs.
"""

from __future__ import annotations

import argparse
import sys

import torch

from ..options import require_extra
from .options import QUICK, add_options

__all__ = ["add_options", "run"]


def run(options: argparse.Namespace) -> None:
    """Train both, print the table and draw the figure."""
    require_extra("demo", ("matplotlib", "sklearn", "tqdm"))
    from .data import load_digits
    from .figure import draw
    from .report import report
    from .training import train

    if options.quick:
        vars(options).update(QUICK)
    torch.set_num_threads(options.threads)
    device = chosen_device(options.device)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    digits = load_digits(options.seed, device, memory_format)
    images = len(digits.train_labels)
    if options.batch_size > images:
        sys.exit(f"--batch-size is {options.batch_size}; accepted is at most {images}, the number of training images")

    runs = train(digits, options, memory_format)
    print(report(runs, digits, device, options))
    draw(runs, device, options.output)
    print(f"\nLoss curves and step times: {options.output}")


def chosen_device(name: str) -> torch.device:
    """``auto`` is a CUDA device where there is one."""
    accepted = ["cpu"]
    if torch.cuda.is_available():
        accepted += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name == "auto":
        return torch.device("cuda" if "cuda" in accepted else "cpu")
    if name not in accepted:
        sys.exit(f"--device is {name!r}; accepted here are auto, {', '.join(accepted)}")
    return torch.device(name)
