"""Interruptions at any moment and what a resumed run comes to; what is wrong with a checkpoint, named."""

import csv
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from exhaustive import all_but
from training_runs import SMALL, assert_same_weights, checkpoint, train

from evenconv_cuda.__main__ import main
from evenconv_cuda.training.checkpoint import AtomicCheckpointIO
from evenconv_cuda.training.module import Classifier

EPOCHS, STEPS = 4, 3
RANDOM = ("--cutout", "4", "--mixup", "0.2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(out, *RANDOM, epochs=EPOCHS)
    return out


@contextmanager
def stopping(at, stop):
    """``stop()`` in the middle of an epoch, before the step of that number."""
    step = Classifier.training_step

    def training_step(self, batch):
        if self.global_step == at:
            stop()
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", training_step)
        yield


def cut():
    raise RuntimeError("power cut")


def interrupted(out, step, *options, epochs=EPOCHS):
    with stopping(step, cut), pytest.raises(RuntimeError, match="power cut"):
        train(out, *options, epochs=epochs)


@pytest.mark.parametrize("step", all_but([4], [4, 11]))
def test_resumed_run_ends_with_the_same_weights(step, whole, tmp_path, capsys):
    interrupted(tmp_path, step, *RANDOM)
    assert checkpoint(tmp_path)["epoch"] == step // STEPS - 1
    resumed = train(tmp_path, *RANDOM, "--resume", epochs=EPOCHS)
    assert f"after epoch {step // STEPS} of {EPOCHS}" in capsys.readouterr().out
    assert_same_weights(resumed, checkpoint(whole))
    assert resumed["global_step"] == EPOCHS * STEPS


def test_resumed_run_has_the_whole_history(whole, tmp_path):
    interrupted(tmp_path, 7, *RANDOM)
    train(tmp_path, *RANDOM, "--resume", epochs=EPOCHS)
    measured = {"images_per_second", "seconds", "peak_memory"}

    def metrics(rows):
        return [{name: float(value) for name, value in row.items() if name not in measured} for row in rows]

    expected = metrics(csv.DictReader((whole / "metrics.csv").open()))
    assert [row["epoch"] for row in expected] == [1, 2, 3, 4]
    assert metrics(csv.DictReader((tmp_path / "metrics.csv").open())) == expected
    assert metrics(json.loads((tmp_path / "summary.json").read_text())["epochs"]) == expected


@pytest.mark.exhaustive
def test_dropout_and_cosine_go_on_where_they_were(tmp_path):
    """MobileNetV3 draws dropout from torch's own generator; the cosine changes with every step."""
    options = ("--model", "mobilenet_v3_small_cifar:xsepconv", "--schedule", "cosine", "--subset", "32")
    small = [option for option in SMALL if option not in ("--width", "4")]
    given = [*small, *options, "--batch-size", "16", "--epochs", "2"]

    def run(out, *more):
        main(["train", *given, "--out", str(out), *more])
        return checkpoint(out)

    expected = run(tmp_path / "whole")
    with stopping(3, cut), pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "cut")
    assert_same_weights(run(tmp_path / "cut", "--resume"), expected)


def test_workers_resume_with_the_right_epoch(tmp_path):
    """Files that worker processes read ahead: the order and the crops are those of the epoch that is resumed."""
    image = pytest.importorskip("PIL.Image")
    for split, count in (("train", 8), ("val", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                torch.manual_seed(number + 100 * (name == "b"))
                image.fromarray(torch.randint(256, (12, 12, 3), dtype=torch.uint8).numpy()).save(
                    folder / f"{number}.png"
                )
    files = ["--data", f"imagefolder:{tmp_path / 'images'}", "--image-size", "8", "--subset", "16", "--batch-size", "8"]
    expected = train(tmp_path / "whole", *files, "--workers", "0", epochs=3)
    interrupted(tmp_path / "cut", 3, *files, "--workers", "1", epochs=3)
    assert_same_weights(train(tmp_path / "cut", *files, "--workers", "1", "--resume", epochs=3), expected)


KILLED = """
import os, signal, sys
import torch
from test_train_checkpoint import stopping
from evenconv_cuda.__main__ import main

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

saves = 0
save = torch.save

def half(checkpoint, file):
    global saves
    saves += 1
    if saves == 2:
        import io
        whole = io.BytesIO()
        save(checkpoint, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()
        kill()
    save(checkpoint, file)

if sys.argv[1] == "checkpoint":
    torch.save = half
with stopping(4 if sys.argv[1] == "step" else None, kill):
    main(sys.argv[2:])
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", ["step", "checkpoint"])
def test_kill_9(moment, whole, tmp_path):
    """In the middle of the second epoch, and with half of the second checkpoint written."""
    given = ["train", *SMALL, *RANDOM, "--epochs", str(EPOCHS), "--out", str(tmp_path / "run")]
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment, *given],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert checkpoint(tmp_path / "run")["epoch"] == 0
    assert bool(list((tmp_path / "run").glob("*.part"))) == (moment == "checkpoint")
    assert_same_weights(train(tmp_path / "run", *RANDOM, "--resume", epochs=EPOCHS), checkpoint(whole))
    assert not list((tmp_path / "run").glob("*.part"))


def test_sigterm_ends_the_run_and_says_how_to_go_on(whole, tmp_path, capsys):
    sigterm = partial(os.kill, os.getpid(), signal.SIGTERM)
    with stopping(4, sigterm), pytest.raises(SystemExit) as ended:
        train(tmp_path, *RANDOM, epochs=EPOCHS)
    assert ended.value.code == 143
    assert f"Interrupted by SIGTERM; --resume goes on from {tmp_path / 'last.ckpt'}" in capsys.readouterr().err
    assert checkpoint(tmp_path)["epoch"] == 0
    assert_same_weights(train(tmp_path, *RANDOM, "--resume", epochs=EPOCHS), checkpoint(whole))


def test_checkpoint_is_whole_at_every_moment(tmp_path, monkeypatch):
    """What stands under the name is the old one until the new one is on the disk."""
    path, calls = tmp_path / "last.ckpt", []
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"epoch": 0}, path)
    fsync, replace = os.fsync, os.replace

    def note(name, function):
        def noted(*arguments):
            calls.append((name, torch.load(path)["epoch"]))
            return function(*arguments)

        return noted

    monkeypatch.setattr(os, "fsync", note("fsync", fsync))
    monkeypatch.setattr(os, "replace", note("replace", replace))
    writer.save_checkpoint({"epoch": 1}, path)
    assert calls == [("fsync", 0), ("replace", 0), ("fsync", 1)]
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_resume_of_a_finished_run_changes_nothing(whole, tmp_path):
    before, left = checkpoint(whole), json.loads((whole / "summary.json").read_text())
    assert_same_weights(train(whole, *RANDOM, "--resume", epochs=EPOCHS), before)
    after = json.loads((whole / "summary.json").read_text())
    assert after["command"].endswith("--resume")
    assert {**after, "command": ""} == {**left, "command": ""}


def test_resume_without_a_checkpoint_says_so(tmp_path, capsys):
    train(tmp_path, "--resume", epochs=1)
    assert f"--resume: no {tmp_path / 'last.ckpt'}; training starts at the beginning" in capsys.readouterr().out
    assert checkpoint(tmp_path)["epoch"] == 0


def refusal(*arguments):
    with pytest.raises(SystemExit) as refused:
        main([str(argument) for argument in arguments])
    assert "\n" not in refused.value.code
    return refused.value.code


def test_checkpoint_is_not_overwritten_unasked(whole):
    expected = f"--out is {whole}, which holds last.ckpt: give --resume to go on from it, or another --out"
    assert refusal("train", *SMALL, "--out", whole) == expected


@pytest.mark.parametrize(
    ("option", "value", "began"),
    [
        ("--model", "resnet20:c3", "resnet20:c2sp"),
        ("--seed", 1, 0),
        ("--lr", 0.2, 0.05),
        ("--epochs", 9, 4),
        ("--mixup", 0.5, 0.2),
    ],
)
def test_other_recipe_is_named(option, value, began, whole):
    given = ["train", *SMALL, *RANDOM, "--epochs", EPOCHS, "--out", whole, "--resume", option, value]
    said = refusal(*given)
    assert said == f"--resume: {option} is {value!r}; accepted for {whole / 'last.ckpt'} is {began!r}, as it began"


COMMANDS = {
    "train": lambda path: ["train", *SMALL, "--out", path.parent, "--resume"],
    "evaluate": lambda path: ["evaluate", path, "--data", "digits"],
    "fold": lambda path: ["fold", path, path.parent / "folded.pt"],
    "export": lambda path: ["export", path, path.parent / "model.onnx"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kept", [0.5, 0])
def test_truncated_checkpoint_is_named(command, kept, whole, tmp_path):
    content = (whole / "last.ckpt").read_bytes()
    path = tmp_path / "last.ckpt"
    path.write_bytes(content[: int(kept * len(content))])
    assert f"{path} is truncated or no checkpoint" in refusal(*COMMANDS[command](path))


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, [1, 2], {"state_dict": {}, "hyper_parameters": {}, "epoch": 0}]
)
def test_other_file_is_named(content, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    assert f"{path} is no checkpoint of the train command: it has no" in refusal("evaluate", path, "--data", "digits")


def test_missing_checkpoint_is_named(tmp_path):
    assert str(tmp_path / "none.ckpt") in refusal("evaluate", tmp_path / "none.ckpt", "--data", "digits")
