"""Write a checkpoint's network with standard convolutions: its name and its state_dict."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..options import writable
from ..standard import to_standard
from .options import require_train


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="that the train command wrote")
    add("out", type=writable, metavar="OUT", help="file to write, which torch.load reads")


def run(options: argparse.Namespace) -> None:
    """Write a dictionary: ``model``, ``width``, what is known of the data, and ``state_dict``.

    The state_dict is that of ``to_standard(create_model(...))``.
    """
    require_train("fold")
    from .output import check_output, output
    from .restore import restored

    check_output(options.out, options.checkpoint)
    module, data = restored(options.checkpoint)
    state = to_standard(module.model).state_dict()
    label, width = module.recipe["model"], module.recipe["width"]
    with output(options.out) as file:
        torch.save({"model": label, "width": width, **data, "state_dict": state}, file)
    print(f"{label} with standard convolutions, {len(state)} tensors: {options.out}")
