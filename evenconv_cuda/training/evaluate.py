"""Loss and accuracy of a checkpoint on the test images of a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ..backend import BACKENDS, use_backend
from ..options import one_of, positive
from .options import require_train, whole


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="that the train command wrote")
    add("--data", required=True, metavar="SPEC", help="as of the train command")
    add("--skip-bad-images", action="store_true", help="leave out, and list, files that are no whole image")
    add("--batch-size", type=positive, default=128, help="images at a time")
    add("--backend", type=one_of(BACKENDS[:2]), default="fused", help="fused kernels or reference, plain PyTorch")
    add("--device", type=one_of(("auto", "cpu", "cuda")), default="auto", help="auto: cuda where there is one")
    add("--workers", type=whole, help="processes that read image files; None: by the data; data in memory need none")
    add("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads")


def run(options: argparse.Namespace) -> None:
    """Print loss and accuracy."""
    require_train("evaluate")
    import lightning.pytorch as pl

    from ..data import loader
    from .fitting import quiet_lightning
    from .preparing import chosen_accelerator, opened
    from .restore import restored

    quiet_lightning()
    torch.set_num_threads(options.threads)
    module, described = restored(options.checkpoint)
    data = opened(options, image_size=described["image_size"], seed=module.recipe["seed"], classes=described["classes"])
    if data.classes != described["classes"] and data.num_classes == described["num_classes"]:
        other, own = next(pair for pair in zip(data.classes, described["classes"]) if pair[0] != pair[1])
        sys.exit(f"--data is {options.data!r}, with a class {other!r}; accepted for {options.checkpoint} is {own!r}")
    if data.num_classes != described["num_classes"] or data.in_channels != described["in_channels"]:
        sys.exit(
            f"--data is {options.data!r}, {data.num_classes} classes and {data.in_channels} channels; accepted for "
            f"{options.checkpoint} is {described['num_classes']} classes and {described['in_channels']} channels"
        )
    test = loader(data.test, options.batch_size, shuffle=False, seed=0, workers=options.workers, drop_last=False)
    trainer = pl.Trainer(
        accelerator=chosen_accelerator(options.device),
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with use_backend(options.backend):
        trainer.validate(module, test, verbose=False)
    metrics = trainer.callback_metrics
    print(f"{len(data.test)} test images: loss {metrics['test_loss']:.4f}, accuracy {metrics['test_accuracy']:.2%}")
