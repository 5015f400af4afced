"""Train several networks under one recipe; one table and one figure say what came out."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys

from ..options import folder, positive
from .options import SUMMARY, add_recipe, check_recipe, network, recipe, require_train


def add_options(parser: argparse.ArgumentParser) -> None:
    add_own(parser)
    add_recipe(parser)


def add_own(parser: argparse.ArgumentParser) -> None:
    """What ``train`` does not take, or not so."""
    add = parser.add_argument
    add("--models", type=networks, required=True, metavar="NAME[:CONV],...", help="as train's --model, one or more")
    add("--seeds", type=positive, default=3, metavar="N", help="runs of each, with the seeds 0 to N - 1")
    add("--out", type=folder, required=True, metavar="DIR", help="a folder for each run, table, figure and JSON")


def networks(text: str) -> list[str]:
    return list(dict.fromkeys(network(label) for label in text.split(",")))


def run(options: argparse.Namespace) -> None:
    """Train what is not trained yet, each run in a process of its own, then compare."""
    require_train("compare")
    from .comparison import leave_comparison

    own = argparse.ArgumentParser()
    add_own(own)
    _, shared = own.parse_known_args(options.arguments[1:])
    jobs = [(label, seed) for seed in range(options.seeds) for label in options.models]
    summaries = []
    # A child that is interrupted with its parent goes on from its checkpoint.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for number, (label, seed) in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}] {label}, seed {seed}", end="", flush=True)
            summaries.append(trained(label, seed, options, shared))
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"\n{leave_comparison(summaries, options)}")


def trained(label: str, seed: int, options: argparse.Namespace, shared: list[str]) -> dict:
    """The summary of one run, of now or before."""
    out = options.out / f"{label.replace(':', '-')}-seed{seed}"
    path = out / SUMMARY
    print(": done before" if path.exists() else "", flush=True)
    if not path.exists():
        given = ["--model", label, "--seed", str(seed), "--out", str(out), "--resume", *shared]
        command = [sys.executable, "-m", "evenconv_cuda", "train", *given]
        status = subprocess.run(command).returncode
        if status:
            sys.exit(f"{shlex.join(command)} ended with status {status}; compare goes on from there when started again")
    summary = json.loads(path.read_text())
    try:
        check_recipe(
            path, summary["recipe"], recipe(argparse.Namespace(**{**vars(options), "model": label, "seed": seed}))
        )
    except ValueError as error:
        sys.exit(str(error))
    return summary
