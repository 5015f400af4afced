"""What a training leaves behind beside its checkpoint: ``summary.json``, ``curves.png`` and some lines."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from statistics import median

import lightning
import torch

from .. import __version__
from ..data import ImageData
from ..machine import describe
from ..text import mebibytes, table
from .figure import draw
from .files import replacing
from .options import SUMMARY, recipe

CURVES = "curves.png"


def leave_summary(options: Namespace, data: ImageData, rows: list[dict], costs: dict[str, int], trainer) -> None:
    device, rate = trainer.strategy.root_device, median(row["images_per_second"] for row in rows)
    last = rows[-1]
    summary = {
        "command": shlex.join(["python", "-m", "evenconv_cuda", *options.arguments]),
        "versions": {"evenconv_cuda": __version__, "torch": torch.__version__, "lightning": lightning.__version__},
        "device": describe(device),
        "processes": trainer.world_size,
        "recipe": recipe(options),
        "images": {"train": len(data.train), "test": len(data.test), "left_out": len(data.left_out)},
        **costs,
        "accuracy": last["test_accuracy"],
        "best_accuracy": max(row["test_accuracy"] for row in rows),
        "loss": last["test_loss"],
        "images_per_second": rate,
        "step_seconds": options.batch_size / rate,
        "peak_memory": max(row["peak_memory"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows),
        "epochs": rows,
    }
    draw(rows, f"{options.model} on {data.name}", options.out / CURVES)
    with replacing(options.out / SUMMARY) as file:
        file.write(json.dumps(summary, indent=2).encode() + b"\n")
    print(report(summary, device))
    print(f"\nCheckpoint, metrics, curves and summary: {options.out}")


def report(summary: dict, device: torch.device) -> str:
    memory = "allocated on the GPU" if device.type == "cuda" else "resident set"
    rows = [
        ("test accuracy", f"{summary['accuracy']:.2%} (best epoch {summary['best_accuracy']:.2%})"),
        ("test loss", f"{summary['loss']:.4f}"),
        ("parameters", f"{summary['params']:,}"),
        ("multiply-accumulates", f"{summary['macs']:,} an image"),
        ("saved for backward", f"{mebibytes(summary['saved_bytes'])} a batch, counted"),
        ("images per second", f"{summary['images_per_second']:,.0f} (median epoch)"),
        ("peak memory", f"{mebibytes(summary['peak_memory'])}, {memory}"),
        ("time", f"{summary['seconds']:.0f} s"),
    ]
    return f"\n{summary['device']}, {summary['processes']} processes\n\n" + table(rows, text=2)
