"""The compare command: its runs, its table against numbers worked out by hand, and that it goes on where it stopped."""

import json
import re
import signal
import subprocess
from argparse import Namespace

import pytest
from training_runs import SMALL

from evenconv_cuda.__main__ import main
from evenconv_cuda.training import compare
from evenconv_cuda.training.comparison import leave_comparison

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MODELS = ("resnet20:c3", "resnet20:c2sp")


def arguments(out, *options, seeds=2):
    given = ["--models", ",".join(MODELS), "--seeds", seeds, "--out", out, *SMALL, "--epochs", 1, *options]
    return ["compare", *map(str, given)]


@pytest.fixture
def in_process(monkeypatch):
    """Runs in this process, which is spared four starts; the list of their command lines."""
    commands = []

    def run(command):
        assert command[1:4] == ["-m", "evenconv_cuda", "train"]
        commands.append(command[4:])
        main(command[3:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(compare.subprocess, "run", run)
    monkeypatch.setattr(compare.signal, "signal", lambda *given: None)
    return commands


def results(out):
    return json.loads((out / "comparison.json").read_text())


@pytest.mark.exhaustive
def test_every_network_is_trained_with_every_seed(in_process, tmp_path, capsys):
    main(arguments(tmp_path))
    shared = [*SMALL, "--epochs", "1"]
    assert in_process == [
        ["--model", model, "--seed", str(seed), "--out", str(tmp_path / f"{model.replace(':', '-')}-seed{seed}")]
        + ["--resume", *shared]
        for seed in range(2)
        for model in MODELS
    ]
    left = results(tmp_path)
    assert left["command"] == f"python -m evenconv_cuda {' '.join(arguments(tmp_path))}"
    assert [network["model"] for network in left["networks"]] == list(MODELS)
    for network in left["networks"]:
        folders = [tmp_path / f"{network['model'].replace(':', '-')}-seed{seed}" for seed in range(2)]
        runs = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        assert network["accuracies"] == [run["accuracy"] for run in runs]
        assert network["params"] == runs[0]["params"]
    shown = capsys.readouterr().out
    for ending in ("txt", "md"):
        text = (tmp_path / f"comparison.{ending}").read_text()
        assert left["command"] in text
        assert left["conditions"] in text
    assert (tmp_path / "comparison.txt").read_text().partition("\n\n")[2].strip() in shown
    assert (tmp_path / "comparison.png").read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.exhaustive
def test_finished_runs_are_skipped_and_a_started_one_goes_on(in_process, tmp_path, capsys):
    main(arguments(tmp_path, seeds=1))
    first = results(tmp_path)
    in_process.clear()
    unfinished = tmp_path / "resnet20-c2sp-seed0"
    (unfinished / "summary.json").unlink()
    capsys.readouterr()
    main(arguments(tmp_path, seeds=1))
    assert [command[1] for command in in_process] == ["resnet20:c2sp"]
    shown = capsys.readouterr().out
    assert "[1/2] resnet20:c3, seed 0: done before" in shown
    assert f"--resume: {unfinished / 'last.ckpt'}, after epoch 1 of 1" in shown
    assert [network["accuracy"] for network in results(tmp_path)["networks"]] == [
        network["accuracy"] for network in first["networks"]
    ]


def test_finished_run_of_another_recipe_is_named(in_process, tmp_path):
    main(arguments(tmp_path, seeds=1))
    with pytest.raises(SystemExit) as refused:
        main(arguments(tmp_path, "--weight-decay", "0", seeds=1))
    path = tmp_path / "resnet20-c3-seed0" / "summary.json"
    assert refused.value.code == f"--weight-decay is 0.0; accepted for {path} is 0.0001, as it began"


def refusal(out, *options):
    with pytest.raises(SystemExit) as refused:
        main(arguments(out, *options))
    return refused.value.code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--models", "resnet20:c3,resnet20:c7"], "--model is 'resnet20:c7': conv is 'c7'; accepted are"),
        (["--models", "resnet20:c3,wide_densenet"], "--width is 4; wide_densenet has no such option"),
        (["--data", "cifar10:/no/such/folder"], "--data is 'cifar10:/no/such/folder': /no/such/folder is no folder"),
        (["--image-size", "64"], "--data is 'digits': image_size is 64; accepted for digits is 32"),
        (["--batch-size", "97"], "--batch-size is 97; accepted is at most 96, the training images"),
        (["--batch-size", "31", "--devices", "2"], "--batch-size is 31; accepted are multiples of 2"),
        (["--precision", "16-mixed"], "--precision is '16-mixed'; accepted on a CPU are 32, bf16-mixed"),
    ],
)
def test_what_is_wrong_with_any_training_is_said_before_the_first(options, said, in_process, tmp_path):
    assert refusal(tmp_path, *options).startswith(said)
    assert not in_process
    assert not list(tmp_path.iterdir())


def test_begun_run_of_another_recipe_is_named_before_the_first(in_process, tmp_path):
    """The last of the trainings, which was begun and is not finished."""
    begun = tmp_path / "resnet20-c2sp-seed1"
    main(["train", "--model", MODELS[1], "--seed", "1", "--out", str(begun), *SMALL, "--epochs", "1"])
    (begun / "summary.json").unlink()
    said = f"--resume: --weight-decay is 0.0; accepted for {begun / 'last.ckpt'} is 0.0001, as it began"
    assert refusal(tmp_path, "--weight-decay", 0) == said
    assert not in_process


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 1}', "[" * 100_000])
def test_file_that_is_no_summary_is_named(content, tmp_path):
    path = tmp_path / "resnet20-c2sp-seed1" / "summary.json"
    path.parent.mkdir()
    path.write_text(content)
    assert refusal(tmp_path).startswith(str(path))


@pytest.mark.exhaustive
def test_a_run_in_a_process_of_its_own_that_fails_is_named(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(compare.sys, "executable", "false")
    assert re.search(r"train --model resnet20:c3 .* ended with status 1", refusal(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is before


def run_of(model, seed, accuracies, step_seconds, peak_memory):
    return {
        "recipe": {"model": model, "seed": seed, "data": "digits", "width": None, "epochs": len(accuracies)}
        | {"batch_size": 128, "precision": "32", "backend": "fused"},
        "images": {"train": 1437, "test": 360, "left_out": 0},
        "device": "a processor, 2 threads",
        "versions": {"torch": "2.13.0"},
        "accuracy": accuracies[-1],
        "params": 8134,
        "macs": 1_167_520,
        "saved_bytes": 3 * 2**19,
        "step_seconds": step_seconds,
        "peak_memory": peak_memory,
        "epochs": [{"test_accuracy": accuracy} for accuracy in accuracies],
    }


def test_table(tmp_path):
    """Mean and sample deviation of 0.9, 0.92, 0.97; the median step; the largest memory."""
    runs = [
        run_of("resnet20:c2", seed, [0.5, accuracy], step / 1e3, memory << 20)
        for seed, (accuracy, step, memory) in enumerate([(0.9, 4, 100), (0.92, 9, 120), (0.97, 5, 110)])
    ]
    runs.append(run_of("resnet20:c4", 0, [0.25], 0.0125, 2**20))
    text = leave_comparison(runs, Namespace(out=tmp_path, arguments=["compare", "--models", "a b"]))
    markdown = (tmp_path / "comparison.md").read_text()
    row = "| resnet20:c2 | 93.00 ± 3.61 % | 8,134 | 1,167,520 | 5.0 ms | 120.0 MiB | 1.5 MiB |"
    assert row in markdown.splitlines()
    assert "| resnet20:c4 | 25.00 % | 8,134 | 1,167,520 | 12.5 ms | 1.0 MiB | 1.5 MiB |" in markdown.splitlines()
    assert "|---|---:|---:|---:|---:|---:|---:|" in markdown.splitlines()
    assert "python -m evenconv_cuda compare --models 'a b'" in markdown
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells in [re.split(r" {3,}", line) for line in text.splitlines()]
    (c2, c4) = json.loads((tmp_path / "comparison.json").read_text())["networks"]
    assert c2["accuracy"] == pytest.approx(0.93)
    assert c2["deviation"] == pytest.approx(((0.03**2 + 0.01**2 + 0.04**2) / 2) ** 0.5)
    assert c4["deviation"] is None


@pytest.mark.parametrize(
    ("models", "said"),
    [("resnet20:c3,resnet21", "accepted is NAME or NAME:CONV"), ("", "accepted is NAME or NAME:CONV")],
)
def test_unknown_network_is_named(models, said, capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["compare", "--models", models, "--out", str(tmp_path)])
    assert said in capsys.readouterr().err
