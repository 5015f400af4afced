"""What is done with a checkpoint: evaluated, folded, exported."""

import dataclasses
import re

import pytest
import torch
from training_runs import train

from evenconv_cuda import to_standard
from evenconv_cuda.__main__ import main
from evenconv_cuda.data import open_data
from evenconv_cuda.models import create_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Seed 1, by which the digits are split: an evaluation that split them by another would see training images."""
    out = tmp_path_factory.mktemp("trained") / "run"
    train(out, "--seed", "1", epochs=3)
    return out / "last.ckpt"


def network(path):
    """The checkpoint's network, built without the package's own reader."""
    state = torch.load(path, weights_only=True)["state_dict"]
    model = create_model("resnet20", 10, conv="c2sp", width=4, in_channels=1)
    model.load_state_dict({name.removeprefix("model."): state[name] for name in state if name.startswith("model.")})
    return model.eval()


def said(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def test_images():
    data = open_data("digits", subset=96, seed=1)
    images, labels = data.test[list(range(len(data.test)))]
    return (images / 255 - data.mean[0]) / data.std[0], labels


@torch.no_grad()
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_evaluate(backend, trained, test_images, capsys):
    images, labels = test_images
    outputs = network(trained)(images)
    loss, accuracy = torch.nn.functional.cross_entropy(outputs, labels), (outputs.argmax(1) == labels).float().mean()
    given = ["evaluate", trained, "--data", "digits", "--device", "cpu", "--backend", backend, "--batch-size", 100]
    shown = re.search(r"(\d+) test images: loss ([\d.]+), accuracy ([\d.]+)%", said(capsys, *given))
    assert int(shown[1]) == len(labels)
    assert float(shown[2]) == pytest.approx(loss.item(), abs=2e-4)
    assert float(shown[3]) == pytest.approx(100 * accuracy.item(), abs=0.006)


def test_evaluate_on_other_data_is_refused(trained, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for split in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            image.new("RGB", (8, 8)).save(folder / "0.png")
    with pytest.raises(SystemExit) as refused:
        main(["evaluate", str(trained), "--data", f"imagefolder:{tmp_path}", "--device", "cpu"])
    assert "2 classes and 3 channels; accepted for" in refused.value.code
    assert refused.value.code.endswith("is 10 classes and 1 channels")


def test_evaluate_on_other_classes_is_refused(trained, monkeypatch):
    def renamed(*arguments, **options):
        data = open_data(*arguments, **options)
        return dataclasses.replace(data, classes=["zero", *data.classes[1:]])

    monkeypatch.setattr("evenconv_cuda.training.preparing.open_data", renamed)
    with pytest.raises(SystemExit) as refused:
        main(["evaluate", str(trained), "--data", "digits", "--device", "cpu"])
    assert refused.value.code == f"--data is 'digits', with a class 'zero'; accepted for {trained} is '0'"


@torch.no_grad()
def test_fold(trained, test_images, tmp_path, capsys):
    out = tmp_path / "folded.pt"
    assert str(out) in said(capsys, "fold", trained, out)
    folded = torch.load(out, weights_only=True)
    assert (folded["model"], folded["width"], folded["num_classes"]) == ("resnet20:c2sp", 4, 10)
    model = to_standard(create_model("resnet20", 10, conv="c2sp", width=4, in_channels=1)).eval()
    assert {type(layer) for layer in model.modules() if hasattr(layer, "kernel_size")} == {
        torch.nn.Conv2d,
        torch.nn.AvgPool2d,
    }
    model.load_state_dict(folded["state_dict"])
    images, _ = test_images
    torch.testing.assert_close(model(images), network(trained)(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_export(trained, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "model.onnx"
    shown = said(capsys, "export", trained, out)
    assert "images (N, 1, 32, 32) in 0..1" in shown
    assert float(re.search(r"differ from PyTorch's by at most ([\d.e-]+)", shown)[1]) < 1e-4
    data = open_data("digits", subset=96, seed=1)
    images, _ = data.test[[3, 1, 4, 1, 5]]
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"images": (images / 255).numpy()})
    expected = network(trained)((images / 255 - data.mean[0]) / data.std[0])
    torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=1e-3, atol=1e-4)


def test_export_that_computes_something_else_is_refused(trained, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = onnxruntime.InferenceSession.run
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", lambda *given: [2 * run(*given)[0]])
    with pytest.raises(SystemExit) as refused:
        main(["export", str(trained), str(tmp_path / "model.onnx")])
    assert "computes something else in ONNX Runtime" in refused.value.code


@pytest.mark.parametrize("command", ["fold", "export"])
def test_output_must_have_a_directory(command, trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([command, str(trained), str(tmp_path / "none" / "model")])
    assert "accepted is the name of a file in a directory that exists" in capsys.readouterr().err
