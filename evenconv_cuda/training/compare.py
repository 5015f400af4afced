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
    """Check every training first, run those that are not finished, each in a process of its own, then compare."""
    require_train("compare")
    from .comparison import leave_comparison
    from .preparing import check_trainings, in_use

    own = argparse.ArgumentParser()
    add_own(own)
    _, shared = own.parse_known_args(options.arguments[1:])
    trainings = [training(label, seed, options) for seed in range(options.seeds) for label in options.models]
    if waiting := [each for each in trainings if finished(each) is None]:
        check_trainings(waiting)
    summaries = []
    # A child that is interrupted with its parent goes on from its checkpoint.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with in_use(options.out):
            for number, each in enumerate(trainings, start=1):
                print(f"[{number}/{len(trainings)}] {each.model}, seed {each.seed}", end="", flush=True)
                summaries.append(trained(each, shared))
            print(f"\n{leave_comparison(summaries, options)}")
    finally:
        signal.signal(signal.SIGTERM, before)


def training(label: str, seed: int, options: argparse.Namespace) -> argparse.Namespace:
    """The train command's options for one network and seed."""
    out = options.out / f"{label.replace(':', '-')}-seed{seed}"
    return argparse.Namespace(**{**vars(options), "model": label, "seed": seed, "out": out, "resume": True})


def trained(options: argparse.Namespace, shared: list[str]) -> dict:
    """The summary of one training, of now or before."""
    summary = finished(options)
    print(": done before" if summary else "", flush=True)
    if summary is None:
        given = ["--model", options.model, "--seed", str(options.seed), "--out", str(options.out), "--resume", *shared]
        command = [sys.executable, "-m", "evenconv_cuda", "train", *given]
        status = subprocess.run(command).returncode
        if status:
            sys.exit(f"{shlex.join(command)} ended with status {status}; compare goes on from there when started again")
        summary = finished(options)
    return summary


def finished(options: argparse.Namespace) -> dict | None:
    """The summary of a training that is done, or leave if it is of another one."""
    path = options.out / SUMMARY
    if not path.exists():
        return None
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        sys.exit(f"{path} cannot be read: {error}")
    if not isinstance(summary, dict) or not isinstance(summary.get("recipe"), dict):
        sys.exit(f"{path} is no summary of the train command: it has no recipe")
    try:
        check_recipe(path, summary["recipe"], recipe(options))
    except ValueError as error:
        sys.exit(str(error))
    return summary
