"""The comparison as a plain-text table."""

from __future__ import annotations

from argparse import Namespace
from datetime import date

import torch

from ..machine import describe
from ..ops import KERNEL_DEVICES
from ..text import mebibytes, table
from .data import Digits
from .training import Run

FIRST_STEPS = 20
"""Steps over which the two losses are compared."""


def report(runs: list[Run], digits: Digits, device: torch.device, options: Namespace) -> str:
    """What was run and where, then a row per quantity with a column per backend."""
    fused, reference = runs
    layout = "channels_last" if options.channels_last else "contiguous"
    compared = min(FIRST_STEPS, len(fused.losses))
    rows = [
        ("", fused.backend, reference.backend, "reference / fused"),
        ("test accuracy", f"{fused.accuracy:.2%}", f"{reference.accuracy:.2%}", ""),
        (
            "median step time",
            f"{fused.step_time * 1e3:.2f} ms",
            f"{reference.step_time * 1e3:.2f} ms",
            f"{reference.step_time / fused.step_time:.2f}",
        ),
        (
            "saved for backward",
            mebibytes(fused.saved_bytes),
            mebibytes(reference.saved_bytes),
            f"{reference.saved_bytes / fused.saved_bytes:.2f}",
        ),
    ]
    return "\n".join(
        [
            f"\nDevice: {device.type}, {describe(device)}; torch {torch.__version__}; {date.today().isoformat()}",
            f"Data: {len(digits.train_labels)} training and {len(digits.test_labels)} test images of 32×32",
            f"Steps: {len(fused.losses)} of {options.batch_size} images, float32, {layout}, seed {options.seed}\n",
            table(rows),
            f"\nlargest loss difference in the first {compared} steps: {loss_difference(runs):.1e}",
            *(
                []
                if device.type in KERNEL_DEVICES
                else [f"no kernels for {device.type} in this binary: both are plain"]
            ),
        ]
    )


def loss_difference(runs: list[Run]) -> float:
    fused, reference = (run.losses[:FIRST_STEPS] for run in runs)
    return max(abs(a - b) for a, b in zip(fused, reference))
