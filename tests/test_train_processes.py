"""Two processes of torchrun against one process of the same total batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from training_runs import SMALL, checkpoint, train

from evenconv_cuda import models
from evenconv_cuda.__main__ import main
from evenconv_cuda.data import loader, open_data
from evenconv_cuda.nn import C2sp

EPOCHS = 2
SCRIPT = """
import json, sys
from test_train_processes import Plain, models
from evenconv_cuda.__main__ import main

models._MODELS["plain"] = Plain
for arguments in json.loads(sys.argv[1]):
    main(arguments)
"""


class Plain(torch.nn.Sequential):
    """Without batch statistics, so that it makes no difference how a batch is shared out."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__(
            torch.nn.Conv2d(in_channels, 8, 3, 2),
            torch.nn.ReLU(),
            C2sp(8, 16),
            torch.nn.ReLU(),
            torch.nn.AvgPool2d(5),
            torch.nn.Flatten(),
            torch.nn.Linear(144, num_classes),
        )


def arguments(model, out):
    small = [option for option in SMALL if option not in ("--width", "4")]
    return ["train", *small, "--model", model, "--no-augment", "--epochs", str(EPOCHS), "--out", str(out)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folders of what two processes trained, both networks in the same pair of them."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    given = [
        arguments("plain", folder / "plain"),
        [*arguments("resnet20:c2sp", folder / "resnet20"), "--width", "4"],
    ]
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            script,
            json.dumps(given),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert finished.returncode == 0, finished.stderr
    return folder


def rows(out):
    summary = json.loads((out / "summary.json").read_text())
    names = ("epoch", "step", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return summary["processes"], [[row[name] for name in names] for row in summary["epochs"]]


@pytest.mark.exhaustive
def test_losses_and_weights_are_those_of_one_process(two, tmp_path, monkeypatch):
    monkeypatch.setitem(models._MODELS, "plain", Plain)
    main(arguments("plain", tmp_path))
    (processes, metrics), (alone, expected) = rows(two / "plain"), rows(tmp_path)
    assert (processes, alone) == (2, 1)
    assert len(metrics) == EPOCHS
    for row, expected_row in zip(metrics, expected):
        assert row == pytest.approx(expected_row, rel=1e-5)
    for name, tensor in checkpoint(tmp_path)["state_dict"].items():
        torch.testing.assert_close(checkpoint(two / "plain")["state_dict"][name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.exhaustive
def test_each_process_has_batch_statistics_of_its_own(two):
    """Gradients are the mean over both halves of each batch, running statistics the first process's."""
    data = open_data("digits", subset=96)
    torch.manual_seed(0)
    model = models.create_model("resnet20", 10, conv="c2sp", width=4, in_channels=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    batches = loader(data.train, 32, shuffle=True, seed=0, drop_last=True)
    _, metrics = rows(two / "resnet20")
    for epoch in range(EPOCHS):
        batches.sampler.set_epoch(epoch)
        optimizer.param_groups[0]["lr"] = (0.05, 0.005)[epoch]
        losses = []
        for images, labels in batches:
            images = (images / 255 - data.mean[0]) / data.std[0]
            kept = [buffer.clone() for buffer in model.buffers()]
            optimizer.zero_grad()
            for half in (1, 0):
                for buffer, start in zip(model.buffers(), kept):
                    buffer.copy_(start)
                loss = F.cross_entropy(model(images[half::2]), labels[half::2]) / 2
                loss.backward()
                losses.append(loss.item())
            optimizer.step()
        assert metrics[epoch][3] == pytest.approx(sum(losses) / len(batches), rel=1e-4)
        images, labels = data.test[list(range(len(data.test)))]
        with torch.no_grad():
            outputs = model.eval()((images / 255 - data.mean[0]) / data.std[0])
        assert metrics[epoch][5] == pytest.approx(F.cross_entropy(outputs, labels).item(), rel=1e-3)
        model.train()


def test_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    with pytest.raises(SystemExit) as refused:
        train(tmp_path, "--devices", "2", "--batch-size", "31")
    assert refused.value.code == "--batch-size is 31; accepted are multiples of 2, the number of processes"
