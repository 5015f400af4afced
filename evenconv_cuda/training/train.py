"""Train a network on images: checkpoints, metrics, curves and a summary."""

from __future__ import annotations

import argparse

from ..options import folder
from .options import add_recipe, network, require_train, seed


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model", type=network, default="resnet20:c2sp", metavar="NAME[:CONV]", help="as evenconv_cuda.models names it"
    )
    add("--out", type=folder, required=True, metavar="DIR", help="where everything that comes out goes")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    add("--seed", type=seed, default=0, help="of weights, order, augmentation and subset")
    add_recipe(parser)


def run(options: argparse.Namespace) -> None:
    """Train; what comes out is in ``options.out``."""
    require_train("train")
    from .fitting import fit

    fit(options)
