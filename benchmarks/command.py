"""What the commands that measure share: options, and the file that rows go to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from evenconv_cuda.options import accepting, positive

from .left_out import left_out
from .machine import description, set_up
from .results import FOLDER, save

BLOCKS = 3
"""In which everything is timed, one after the other, so that an hour's mood of the machine shows."""


device = accepting(
    str,
    lambda name: name == "cpu" or (name == "cuda" and torch.cuda.is_available()),
    "cpu and, where there is a GPU, cuda",
)
rounds = accepting(int, lambda number: number >= 2, "a whole number from 2")


def parse(name: str, doc: str, usual: int, quick: int, arguments: list[str] | None) -> argparse.Namespace:
    """The options of ``python -m benchmarks.<name>``, checked; the process is set up, the machine described.

    ``usual`` and ``quick`` are numbers of rounds.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a few cases, few rounds: a look, not a result")
    add("--device", type=device, default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--rounds", type=rounds, help=f"timed rounds of a block (default {usual}, quick {quick})")
    add("--threads", type=positive, help="threads of PyTorch (default: its own choice)")
    add("--only", default="", metavar="TEXT", help="what has TEXT in its name")
    add("--output", type=Path, help=f"default: {FOLDER.name}/<machine>/{name}.json; none if --quick or --only is given")
    if name == "ops":
        add("--cudnn-benchmark", action="store_true", help="cuDNN's choice by measurement; into a file of its own")
    options = parser.parse_args(arguments)
    options.refuse = parser.error
    options.command = " ".join([parser.prog, *(sys.argv[1:] if arguments is None else arguments)])
    set_up(options.threads, getattr(options, "cudnn_benchmark", True))
    options.machine = description(options.device)
    options.rounds = options.rounds or (quick if options.quick else usual)
    options.blocks = 1 if options.quick else BLOCKS
    options.file = f"{name}-cudnn-benchmark.json" if vars(options).get("cudnn_benchmark") else f"{name}.json"
    return options


def write(options: argparse.Namespace, rows: list[dict], **more) -> None:
    """Rows with machine and command, to where the options say."""
    output = options.output
    if output is None and not options.quick and not options.only:
        output = FOLDER / options.machine["slug"] / options.file
    if output is not None:
        save(
            {"machine": options.machine, "command": options.command, "left_out": left_out(), **more, "rows": rows},
            output,
        )
        print(f"wrote {output}")
