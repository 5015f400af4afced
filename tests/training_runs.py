"""What the tests of the training commands share: the smallest run, in this process or in processes of its own."""

import subprocess
import sys

import pytest
import torch

for module in ("lightning", "matplotlib", "sklearn", "tensorboard", "tqdm"):
    pytest.importorskip(module)

from evenconv_cuda.__main__ import main  # noqa: E402

SMALL = ("--width", "4", "--subset", "96", "--batch-size", "32", "--lr", "0.05", "--device", "cpu", "--threads", "1")
"""Three steps an epoch of the digits."""


def train(out, *options, epochs=2):
    """Train as the command does and return what is in its checkpoint."""
    main(["train", *SMALL, "--epochs", str(epochs), "--out", str(out), *options])
    return checkpoint(out)


def checkpoint(out):
    return torch.load(out / "last.ckpt", weights_only=True)


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def assert_same_weights(checkpoint, other):
    assert checkpoint["state_dict"].keys() == other["state_dict"].keys()
    for name, tensor in checkpoint["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
