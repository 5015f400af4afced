"""What is trained, on what and how: the options that ``train`` and ``compare`` share."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import torch
from torch import nn

from ..backend import BACKENDS
from ..models import create_model, list_models
from ..options import accepting, one_of, positive, rate, require_extra

SUMMARY = "summary.json"
"""What a finished run is known by."""

MODULES = ("PIL", "lightning", "matplotlib", "scipy", "sklearn", "tensorboard", "tqdm")

not_negative = accepting(float, lambda value: 0 <= value < math.inf, "a number from 0")
whole = accepting(int, lambda value: value >= 0, "a whole number from 0")
seed = accepting(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 2**32 - 1")
network = accepting(
    str,
    lambda text: text.partition(":")[0] in list_models(),
    f"NAME or NAME:CONV, where NAME is one of {', '.join(list_models())}",
)

RECIPE = (
    *("model", "width", "data", "image_size", "subset", "skip_bad_images", "seed", "epochs", "batch_size", "lr"),
    *("schedule", "weight_decay", "augment", "cutout", "mixup", "precision", "backend", "sync_batchnorm"),
)
"""The options that decide what comes out, up to rounding: a run is resumed with the same."""


def add_recipe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        default="digits",
        metavar="SPEC",
        help="digits, cifar10:DIR, cifar100:DIR, svhn:DIR, tinyimagenet:DIR or imagefolder:DIR",
    )
    add(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="rows and columns of image files; None: 64 for tinyimagenet, 224 for imagefolder",
    )
    add("--subset", type=positive, metavar="N", help="use N training images, as many of each class; None: all")
    add("--skip-bad-images", action="store_true", help="leave out, and list, files that are no whole image")
    add("--width", type=positive, metavar="CHANNELS", help="of networks that have the option; None: their own")
    add("--epochs", type=positive, default=300, help="passes over the training images")
    add("--batch-size", type=positive, default=128, help="images in a step, over all processes")
    add("--lr", type=rate, default=0.1, help="learning rate at the start (SGD, Nesterov's momentum 0.9)")
    add("--schedule", type=one_of(("step", "cosine")), default="step", help="step: × 0.1 at 1/2 and 3/4; or cosine")
    add("--weight-decay", type=not_negative, default=1e-4, help="L2, of all parameters")
    add(
        "--augment",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="random crops; mirror images, where they keep their class",
    )
    add("--cutout", type=whole, default=0, metavar="PIXELS", help="side of the square that is cut out; 0: none")
    add("--mixup", type=not_negative, default=0.0, metavar="ALPHA", help="of Beta(ALPHA, ALPHA); 0: none")
    add("--precision", type=one_of(("32", "bf16-mixed", "16-mixed")), default="32", help="32, bf16-mixed, 16-mixed")
    add("--backend", type=one_of(BACKENDS[:2]), default="fused", help="fused kernels or reference, plain PyTorch")
    add("--compile", action="store_true", help="torch.compile the network")
    add("--channels-last", action="store_true", help="memory format of maps and weights")
    add("--device", type=one_of(("auto", "cpu", "cuda")), default="auto", help="auto: cuda where there is one")
    add("--devices", type=positive, default=1, help="processes on this machine, a GPU each; torchrun's own go first")
    add("--sync-batchnorm", action="store_true", help="one batch's statistics over all GPUs, not those of each")
    add("--workers", type=whole, help="processes that read image files; None: by the data; data in memory need none")
    add("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads of a process")


def require_train(command: str) -> None:
    require_extra(f"{command} command", MODULES, "train")


def recipe(options: argparse.Namespace) -> dict:
    """What decides the result: where the data lie does not, the number of processes does."""
    chosen = {name: getattr(options, name) for name in RECIPE}
    return chosen | {"data": options.data.partition(":")[0], "devices": processes(options)}


def processes(options: argparse.Namespace) -> int:
    """How many train together: torchrun, where it started this one, says so."""
    return int(os.environ.get("WORLD_SIZE", options.devices))


def check_recipe(path: Path, saved: dict, given: dict) -> None:
    """That a run goes on, or counts as done, with the recipe it began with.

    Raises:
        ValueError: naming the first option that differs, and ``path``, which has the ``saved`` one.
    """
    for name, value in given.items():
        if value != saved.get(name):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is {value!r}; accepted for {path} is {saved.get(name)!r}, as it began")


def create_network(label: str, width: int | None, num_classes: int, in_channels: int) -> nn.Module:
    """The network of ``NAME[:CONV]``.

    Raises:
        ValueError: naming the option that is wrong.
    """
    name, _, conv = label.partition(":")
    options = {"in_channels": in_channels} | ({"conv": conv} if conv else {})
    try:
        return create_model(name, num_classes, **options | ({"width": width} if width else {}))
    except TypeError as error:
        raise ValueError(f"--width is {width}; {name} has no such option") from error
    except ValueError as error:
        raise ValueError(f"--model is {label!r}: {error}") from error
