"""The demo command, run as a user runs it, on its smallest network."""

import re
import subprocess
import sys

import pytest
import torch

from evenconv_cuda.__main__ import main
from evenconv_cuda.demo.network import digit_network
from evenconv_cuda.directions import padding
from evenconv_cuda.nn import XSepConv2d

for module in ("matplotlib", "sklearn", "tqdm"):
    pytest.importorskip(module)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


def demo(*arguments):
    return python("-m", "evenconv_cuda", "demo", *arguments)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    figure = tmp_path_factory.mktemp("demo") / "figure.png"
    return demo("--quick", "--threads", "1", "--output", str(figure)), figure


def row(output, label):
    """The numbers of a row of the table."""
    line = next(line for line in output.splitlines() if line.startswith(label))
    return [float(number) for number in re.findall(r"[\d.]+(?:e[+-]\d+)?", line.removeprefix(label))]


def test_quick_run_prints_the_table(quick):
    finished, _ = quick
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^Device: (cpu|cuda), .+; torch .+; \d{4}-\d\d-\d\d$", finished.stdout, re.MULTILINE)
    assert all(0 <= percent <= 100 for percent in row(finished.stdout, "test accuracy"))
    fused, reference, ratio = row(finished.stdout, "median step time")
    assert fused > 0
    assert ratio == pytest.approx(reference / fused, abs=0.01)


def test_progress_bar_counts_every_step(quick):
    finished, _ = quick
    steps = int(re.search(r"^Steps: (\d+) ", finished.stdout, re.MULTILINE)[1])
    assert f"{steps}/{steps}" in finished.stderr


def test_losses_of_both_backends_agree(quick):
    *_, difference = row(quick[0].stdout, "largest loss difference")
    assert difference < 1e-3


def test_fused_saves_fewer_bytes(quick):
    fused, reference, ratio = row(quick[0].stdout, "saved for backward")
    assert 0 < fused < reference
    assert ratio == pytest.approx(reference / fused, abs=0.01)


def test_figure_is_a_png(quick):
    assert quick[1].read_bytes().startswith(PNG_SIGNATURE)


def test_help_lists_the_options():
    finished = demo("--help")
    assert finished.returncode == 0
    options = "epochs batch-size lr width kernel-size channels-last no-channels-last device threads seed output quick"
    assert set(options.split()) <= set(re.findall(r"--([a-z-]+)", finished.stdout))
    assert "(default: 64)" in finished.stdout


def test_help_of_the_package_lists_the_demo():
    assert re.search(r"^ +demo +Train", python("-m", "evenconv_cuda", "--help").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "distribution"), [("matplotlib", "matplotlib"), ("sklearn", "scikit-learn"), ("tqdm", "tqdm")]
)
def test_missing_dependency_is_named(module, distribution, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as refused:
        main(["demo", "--quick"])
    assert refused.value.code == f"The demo needs {distribution}, missing here: pip install evenconv-cuda[demo]"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--width", "0"),
        ("--kernel-size", "4"),
        ("--lr", "-1"),
        ("--output", "/no/such/directory/figure.png"),
        ("--device", "abacus"),
        ("--batch-size", "100000"),
    ],
)
def test_wrong_option_is_named(option, value, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["demo", option, value])
    assert refused.value.code != 0
    message = f"{capsys.readouterr().err}{refused.value.code}"
    assert option in message
    assert value in message
    assert "accepted" in message


def test_shifts_of_the_blocks_cancel():
    layers = [layer for layer in digit_network(4, (5, 7)).modules() if isinstance(layer, XSepConv2d)]
    assert [layer.kernel_size[0] for layer in layers] == [5, 7, 5, 7]
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        top, bottom, left, right = padding(2, first.directions[0])
        assert padding(2, second.directions[0]) == (bottom, top, right, left)


def test_saved_bytes_counts_a_storage_once_and_no_parameter():
    from evenconv_cuda.demo.training import saved_by_a_forward

    class Twice(torch.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y * y

    images, labels = torch.rand(8, 16), torch.zeros(8, dtype=torch.long)
    saved = saved_by_a_forward("fused", Twice(16, 4), images, labels)
    of_cross_entropy = saved_by_a_forward("fused", torch.nn.Linear(16, 4), images, labels)
    assert saved - of_cross_entropy == 8 * 4 * 4
    assert of_cross_entropy >= images.nbytes + labels.nbytes
    wide = torch.nn.Sequential(torch.nn.Linear(16, 1000), torch.nn.Linear(1000, 4))
    assert saved_by_a_forward("fused", wide, images, labels) - of_cross_entropy == 8 * 1000 * 4
