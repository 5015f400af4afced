"""The command line that the parts of the check have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ..machine import set_up
from .report import Report


def parse(doc: str, run: Callable[..., None], **flags: str) -> None:
    """Runs ``run(report, device, **flags)`` and exits with 0 if every check passed."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="JSON of what was found, written as it is found")
    for name, meaning in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=meaning)
    options = vars(parser.parse_args())
    set_up()
    report = Report(options.pop("out"))
    run(report, options.pop("device"), **options)
    sys.exit(not report.passed)
