"""From options to a trained network: data, network, Lightning's Trainer and what it leaves behind."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from argparse import Namespace
from functools import partial

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn
from torch.distributed import is_torchelastic_launched

from ..backend import use_backend
from ..data import ImageData, loader
from .checkpoint import NAME, AtomicCheckpointIO
from .files import NotWritten
from .history import History
from .module import Classifier
from .options import recipe
from .preparing import Setting, begun, in_use, new_network, prepare, profiled, say
from .restore import load_weights
from .summary import leave_summary

INTERRUPTED = 143
"""What a shell reports of a process that SIGTERM ended."""


def fit(options: Namespace) -> None:
    """Train as ``options`` say, and leave checkpoint, metrics, curves and summary in ``options.out``."""
    quiet_lightning()
    torch.set_num_threads(options.threads)
    if options.devices > 1:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # or Lightning would choose for the processes it starts
    setting = prepare(options)
    torch.manual_seed(options.seed)
    model = new_network(options, setting.data)
    costs = profiled(model, setting, options)
    with in_use(options.out):
        fit_in_place(model, setting, costs, options)


def fit_in_place(model: nn.Module, setting: Setting, costs: dict[str, int], options: Namespace) -> None:
    """The same, with ``options.out`` for this training alone."""
    data = setting.data
    path, checkpoint = begun(options, data)
    module = Classifier(model, recipe(options), described(data), options.channels_last)
    if checkpoint:
        try:
            load_weights(module, checkpoint, path)
        except ValueError as error:
            sys.exit(f"--resume: {error}")
        say(f"--resume: {path}, after epoch {checkpoint['epoch'] + 1} of {options.epochs}")
    elif options.resume:
        say(f"--resume: no {path}; training starts at the beginning")
    history = History(options.batch_size)
    trainer = new_trainer(options, setting.accelerator, history)
    ranks = {"rank": trainer.global_rank, "world_size": trainer.world_size}
    feed = partial(loader, batch_size=setting.share, seed=options.seed, workers=options.workers, **ranks)
    train = feed(data.train, shuffle=True, drop_last=True)
    test = feed(data.test, shuffle=False, drop_last=False)
    if checkpoint:
        train.sampler.set_epoch(checkpoint["epoch"] + 1)  # workers may read ahead before Lightning says which it is
    if options.compile:
        model.compile()
    try:
        with use_backend(options.backend):
            trainer.fit(module, train, test, ckpt_path=path if checkpoint else None, weights_only=True)
        if trainer.is_global_zero:
            leave_summary(options, data, history.rows, costs, trainer)
    except SIGTERMException:
        say(f"Interrupted by SIGTERM; --resume goes on from {path}, if that is there", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except NotWritten as error:
        sys.exit(f"--out cannot be written to; --resume goes on from {path}, if that is there: {error}")


def quiet_lightning() -> None:
    """Leave the progress bar and what is wrong."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in ("Experiment logs dir", "Checkpoint dir", "The '.*' does not have many workers", ".*treespec"):
        warnings.filterwarnings("ignore", message)


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
