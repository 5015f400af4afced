"""``python -m evenconv_cuda <command>``.

A command is a module with a one-line docstring first, ``add_options(parser)`` and ``run(options)``, where
``options.arguments`` is the command line; to add one, name it in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import demo
from .analysis import command as erosion
from .training import compare, evaluate, export, fold, train

COMMANDS = {
    "demo": demo,
    "erosion": erosion,
    "train": train,
    "evaluate": evaluate,
    "fold": fold,
    "export": export,
    "compare": compare,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m evenconv_cuda", description="Commands of evenconv_cuda.")
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        summary = command.__doc__.partition("\n")[0]
        subparser = subparsers.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_options(subparser)
        subparser.set_defaults(run=command.run)
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(arguments, argparse.Namespace(arguments=arguments))
    options.run(options)


if __name__ == "__main__":
    main()
