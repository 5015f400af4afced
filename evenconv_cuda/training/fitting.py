"""From options to a trained network: data, network, Lightning's Trainer and what it leaves behind."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from argparse import Namespace
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.distributed import is_torchelastic_launched

from ..backend import use_backend
from ..data import ImageData, loader, open_data
from .checkpoint import NAME, AtomicCheckpointIO, read_checkpoint
from .history import History
from .module import Classifier
from .options import check_recipe, create_network, recipe
from .summary import leave_summary, profiled

say = rank_zero_only(print)
INTERRUPTED = 143
"""What a shell reports of a process that SIGTERM ended."""


def fit(options: Namespace) -> None:
    """Train as ``options`` say, and leave checkpoint, metrics, curves and summary in ``options.out``."""
    quiet_lightning()
    torch.set_num_threads(options.threads)
    if options.devices > 1:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # or Lightning would choose for the processes it starts
    accelerator = suitable_accelerator(options)
    data = opened(options, image_size=options.image_size, subset=options.subset, seed=options.seed)
    torch.manual_seed(options.seed)
    model = create_network(options.model, options.width, data.num_classes, data.in_channels)
    path = options.out / f"{NAME}.ckpt"
    checkpoint = resumed(path, options)
    if checkpoint and checkpoint["hyper_parameters"]["data"]["classes"] != data.classes:
        sys.exit(f"--data is {options.data!r}; accepted for {path} are the classes that it began with")
    history = History(options.batch_size)
    trainer = new_trainer(options, accelerator, history)
    share = share_of_batch(options, trainer.world_size)
    with use_backend(options.backend):
        costs = profiled(model, share, data, options)
    processes = {"rank": trainer.global_rank, "world_size": trainer.world_size}
    feed = partial(loader, batch_size=share, seed=options.seed, workers=options.workers, **processes)
    try:
        train = feed(data.train, shuffle=True, drop_last=True)
        test = feed(data.test, shuffle=False, drop_last=False)
    except ValueError as error:
        sys.exit(f"--data is {options.data!r}: {error}")
    if checkpoint:
        train.sampler.set_epoch(checkpoint["epoch"] + 1)  # workers may read ahead before Lightning says which it is
    if options.compile:
        model.compile()
    module = Classifier(model, recipe(options), described(data), options.channels_last)
    try:
        with use_backend(options.backend):
            trainer.fit(module, train, test, ckpt_path=path if checkpoint else None, weights_only=True)
    except SIGTERMException:
        say(f"Interrupted by SIGTERM; --resume goes on from {path}, if that is there", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if trainer.is_global_zero:
        leave_summary(options, data, history.rows, costs, trainer)


def quiet_lightning() -> None:
    """Leave the progress bar and what is wrong."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in ("Experiment logs dir", "Checkpoint dir", "The '.*' does not have many workers", ".*treespec"):
        warnings.filterwarnings("ignore", message)


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


def described(data: ImageData) -> dict:
    """What a checkpoint keeps of the data."""
    return {
        "name": data.name,
        "num_classes": data.num_classes,
        "classes": data.classes,
        "in_channels": data.in_channels,
        "image_size": data.image_size,
        "mean": data.mean,
        "std": data.std,
        "pad": data.pad,
        "flip": data.flip,
    }


def chosen_accelerator(device: str) -> str:
    """``auto`` is CUDA where there is a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device is 'cuda'; accepted here are auto, cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


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


def resumed(path: Path, options: Namespace) -> dict | None:
    """The checkpoint to go on from; None: there is none."""
    if not path.exists():
        if options.resume:
            say(f"--resume: no {path}; training starts at the beginning")
        return None
    if not options.resume:
        sys.exit(f"--out is {options.out}, which holds {path.name}: give --resume to go on from it, or another --out")
    try:
        checkpoint = read_checkpoint(path)
        check_recipe(path, checkpoint["hyper_parameters"]["recipe"], recipe(options))
    except (ValueError, OSError) as error:
        sys.exit(f"--resume: {error}")
    say(f"--resume: {path}, after epoch {checkpoint['epoch'] + 1} of {options.epochs}")
    return checkpoint


def new_trainer(options: Namespace, accelerator: str, history: History) -> pl.Trainer:
    devices, nodes = options.devices, 1
    if is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=options.precision,
        max_epochs=options.epochs,
        callbacks=[history, ProgressBar(), ModelCheckpoint(options.out, NAME, enable_version_counter=False)],
        logger=[
            CSVLogger(options.out, "", "", flush_logs_every_n_steps=1),
            TensorBoardLogger(options.out, "", "tensorboard"),
        ],
        plugins=[AtomicCheckpointIO()],
        sync_batchnorm=options.sync_batchnorm,
        default_root_dir=options.out,
        use_distributed_sampler=False,  # the loader's own sampler shares the images out
        num_sanity_val_steps=0,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


class ProgressBar(TQDMProgressBar):
    """On a terminal; without the version that loggers give a run."""

    def __init__(self):
        super().__init__(refresh_rate=int(sys.stdout.isatty()))

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict:
        shown = super().get_metrics(trainer, module)
        shown.pop("v_num", None)
        return shown


def share_of_batch(options: Namespace, processes: int) -> int:
    """Images of a batch in each process."""
    if options.batch_size % processes:
        sys.exit(
            f"--batch-size is {options.batch_size}; accepted are multiples of {processes}, the number of processes"
        )
    return options.batch_size // processes
