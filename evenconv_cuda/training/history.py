"""A row of metrics for every epoch, which an interruption does not lose."""

from __future__ import annotations

import sys
import time

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger

from ..machine import peak_memory, synchronize

WARM_UP = 10
"""Steps that a process's first epoch leaves out of its rate, but at most half of them."""


class History(pl.Callback):
    """``rows``: losses, accuracies, learning rate at the start, training images per second, peak memory in bytes and
    seconds of each epoch.

    The rate is that of the epoch's steps, data included, evaluation not; the seconds are of all. The rows are part of
    the checkpoint; a resumed training writes those it finds there to the CSV file, which Lightning begins anew. Where
    there is no terminal for a progress bar, a line is printed for each row.

    Args:
        batch_size: images in a step, over all processes.
    """

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.rows: list[dict[str, float]] = []
        self.warm_up = WARM_UP

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = state["rows"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                for row in self.rows:
                    logger.log_metrics(row, row["step"])

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.epoch_start = self.start = time.perf_counter()
        self.left_out = min(self.warm_up, trainer.num_training_batches // 2)
        self.warm_up = 0
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int):
        if batch_idx + 1 in (self.left_out, trainer.num_training_batches):
            synchronize(module.device)
            self.end = time.perf_counter()
            if batch_idx + 1 == self.left_out:
                self.start = self.end

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        timed = trainer.num_training_batches - self.left_out
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": self.lr}
        row |= {name: value.item() for name, value in sorted(trainer.callback_metrics.items())}
        row["images_per_second"] = timed * self.batch_size / (self.end - self.start)
        row["peak_memory"] = peak_memory(module.device)
        row["seconds"] = time.perf_counter() - self.epoch_start
        self.rows.append(row)
        for logger in trainer.loggers:
            logger.log_metrics(row, row["step"])
        if trainer.is_global_zero and not sys.stdout.isatty():
            metrics = ", ".join(
                f"{name} {value:.4f}" for name, value in row.items() if name in trainer.callback_metrics
            )
            print(f"epoch {row['epoch']} of {trainer.max_epochs}: {metrics}", flush=True)
