"""Show how plain even kernels erode maps over depth, and how symmetric padding does not: a table and a figure.

The same maps go through stacks of C2, C2sp, C3, C4, C4sp and C5; so does an impulse, whose centroid shows the drift.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..nn import KINDS
from ..options import existing, fours, one_of, positive, require_extra, writable
from .erosion import WEIGHTS, compare, impulse_response, stack
from .images import digits, random_maps, read_images
from .report import POSTER_DEPTH, activation_table, centroid_table, poster_table

POSTER_SIZE = 28
"""Of the maps that the poster's figures are put beside: Gaussian noise, the same in all channels, and equal weights.

Derived: of noise, digits, photographs and constant maps, 20 to 40 pixels wide, with equal and with random weights, it
comes nearest in proportion: the order of the five Q that the poster has at layer 54, and 0.4 to 0.7 times each. The
poster's C2 falls faster.
"""

GROUPS = 4
"""Channels that stand for any number in four equal groups where all weights are equal."""

SHARES = (0.15, 0.3, 0.5, 0.75, 1)
"""Of the depth: what is shown by default."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kinds", type=one_of(KINDS), nargs="+", default=tuple(KINDS), metavar="KIND", help=", ".join(KINDS))
    add("--depth", type=positive, default=54, help="layers")
    add("--shown", type=positive, nargs="+", metavar="N", help="depths shown; None: five, up to --depth")
    maps = parser.add_mutually_exclusive_group()
    maps.add_argument(
        "--images", type=existing, metavar="PATH", help="image file or directory; None: scikit-learn's digits"
    )
    maps.add_argument("--random", action="store_true", help="random maps instead of images")
    add("--size", type=positive, default=28, help="rows and columns of the maps")
    add("--channels", type=fours, default=4, help="of the layers, in four equal groups")
    add("--weights", type=one_of(WEIGHTS), default="equal", help="equal: means; random: Gaussian, with ReLU")
    add("--seeds", type=positive, default=8, help="stacks of random weights to average over")
    add("--threads", type=positive, default=1, help="CPU threads; for small maps one is as fast")
    add("--output", type=writable, default=Path("erosion.png"), metavar="PNG", help="where the figure goes")


def run(options: argparse.Namespace) -> None:
    """Measure, print the tables and draw the figure."""
    from_digits = not (options.random or options.images)
    require_extra("erosion command", ("matplotlib", "tqdm", *(["sklearn"] if from_digits else [])))
    from tqdm import tqdm

    from .figure import draw

    torch.set_num_threads(options.threads)
    depths = sorted(set(options.shown or (max(1, round(share * options.depth)) for share in SHARES)))
    if depths[-1] > options.depth:
        sys.exit(f"--shown is {depths[-1]}; accepted is at most {options.depth}, the number of layers (--depth)")
    x, described = chosen_maps(options)
    kinds = tuple(dict.fromkeys(options.kinds))

    def progress(units: list) -> tqdm:
        return tqdm(units, desc="maps through layers", unit="stack", leave=False)

    runs = compare(
        kinds, in_channels(x, options.channels), options.depth, options.weights, options.seeds, (0, *depths), progress
    )
    centroids = {
        kind: impulse_response(stack(kind, options.depth, GROUPS, dtype=torch.float64), GROUPS)
        for kind in tqdm(kinds, desc="impulses through layers", unit="stack", leave=False)
    }
    noise = compare(kinds, in_channels(random_maps(POSTER_SIZE), GROUPS), POSTER_DEPTH)
    print(f"Maps: {described}; {weights_of(options)}\n")
    print("Q_n / Q_0, what is left of the mean absolute activation after n layers:\n")
    print(activation_table(runs, depths))
    print("\nCentroid of an impulse after n layers with equal weights, in pixels (row, column; negative: up, left):\n")
    print(centroid_table(centroids, depths))
    print("\nBeside the poster of arXiv 1903.08385 (read off its plot; its maps and weights are not known; ours:")
    print(
        f"Gaussian maps of {POSTER_SIZE}×{POSTER_SIZE} and equal weights, the nearest in proportion of those tried):\n"
    )
    print(poster_table(runs if options.depth >= POSTER_DEPTH else None, noise))
    draw(runs, centroids, f"{described}; {weights_of(options)}", options.output)
    print(f"\nCurves and maps: {options.output}")


def chosen_maps(options: argparse.Namespace) -> tuple[Tensor, str]:
    """The maps that the options name, and a line that says what they are."""
    size = options.size
    if options.random:
        x, what = random_maps(size), "Gaussian random maps"
    elif options.images:
        try:
            x = read_images(options.images, size)
        except ValueError as error:
            sys.exit(f"--images: {error}")
        what = f"{'image' if len(x) == 1 else 'images'} from {options.images.name or options.images}"
    else:
        x, what = digits(size), "handwritten digits of scikit-learn"
    return x, f"{len(x)} {what}, {size}×{size}, the same in all {options.channels} channels"


def in_channels(x: Tensor, channels: int) -> Tensor:
    return x.expand(-1, channels, -1, -1).contiguous()


def weights_of(options: argparse.Namespace) -> str:
    return "equal weights" if options.weights == "equal" else f"random weights, {options.seeds} seeds, ReLU"
