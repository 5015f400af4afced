"""One network, its recipe and its losses, as Lightning runs them."""

from __future__ import annotations

import math
import random

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from ..data import Augmentation

DROPS = (1 / 2, 3 / 4)
"""Shares of the epochs after which the learning rate drops to a tenth: 150 and 225 of 300."""


class Classifier(pl.LightningModule):
    """Cross-entropy, SGD with Nesterov's momentum, batches augmented where they are trained on.

    All that is random in an epoch follows from the seed, the epoch and the process's rank, so that a resumed training
    goes on as one that was never interrupted.

    Args:
        model: ``(N, C, H, W)`` to ``(N, num_classes)``.
        recipe: :func:`evenconv_cuda.training.options.recipe`'s.
        data: ``num_classes``, ``classes``, ``in_channels``, ``image_size``, ``mean``, ``std``, ``pad`` and ``flip``.
        channels_last: the memory format of the batches.

    Source of the recipe: Wu et al., arXiv 1903.08385, section 4.
    """

    def __init__(self, model: nn.Module, recipe: dict, data: dict, channels_last: bool = False):
        super().__init__()
        self.save_hyperparameters({"recipe": recipe, "data": data})
        self.recipe, self.num_classes = recipe, data["num_classes"]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.memory_format)
        self.augmentation = Augmentation(
            data["mean"],
            data["std"],
            pad=data["pad"] if recipe["augment"] else 0,
            flip=recipe["augment"] and data["flip"],
            cutout=recipe["cutout"],
            mixup=recipe["mixup"],
        )

    def configure_optimizers(self) -> dict:
        recipe, steps = self.recipe, self.trainer.estimated_stepping_batches
        optimizer = torch.optim.SGD(
            self.model.parameters(), recipe["lr"], momentum=0.9, nesterov=True, weight_decay=recipe["weight_decay"]
        )
        if recipe["schedule"] == "cosine":
            scheduler = CosineAnnealingLR(optimizer, steps)
        else:
            epochs = recipe["epochs"]
            scheduler = MultiStepLR(optimizer, [math.ceil(share * epochs) * (steps // epochs) for share in DROPS])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        seed = random.Random(f"{self.recipe['seed']} {self.current_epoch} {self.global_rank}").getrandbits(63)
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        images, targets = batch
        if self.trainer.training:
            images, targets = self.augmentation(images, targets, self.num_classes, self.generator)
        else:
            images = self.augmentation.normalise(images)
        # contiguous() leaves a single channel's strides as they are, and the network would run in their format.
        return images.clone(memory_format=self.memory_format), targets

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.measure("train", *batch)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        self.measure("test", *batch)

    def measure(self, part: str, images: Tensor, targets: Tensor) -> Tensor:
        """The loss; means over the epoch, and over the processes, are logged."""
        outputs = self.model(images)
        loss = F.cross_entropy(outputs, targets)
        labels = targets.argmax(1) if targets.is_floating_point() else targets
        metrics = {f"{part}_loss": loss, f"{part}_accuracy": (outputs.argmax(1) == labels).float().mean()}
        self.log_dict(
            metrics, on_step=False, on_epoch=True, prog_bar=True, logger=False, sync_dist=True, batch_size=len(images)
        )
        return loss
