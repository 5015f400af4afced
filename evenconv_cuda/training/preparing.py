"""Whether trainings can be what their options say, found out before the first step of the first."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from ..backend import use_backend
from ..data import ImageData, open_data
from ..profile import profile
from .checkpoint import NAME, read_checkpoint
from .files import hold
from .options import check_recipe, create_network, processes, recipe

say = rank_zero_only(print)


@dataclass(frozen=True)
class Setting:
    """What the options come to on this machine; ``share`` is a process's images of a batch."""

    accelerator: str
    data: ImageData
    share: int


def prepare(options: Namespace) -> Setting:
    """The setting of a training, or leave with what is wrong with ``options``."""
    accelerator = suitable_accelerator(options)
    data = opened(options, image_size=options.image_size, subset=options.subset, seed=options.seed)
    return Setting(accelerator, data, share_of_batch(options, data))


def check_trainings(trainings: Sequence[Namespace]) -> None:
    """Leave with what is wrong with one of them: they differ in network, seed and folder."""
    setting = prepare(trainings[0])
    for training in {training.model: training for training in trainings}.values():
        with torch.device("meta"):
            model = new_network(training, setting.data)
        profiled(model, setting, training)
    for training in trainings:
        begun(training, setting.data)


def suitable_accelerator(options: Namespace) -> str:
    """The accelerator, if the other options suit it."""
    accelerator = chosen_accelerator(options.device)
    if accelerator == "cpu" and options.sync_batchnorm:
        sys.exit("--sync-batchnorm is given; accepted is it on GPUs (--device cuda)")
    if accelerator == "cpu" and options.precision == "16-mixed":
        sys.exit("--precision is '16-mixed'; accepted on a CPU are 32, bf16-mixed")
    if accelerator == "cuda" and options.devices > (gpus := torch.cuda.device_count()):
        sys.exit(f"--devices is {options.devices}; accepted here is at most {gpus}, the number of GPUs")
    return accelerator


def chosen_accelerator(device: str) -> str:
    """``auto`` is CUDA where there is a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device is 'cuda'; accepted here are auto, cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def opened(options: Namespace, **choices) -> ImageData:
    """The data that --data names, or leave with what is wrong with them."""
    try:
        data = open_data(options.data, skip_bad_images=options.skip_bad_images, **choices)
    except (ValueError, OSError) as error:
        sys.exit(f"--data is {options.data!r}: {error}")
    if data.left_out:
        say(f"--skip-bad-images left out {len(data.left_out)}:")
        for file, reason in data.left_out:
            say(f"  {file}: {reason}")
    return data


def share_of_batch(options: Namespace, data: ImageData) -> int:
    """Images of a batch in each process."""
    count = processes(options)
    if options.batch_size > len(data.train):
        sys.exit(f"--batch-size is {options.batch_size}; accepted is at most {len(data.train)}, the training images")
    if options.batch_size % count:
        sys.exit(f"--batch-size is {options.batch_size}; accepted are multiples of {count}, the number of processes")
    if count > len(data.test):
        sys.exit(f"--data is {options.data!r}, with {len(data.test)} test images; accepted is one for each process")
    return options.batch_size // count


def new_network(options: Namespace, data: ImageData) -> nn.Module:
    """The network that --model names, or leave."""
    try:
        return create_network(options.model, options.width, data.num_classes, data.in_channels)
    except ValueError as error:
        sys.exit(str(error))


def profiled(model: nn.Module, setting: Setting, options: Namespace) -> dict[str, int]:
    """Parameters, multiply-accumulates of an image, bytes kept for backward of a process's batch (in float32)."""
    data = setting.data
    try:
        with use_backend(options.backend):
            costs = profile(model, (setting.share, data.in_channels, data.image_size, data.image_size))
    except ValueError as error:
        sys.exit(f"--image-size is {data.image_size}: {options.model} does not take it: {error}")
    return {"params": costs.params, "macs": costs.macs // setting.share, "saved_bytes": costs.saved_bytes}


def in_use(out: Path) -> AbstractContextManager:
    """Keep other processes from writing to ``out``, or leave; of several that train together, the first does it."""
    try:
        return hold(out) if rank_zero_only.rank == 0 else nullcontext()
    except (ValueError, OSError) as error:
        sys.exit(f"--out is {out}: {error}")


def begun(options: Namespace, data: ImageData) -> tuple[Path, dict | None]:
    """Where the checkpoint is, and what is in it to go on from, or leave if another training wrote it."""
    path = options.out / f"{NAME}.ckpt"
    if not path.exists():
        return path, None
    if not options.resume:
        sys.exit(f"--out is {options.out}, which holds {path.name}: give --resume to go on from it, or another --out")
    try:
        checkpoint = read_checkpoint(path)
        check_recipe(path, checkpoint["hyper_parameters"]["recipe"], recipe(options))
    except (ValueError, OSError) as error:
        sys.exit(f"--resume: {error}")
    if checkpoint["hyper_parameters"]["data"]["classes"] != data.classes:
        sys.exit(f"--data is {options.data!r}; accepted for {path} are the classes that it began with")
    return path, checkpoint
