"""The train command: its recipe against a plain loop, what it leaves behind, its options and its errors."""

import csv
import json
import math
import re
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F
from training_runs import SMALL, assert_same_weights, checkpoint, python, train

from evenconv_cuda import current_backend, profile
from evenconv_cuda.__main__ import main
from evenconv_cuda.data import loader, open_data
from evenconv_cuda.data.opening import FILE_SIZES
from evenconv_cuda.models import create_model

Classifier = pytest.importorskip("evenconv_cuda.training.module", exc_type=ImportError).Classifier

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("train") / "run"
    train(out)
    return out


def summary(out):
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_recipe_is_a_plain_loop(schedule, tmp_path):
    """Nesterov's momentum 0.9, L2, the schedule by epochs or by steps, normalised images."""
    epochs, steps, top = 4, 3, 0.05
    saved = train(tmp_path, "--schedule", schedule, "--no-augment", "--model", "resnet20:c3", epochs=epochs)
    data = open_data("digits", subset=96)
    torch.manual_seed(0)
    model = create_model("resnet20", 10, conv="c3", width=4, in_channels=1)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=1e-4)
    batches = loader(data.train, 32, shuffle=True, seed=0, drop_last=True)
    for epoch in range(epochs):
        batches.sampler.set_epoch(epoch)
        for step, (images, labels) in enumerate(batches):
            rate = top * {"step": (1, 1, 0.1, 0.01)[epoch]}.get(
                schedule, (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps))) / 2
            )
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            F.cross_entropy(model((images / 255 - data.mean[0]) / data.std[0]), labels).backward()
            optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(saved["state_dict"][f"model.{name}"], tensor, rtol=1e-4, atol=1e-5)


def test_same_seed_same_weights(trained, tmp_path):
    assert_same_weights(train(tmp_path), checkpoint(trained))


def test_seed_and_augmentation_matter(trained, tmp_path):
    for option in (["--seed", "1"], ["--no-augment"], ["--mixup", "0.4"], ["--cutout", "8"]):
        other = train(tmp_path / option[0], *option)["state_dict"]["model.classifier.weight"]
        assert not torch.equal(other, checkpoint(trained)["state_dict"]["model.classifier.weight"]), option


def test_metrics_are_a_row_for_every_epoch(trained):
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == [(1, 3), (2, 6)]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.05, 0.005])
    for row in rows:
        assert float(row["train_loss"]) > 0
        assert 0 <= float(row["test_accuracy"]) <= 1
        assert 0 < 3 * 32 / float(row["images_per_second"]) < float(row["seconds"]) * 3
    assert summary(trained)["epochs"] == [
        pytest.approx({name: float(value) for name, value in row.items()}) for row in rows
    ]


def test_tensorboard_has_the_metrics(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    logged = events.Scalars("test_loss")
    assert [event.step for event in logged] == [3, 6]
    assert logged[-1].value == pytest.approx(summary(trained)["loss"])


def test_metrics_are_of_the_weights(trained):
    """The last epoch's test loss and accuracy, computed anew from the checkpoint."""
    data = open_data("digits", subset=96)
    model = create_model("resnet20", 10, conv="c2sp", width=4, in_channels=1).eval()
    state = checkpoint(trained)["state_dict"]
    model.load_state_dict({name.removeprefix("model."): state[name] for name in state if name.startswith("model.")})
    images, labels = data.test[list(range(len(data.test)))]
    with torch.no_grad():
        outputs = model((images / 255 - data.mean[0]) / data.std[0])
    assert summary(trained)["loss"] == pytest.approx(F.cross_entropy(outputs, labels).item(), rel=1e-4)
    assert summary(trained)["accuracy"] == pytest.approx((outputs.argmax(1) == labels).float().mean().item(), abs=1e-6)


def test_summary(trained):
    left = summary(trained)
    costs = profile(create_model("resnet20", conv="c2sp", width=4, in_channels=1), (32, 1, 32, 32))
    assert (left["params"], left["macs"], left["saved_bytes"]) == (costs.params, costs.macs // 32, costs.saved_bytes)
    accuracies = [row["test_accuracy"] for row in left["epochs"]]
    assert left["accuracy"] == accuracies[-1]
    assert left["best_accuracy"] == max(accuracies)
    assert left["command"] == f"python -m evenconv_cuda train {' '.join(SMALL)} --epochs 2 --out {trained}"
    assert left["versions"]["torch"] == torch.__version__
    assert left["images"] == {"train": 96, "test": 360, "left_out": 0}
    assert left["step_seconds"] == pytest.approx(32 / left["images_per_second"])
    assert left["peak_memory"] > 2**26
    assert (trained / "curves.png").read_bytes().startswith(PNG_SIGNATURE)


def test_rate_leaves_out_the_warm_up(tmp_path, monkeypatch):
    """With a slow first step the first epoch's rate is that of the others."""
    import time

    step = Classifier.training_step

    def slow_at_first(self, batch):
        if self.global_step == 0:
            time.sleep(2)
        return step(self, batch)

    monkeypatch.setattr(Classifier, "training_step", slow_at_first)
    train(tmp_path, epochs=1)
    (row,) = summary(tmp_path)["epochs"]
    assert row["seconds"] > 2
    assert row["images_per_second"] > 3 * 32 / 2


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_backend_is_in_force(backend, tmp_path, monkeypatch):
    seen = set()
    step = Classifier.training_step

    def note(self, batch):
        seen.add(current_backend())
        return step(self, batch)

    monkeypatch.setattr(Classifier, "training_step", note)
    train(tmp_path, "--backend", backend, epochs=1)
    assert seen == {backend}


def test_channels_last_and_precision_reach_the_network(tmp_path, monkeypatch):
    seen = []
    step = Classifier.training_step

    def note(self, batch):
        weight = next(self.model.parameters())
        seen.append((batch[0].stride()[1:], weight.dtype, torch.is_autocast_enabled("cpu")))
        return step(self, batch)

    monkeypatch.setattr(Classifier, "training_step", note)
    train(tmp_path, "--channels-last", "--precision", "bf16-mixed", epochs=1)
    assert set(seen) == {((1, 32, 1), torch.float32, True)}
    assert math.isfinite(summary(tmp_path)["loss"])


@pytest.mark.exhaustive
def test_compiled_is_the_same_network(trained, tmp_path, monkeypatch):
    """The compiler's front end without its code generator, whose minute is spared here."""
    graphs, compile_module = [], torch.nn.Module.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend))
    saved = train(tmp_path, "--compile")
    assert graphs
    for name, tensor in checkpoint(trained)["state_dict"].items():
        torch.testing.assert_close(saved["state_dict"][name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "resnet21"], "accepted is NAME or NAME:CONV"),
        (["--model", "resnet20:c7"], "--model is 'resnet20:c7': conv is 'c7'; accepted are 'c2'"),
        (["--model", "wide_densenet", "--width", "8"], "--width is 8; wide_densenet has no such option"),
        (["--data", "mnist"], "--data is 'mnist': data is 'mnist'; accepted is one of digits"),
        (["--data", "cifar10:/no/such/folder"], "/no/such/folder"),
        (["--batch-size", "97"], "--batch-size is 97; accepted is at most 96"),
        (["--subset", "100000"], "subset is 100000; accepted is 1 to"),
        (["--lr", "0"], "--lr: '0' is given; accepted is a number above 0"),
        (["--schedule", "linear"], "accepted is one of step, cosine"),
        (["--precision", "16-mixed"], "--precision is '16-mixed'; accepted on a CPU are 32, bf16-mixed"),
        (["--sync-batchnorm"], "--sync-batchnorm"),
        (["--seed", "-1"], "--seed: '-1' is given; accepted is a whole number from 0"),
        (["--weight-decay", "nan"], "--weight-decay: 'nan' is given"),
    ],
)
def test_wrong_option_is_named_in_one_line(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        train(tmp_path, *options)
    assert refused.value.code != 0
    message = f"{capsys.readouterr().err}{refused.value.code}"
    assert said in message
    assert not (tmp_path / "last.ckpt").exists()
    assert "\n" not in str(refused.value.code)


def image_folder(root):
    image = pytest.importorskip("PIL.Image")
    for split, count in (("train", 17), ("val", 2)):
        for name in ("a", "b"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")


def test_bad_images_are_named_or_left_out(tmp_path, capsys):
    image_folder(tmp_path / "images")
    bad = tmp_path / "images" / "train" / "a" / "3.png"
    bad.write_bytes(b"no image")
    given = ["--data", f"imagefolder:{tmp_path / 'images'}", "--image-size", "8", "--subset", "32", "--workers", "0"]
    with pytest.raises(SystemExit) as refused:
        train(tmp_path / "out", *given)
    assert str(bad) in refused.value.code
    train(tmp_path / "out", *given, "--skip-bad-images", epochs=1)
    assert f"--skip-bad-images left out 1:\n  {bad}: " in capsys.readouterr().out
    assert summary(tmp_path / "out")["images"] == {"train": 32, "test": 4, "left_out": 1}


def test_evaluation_needs_no_training_images(tmp_path, capsys):
    images = tmp_path / "images"
    image_folder(images)
    given = ["--data", f"imagefolder:{images}", "--workers", "0"]
    train(tmp_path / "out", *given, "--image-size", "8", "--subset", "32", epochs=1)
    shutil.rmtree(images / "train")
    capsys.readouterr()
    main(["evaluate", str(tmp_path / "out" / "last.ckpt"), *given, "--device", "cpu"])
    left = summary(tmp_path / "out")
    assert f"4 test images: loss {left['loss']:.4f}, accuracy {left['accuracy']:.2%}" in capsys.readouterr().out


def test_images_too_small_for_the_network_are_named(tmp_path):
    image_folder(tmp_path / "images")
    given = ["--data", f"imagefolder:{tmp_path / 'images'}", "--image-size", "1", "--subset", "32"]
    with pytest.raises(SystemExit) as refused:
        train(tmp_path / "out", *given)
    assert refused.value.code.startswith("--image-size is 1: resnet20:c2sp does not take it: ")


def test_out_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        train(tmp_path / "file")
    assert "accepted is the name of a directory" in capsys.readouterr().err


def test_cuda_is_refused_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as refused:
        train(tmp_path, "--device", "cuda")
    assert refused.value.code == "--device is 'cuda'; accepted here are auto, cpu"


@pytest.mark.parametrize(
    "command",
    ["train --out x", "evaluate x --data digits", "fold x y", "export x y", "compare --models resnet20 --out x"],
)
def test_missing_package_is_named(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(SystemExit) as refused:
        main(command.split())
    name = command.split()[0]
    assert refused.value.code == f"The {name} command needs lightning, missing here: pip install evenconv-cuda[train]"


def test_other_commands_do_not_import_lightning():
    code = "import sys, evenconv_cuda.__main__; sys.exit('lightning' in sys.modules or 'matplotlib' in sys.modules)"
    assert python("-c", code).returncode == 0


def test_help_lists_the_commands_and_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    options = "model data backend epochs batch-size precision compile channels-last seed resume out cutout mixup"
    assert set(options.split()) <= set(re.findall(r"--([a-z-]+)", shown))
    assert "(default: 300)" in shown
    sizes = re.search(r"--image-size PIXELS\s+([^(]*)", shown)[1]
    for kind, size in FILE_SIZES.items():
        assert f"{size} for {kind}" in " ".join(sizes.split())
