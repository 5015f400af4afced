"""Write a checkpoint's network as ONNX, with standard convolutions and its data's normalisation."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ..options import require_extra, writable
from ..standard import to_standard
from .options import require_train

TOLERANCE = 1e-3
"""Largest difference of ONNX Runtime's outputs from PyTorch's, in units of the largest output."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="that the train command wrote")
    add("out", type=writable, metavar="OUT.onnx", help="file to write")


class Normalised(nn.Module):
    """``model`` of images in 0..1."""

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


def run(options: argparse.Namespace) -> None:
    """``images``, (N, C, H, W) in 0..1 for any N, to ``scores``, (N, classes); checked where ONNX Runtime is there."""
    require_train("export")
    require_extra("export command", ("onnx", "onnxscript"), "export")
    from .output import check_output, output
    from .restore import restored

    check_output(options.out, options.checkpoint)
    module, data = restored(options.checkpoint)
    model = Normalised(to_standard(module.model), data["mean"], data["std"]).eval()
    images = torch.rand(3, data["in_channels"], data["image_size"], data["image_size"])
    program = torch.onnx.export(
        model,
        (images,),
        input_names=["images"],
        output_names=["scores"],
        dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        verbose=False,
    )
    content = program.model_proto.SerializeToString()
    checked = "not checked: onnxruntime is not installed"
    if find_spec("onnxruntime") is not None:
        checked = f"ONNX Runtime's scores differ from PyTorch's by at most {difference(model, content, images):.1e}"
    with output(options.out) as file:
        file.write(content)
    print(f"{module.recipe['model']}, images (N, {', '.join(map(str, images.shape[1:]))}) in 0..1: {options.out}")
    print(checked)


def difference(model: nn.Module, content: bytes, images: Tensor) -> float:
    """Of ONNX Runtime's outputs from PyTorch's; leaves if that is no rounding."""
    import onnxruntime

    with torch.no_grad():
        expected = model(images)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"images": images.numpy()})
    worst = (torch.from_numpy(scores) - expected).abs().max().item()
    if not worst <= TOLERANCE * expected.abs().max().item():
        sys.exit(f"The network computes something else in ONNX Runtime: scores differ by {worst:.1e}")
    return worst
