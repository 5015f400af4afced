"""What the commands that measure share: options, and the file that rows go to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from .machine import description, set_up
from .results import FOLDER, save

BLOCKS = 3
"""In which everything is timed, one after the other, so that an hour's mood of the machine shows."""


def parse(name: str, doc: str, rounds: int, quick_rounds: int, arguments: list[str] | None) -> argparse.Namespace:
    """The options of ``python -m benchmarks.<name>``, checked; threads are set."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a few cases, few rounds: a look, not a result")
    add("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--rounds", type=int, help=f"timed rounds of a block (default {rounds}, quick {quick_rounds})")
    add("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    add("--only", default="", metavar="TEXT", help="what has TEXT in its name")
    add("--output", type=Path, help=f"default: {FOLDER.name}/<machine>/{name}.json; none if --quick or --only is given")
    options = parser.parse_args(arguments)
    options.name, options.refuse = name, parser.error
    options.command = " ".join([parser.prog, *(sys.argv[1:] if arguments is None else arguments)])
    if options.rounds is not None and options.rounds < 2:
        parser.error(f"--rounds is {options.rounds}; accepted are 2 and more")
    if options.device not in ("cpu", "cuda") or (options.device == "cuda" and not torch.cuda.is_available()):
        parser.error(f"--device is {options.device!r}; accepted are cpu and, where there is a GPU, cuda")
    set_up(options.threads)
    options.rounds = options.rounds or (quick_rounds if options.quick else rounds)
    options.blocks = 1 if options.quick else BLOCKS
    return options


def write(options: argparse.Namespace, rows: list[dict], **more) -> None:
    """Rows with machine and command, to where the options say."""
    machine = description(options.device)
    output = options.output
    if output is None and not options.quick and not options.only:
        output = FOLDER / machine["slug"] / f"{options.name}.json"
    if output is not None:
        save({"machine": machine, "command": options.command, **more, "rows": rows}, output)
        print(f"wrote {output}")
