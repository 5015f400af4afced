"""The demo's command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..options import odd, positive, rate, writable

QUICK = {"epochs": 1, "width": 4}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--epochs", type=positive, default=5, help="passes over the training images")
    add("--batch-size", type=positive, default=64, help="images in a step")
    add("--lr", type=rate, default=3e-3, help="peak learning rate of the one-cycle schedule (AdamW)")
    add("--width", type=positive, default=16, help="channels of the first block")
    add("--kernel-size", type=odd, nargs="+", default=(5, 7), metavar="K", help="XSepConv's K, taken in turn by block")
    add("--channels-last", action=argparse.BooleanOptionalAction, default=True, help="memory format of the maps")
    add("--device", default="auto", help="auto, cpu or cuda[:n]; auto is cuda where there is one")
    add("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads")
    add("--seed", type=int, default=0, help="of the split, the weights and the order of the images")
    add("--output", type=writable, default=Path("demo.png"), metavar="PNG", help="where the figure goes")
    quick = " ".join(f"--{name} {value}" for name, value in QUICK.items())
    add("--quick", action="store_true", help=f"only see that everything runs: the same as {quick}")
