"""Information erosion: the theory of arXiv 1903.08385, section 3.1, and the command that shows it."""

import re
import subprocess
import sys

import pytest
import torch

from evenconv_cuda import nn, padding_plan
from evenconv_cuda.__main__ import main
from evenconv_cuda.analysis import compare, equal_weights, erosion, impulse_response, random_maps, read_images, stack

PLAIN, CENTRED = ("c2", "c4"), ("c2sp", "c3", "c4sp", "c5")
PLAN = ("BR", "TL", "BL", "TR")
CORNERS = {"c2": [(0, 1)], "c4": [(1, 2)], "c3": [(1, 1)], "c5": [(2, 2)]}
"""Zeros before and after, along an axis; symmetric padding takes both orders along both axes."""
CORNERS |= {"c2sp": [(0, 1), (1, 0)], "c4sp": [(1, 2), (2, 1)]}
close = {"atol": 1e-12, "rtol": 1e-12}


def means(kind, x):
    """``(..., H, W)`` after a layer of equal weights whose channels are all ``x``: shifted slices, averaged by hand."""
    size = int(kind[1])
    results = []
    for top, bottom in CORNERS[kind]:
        for left, right in CORNERS[kind]:
            rows, columns = x.shape[-2:]
            padded = x.new_zeros(*x.shape[:-2], top + rows + bottom, left + columns + right)
            padded[..., top : top + rows, left : left + columns] = x
            taps = [padded[..., i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
            results.append(sum(taps) / size**2)
    return sum(results) / len(results)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_even_kernels_move_an_impulse_half_a_pixel_a_layer_to_the_top_left(kind):
    moved = impulse_response(stack(kind, 16, dtype=torch.float64))
    expected = -0.5 * torch.arange(17, dtype=torch.float64)
    torch.testing.assert_close(moved, torch.stack([expected, expected], 1), **close)


@pytest.mark.parametrize("channels", [4, 8])
@pytest.mark.parametrize("kind", CENTRED)
def test_odd_kernels_and_symmetric_padding_leave_an_impulse_in_its_place(kind, channels):
    moved = impulse_response(stack(kind, 16, channels, dtype=torch.float64), channels)
    torch.testing.assert_close(moved, torch.zeros(17, 2, dtype=torch.float64), **close)


LAYERS = {
    "2×2": lambda direction: nn.EvenDepthwiseConv2d(3, 3, 2, directions=direction, dtype=torch.float64),
    "4×4": lambda direction: nn.EvenDepthwiseConv2d(3, 3, 4, directions=direction, dtype=torch.float64),
    "XSepConv": lambda direction: nn.XSepConv2d(3, 3, 5, directions=direction, dtype=torch.float64),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_plan_is_back_after_two_layers_and_after_four(layer):
    moved = impulse_response([equal_weights(LAYERS[layer](direction)) for direction in PLAN], 3)
    expected = torch.tensor([[0, 0], [-0.5, -0.5], [0, 0], [-0.5, 0.5], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(moved, expected, **close)


@pytest.mark.parametrize("n_layers", range(1, 10))
def test_every_padding_plan_ends_where_it_began(n_layers):
    layers = [nn.XSepConv2d(4, 4, 3, directions=way, dtype=torch.float64) for way in padding_plan(n_layers)]
    moved = impulse_response([equal_weights(layer) for layer in layers])
    torch.testing.assert_close(moved[-1], torch.zeros(2, dtype=torch.float64), **close)


def test_one_direction_throughout_drifts_where_the_plan_does_not():
    moved = impulse_response([equal_weights(LAYERS["2×2"]("TR")) for _ in range(4)], 3)
    torch.testing.assert_close(moved[-1], torch.tensor([2, -2], dtype=torch.float64), **close)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_nothing_leaves_the_map_of_the_impulse(kernel_size):
    """A kernel that only moves, as far as it can; where it left the map, there would be no centroid."""
    layer = torch.nn.Conv2d(1, 1, kernel_size, padding="same", bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_()[..., 0, -1] = 1
    far = 3 * (kernel_size // 2)
    torch.testing.assert_close(impulse_response([layer] * 3, 1)[-1], torch.tensor([far, -far], dtype=torch.float64))


def test_nothing_leaves_the_map_of_an_impulse_through_xsepconv():
    layer = equal_weights(nn.XSepConv2d(1, 1, 3, directions="BR", dtype=torch.float64))
    with torch.no_grad():
        for weight in layer.parameters():
            if weight.dim() == 4:
                weight.zero_()[..., -1, -1] = 1
    torch.testing.assert_close(impulse_response([layer] * 2, 1)[-1], torch.tensor([-4, -4], dtype=torch.float64))


@pytest.mark.parametrize("kind", [*PLAIN, *CENTRED])
def test_activation_and_maps_against_sums_by_hand(kind):
    x = torch.rand(2, 1, 9, 12, dtype=torch.float64) - 0.3
    left = erosion(stack(kind, 7, 8, dtype=torch.float64), x.expand(-1, 8, -1, -1), shown=(0, 3, 7))
    expected = [x]
    for _ in range(7):
        expected.append(means(kind, expected[-1]))
    activation = torch.stack([features.abs().mean() for features in expected])
    torch.testing.assert_close(left.activation, activation / activation[0], **close)
    assert list(left.maps) == [0, 3, 7]
    for depth, shown in left.maps.items():
        torch.testing.assert_close(shown, expected[depth][0, 0].abs(), **close)


@pytest.mark.parametrize(
    ("kind", "lost"), [("c2", 0.5), ("c2sp", 0.5), ("c3", 2 / 3), ("c4", 1), ("c4sp", 1), ("c5", 1.2)]
)
def test_what_one_layer_takes_from_the_edges_of_a_constant_map(kind, lost):
    size = 10
    left = erosion(stack(kind, 1, dtype=torch.float64), torch.ones(1, 4, size, size, dtype=torch.float64))
    assert left.activation[1].item() == pytest.approx(((size - lost) / size) ** 2)


def test_kinds_come_in_the_posters_order_and_near_its_sizes():
    poster = {"c2sp": 0.08, "c3": 0.056, "c4sp": 0.029, "c5": 0.015, "c4": 0.0016}
    x = random_maps(28).expand(-1, 4, -1, -1)
    left = {kind: run.activation[54].item() for kind, run in compare(poster, x, 54).items()}
    assert sorted(left, key=left.get, reverse=True) == list(poster)
    for kind, q in poster.items():
        assert q / 3 < left[kind] < q


def test_random_weights_keep_the_scale_away_from_borders():
    x = torch.randn(2, 64, 64, 64)
    (layer,) = stack("c3", 1, 64, "random")
    y = layer(x)[..., 1:-1, 1:-1]
    assert y.min() == 0
    assert y.square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.1)


def test_channels_that_do_not_make_four_equal_groups_drift():
    """Three channels are padded BR, TL, BL: half a pixel up, down, up and left, right, right."""
    moved = impulse_response(stack("c2sp", 6, 3, dtype=torch.float64), 3)
    torch.testing.assert_close(moved[-1], torch.tensor([-1, 1], dtype=torch.float64), **close)


def test_random_weights_are_those_of_their_seed_and_average_in_the_logarithm():
    x = random_maps(12, 2).expand(-1, 4, -1, -1)
    single = [erosion(stack("c2sp", 5, 4, "random", seed), x).activation for seed in range(3)]
    assert not torch.allclose(single[0], single[1])
    averaged = compare(["c2sp"], x, 5, "random", seeds=3)["c2sp"]
    torch.testing.assert_close(averaged.activation, (single[0] * single[1] * single[2]) ** (1 / 3))


def refusals():
    x, layers = torch.ones(1, 4, 6, 6), stack("c2", 2)
    yield "shown", lambda: erosion(layers, x, shown=(1, 3)), r"shown has 3; accepted are depths from 0 to 2"
    yield "zero", lambda: erosion(layers, 0 * x), r"x is zero everywhere; accepted"
    strided = [*layers, nn.conv2d_of("c2", 4, 4, stride=2)]
    yield "stride", lambda: erosion(strided, x), r"layers\[2\] turns \(1, 4, 6, 6\) into \(1, 4, 3, 3\); accepted"
    yield "weights", lambda: stack("c2", 1, weights="none"), r"weights is 'none'; accepted are 'equal', 'random'"
    yield "kind", lambda: stack("c9", 1), r"kind is 'c9'; accepted are 'c2',"
    yield "norm", lambda: equal_weights(torch.nn.BatchNorm2d(4)), r"layer has a parameter weight; accepted"
    yield "seeds", lambda: compare(["c2"], x, 1, seeds=0), r"seeds is 0; accepted"


@pytest.mark.parametrize("refused", list(refusals()), ids=lambda refused: refused[0])
def test_wrong_arguments_are_named(refused):
    _, call, message = refused
    with pytest.raises(ValueError, match=message):
        call()


def write_image(path, value=255):
    image = pytest.importorskip("PIL.Image").new("L", (60, 20))
    image.paste(value, (12, 0, 48, 20))
    image.save(path)


def test_images_are_read_in_order_as_grey_central_squares(tmp_path):
    write_image(tmp_path / "b.png", 51)
    write_image(tmp_path / "a.bmp")
    (tmp_path / "notes.txt").write_text("not an image")
    first, second = read_images(tmp_path, 8)
    torch.testing.assert_close(first, torch.ones(1, 8, 8))
    torch.testing.assert_close(second, torch.full((1, 8, 8), 0.2))
    torch.testing.assert_close(read_images(tmp_path / "b.png", 8), second[None])


def test_unreadable_images_are_named(tmp_path):
    pytest.importorskip("PIL")
    with pytest.raises(ValueError, match=f"{tmp_path} holds no image; accepted"):
        read_images(tmp_path, 8)
    (tmp_path / "broken.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"broken\.png is not an image that is read"):
        read_images(tmp_path, 8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The command as a user runs it, but for the depth."""
    for module in ("matplotlib", "sklearn", "tqdm"):
        pytest.importorskip(module)
    figure = tmp_path_factory.mktemp("erosion") / "figure.png"
    command = [sys.executable, "-m", "evenconv_cuda", "erosion", "--depth", "20", "--output", str(figure)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120), figure


def test_command_prints_every_kind_in_every_table(finished):
    run, figure = finished
    assert run.returncode == 0, run.stderr
    for kind in ("C2", "C2sp", "C3", "C4", "C4sp", "C5"):
        assert len(re.findall(rf"^{kind} ", run.stdout, re.MULTILINE)) == 3
    assert re.search(r"^C2 .* -10, -10$", run.stdout, re.MULTILINE)
    assert re.search(r"^C2sp .* 0, 0$", run.stdout, re.MULTILINE)
    assert re.search(r"^C2 +44 +< 0\.001 +0\.00\d+$", run.stdout, re.MULTILINE)
    assert all(re.search(rf"{what} through layers: .*/6 ", run.stderr) for what in ("maps", "impulses"))
    assert figure.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_command_shows_the_kinds_and_depths_that_it_is_told(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    write_image(tmp_path / "a.png")
    figure = str(tmp_path / "figure.png")
    chosen = ["--kinds", "c2sp", "c2", "--depth", "6", "--shown", "6", "2", "--size", "8", "--channels", "8"]
    for maps in (["--images", str(tmp_path / "a.png")], ["--random", "--weights", "random", "--seeds", "2"]):
        main(["erosion", *chosen, *maps, "--output", figure])
        table = capsys.readouterr().out.split("\n\n")[2].splitlines()
        assert [line.split()[0] for line in table] == ["layer", "C2sp", "C2"]
        assert table[0].split()[1:] == ["2", "6"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--kinds", "c9"),
        ("--depth", "0"),
        ("--shown", "99"),
        ("--size", "-1"),
        ("--channels", "6"),
        ("--weights", "none"),
        ("--seeds", "0"),
        ("--images", "/no/such/image.png"),
        ("--output", "/no/such/directory/figure.png"),
    ],
)
def test_wrong_option_is_named(option, value, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["erosion", option, value])
    assert refused.value.code != 0
    message = f"{capsys.readouterr().err}{refused.value.code}"
    assert option in message
    assert value in message
    assert "accepted" in message


def test_images_that_are_none_are_named(tmp_path):
    pytest.importorskip("matplotlib")
    broken = tmp_path / "broken.png"
    broken.write_text("not an image")
    with pytest.raises(SystemExit) as refused:
        main(["erosion", "--images", str(broken), "--output", str(tmp_path / "figure.png")])
    assert refused.value.code.startswith(f"--images: {broken} is not an image")


@pytest.mark.parametrize(("module", "distribution"), [("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")])
def test_missing_dependency_is_named(module, distribution, monkeypatch):
    for needed in ("matplotlib", "tqdm", "sklearn"):
        pytest.importorskip(needed)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as refused:
        main(["erosion"])
    assert (
        refused.value.code == f"The erosion command needs {distribution}, missing here: pip install evenconv-cuda[demo]"
    )
