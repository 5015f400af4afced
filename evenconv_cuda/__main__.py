"""``python -m evenconv_cuda <command>``.

A command is a module with a one-line docstring first, ``add_options(parser)`` and ``run(options)``; to add one, name it
in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import demo
from .analysis import command as erosion

COMMANDS = {"demo": demo, "erosion": erosion}


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
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
