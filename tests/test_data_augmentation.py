"""Batch augmentation against what it says for one image."""

import itertools

import pytest
import torch

from evenconv_cuda.data import Augmentation

MEAN, STD = [0.2, 0.4, 0.6], [0.1, 0.2, 0.3]
PLAIN = {"pad": 0, "flip": False}


def images(count, height=6, width=5, channels=3):
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8)


def normalised(image):
    """Pixel by pixel in float64."""
    channels = [(channel.double() / 255 - mean) / std for channel, mean, std in zip(image, MEAN, STD)]
    return torch.stack(channels).float()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def windows(image, pad, flip):
    """Every image that crop and flip may make of one: how it was made, and its pixels."""
    channels, height, width = image.shape
    canvas = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=torch.uint8)
    canvas[:, pad : pad + height, pad : pad + width] = image
    for top, left in itertools.product(range(2 * pad + 1), repeat=2):
        window = canvas[:, top : top + height, left : left + width]
        yield (top, left, False), window
        if flip:
            yield (top, left, True), window.flip(2)


@pytest.mark.parametrize(("pad", "flip"), [(0, False), (0, True), (1, False), (1, True), (2, True)])
def test_every_image_is_a_window_of_itself_and_all_windows_are_as_likely(pad, flip):
    batch = images(600)
    augmented, _ = Augmentation(MEAN, STD, pad=pad, flip=flip)(batch, torch.zeros(600, dtype=torch.long), 1, seeded())
    seen = {}
    for image, result in zip(batch, augmented):
        made = [how for how, window in windows(image, pad, flip) if torch.allclose(normalised(window), result)]
        assert len(made) == 1
        seen[made[0]] = seen.get(made[0], 0) + 1
    possible = (2 * pad + 1) ** 2 * (1 + flip)
    assert len(seen) == possible
    expected = 600 / possible
    # Chi square has possible - 1 degrees of freedom, so this is some five deviations above its mean.
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < possible + 5 * (2 * possible) ** 0.5


def test_normalisation():
    batch = images(7)
    result = Augmentation(MEAN, STD).normalise(batch)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, torch.stack([normalised(image) for image in batch]))


def test_without_anything_random_only_normalisation_is_left():
    batch, labels = images(7), torch.arange(7)
    augmentation = Augmentation(MEAN, STD, **PLAIN)
    result, targets = augmentation(batch, labels, 7)
    torch.testing.assert_close(result, augmentation.normalise(batch))
    assert torch.equal(targets, labels)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_cutout_is_a_square_around_any_pixel(length):
    height, width = 6, 5
    squares = set()
    for row, column in itertools.product(range(height), range(width)):
        rows = [y for y in range(row - length // 2, row - length // 2 + length) if 0 <= y < height]
        columns = [x for x in range(column - length // 2, column - length // 2 + length) if 0 <= x < width]
        squares.add(tuple(itertools.product(rows, columns)))
    # A level that is no channel's mean: only the square is 0.
    batch = torch.full((800, 3, height, width), 255, dtype=torch.uint8)
    result, _ = Augmentation(MEAN, STD, cutout=length, **PLAIN)(batch, torch.zeros(800, dtype=torch.long), 1, seeded())
    seen = set()
    for image, before in zip(result, batch):
        cut = (image == 0).all(0)
        torch.testing.assert_close(image[:, ~cut], normalised(before)[:, ~cut])
        seen.add(tuple(map(tuple, cut.nonzero().tolist())))
    assert seen == squares


def test_mixup_mixes_pairs_as_its_targets_say():
    count = 40
    batch, labels = images(count), torch.arange(count)
    augmentation = Augmentation(MEAN, STD, mixup=1.0, **PLAIN)
    result, targets = augmentation(batch, labels, count, seeded())
    torch.testing.assert_close(targets.sum(1), torch.ones(count))
    plain = augmentation.normalise(batch)
    weights, partners = set(), set()
    for index, (image, target) in enumerate(zip(result, targets)):
        torch.testing.assert_close(image, sum(target[other] * plain[other] for other in target.nonzero()[:, 0]))
        others = set(target.nonzero()[:, 0].tolist()) - {index}
        assert len(others) <= 1
        if others:
            weights.add(round(target[index].item(), 5))
            partners |= others
    assert len(weights) == 1
    assert len(partners) > count / 2


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_weights_are_beta_distributed(alpha):
    count = 12
    batch, labels = images(count, 1, 1), torch.arange(count)
    augmentation = Augmentation(MEAN, STD, mixup=alpha, **PLAIN)
    generator = seeded()
    # The least of an image's own shares: an image that meets itself has all of it.
    weights = [augmentation(batch, labels, count, generator)[1].diagonal().min() for _ in range(1000)]
    assert torch.stack(weights).mean().item() == pytest.approx(0.5, abs=0.06)
    assert torch.stack(weights).var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_generator_decides_everything():
    batch, labels = images(16), torch.arange(16)
    augmentation = Augmentation(MEAN, STD, pad=2, cutout=2, mixup=0.5)
    first, same, other = (augmentation(batch, labels, 16, seeded(seed)) for seed in (3, 3, 4))
    assert all(map(torch.equal, first, same))
    assert not torch.equal(first[0], other[0])
    state = torch.get_rng_state()
    augmentation(batch, labels, 16, seeded())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("device", ["meta", "cuda"] if torch.cuda.is_available() else ["meta"])
def test_everything_stays_on_the_images_device(device):
    batch, labels = images(16), torch.arange(16)
    augmentation = Augmentation(MEAN, STD, pad=2, cutout=2, mixup=0.5)
    expected = augmentation(batch, labels, 16, seeded())
    result = augmentation.to(device)(batch.to(device), labels.to(device), 16, seeded())
    for there, here in zip(result, expected):
        assert (there.device.type, there.shape, there.dtype) == (device, here.shape, here.dtype)
        if device != "meta":
            torch.testing.assert_close(there.cpu(), here)


def test_torchs_own_generator_is_the_default():
    batch, labels = images(16), torch.arange(16)
    augmentation = Augmentation(MEAN, STD, pad=2, cutout=2, mixup=0.5)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(augmentation(batch, labels, 16)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_statistics_travel_with_the_state():
    other = Augmentation([0.5] * 3, [0.5] * 3)
    other.load_state_dict(Augmentation(MEAN, STD).state_dict())
    batch = images(2)
    torch.testing.assert_close(other.normalise(batch), torch.stack([normalised(image) for image in batch]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("std", {"std": [0.1, 0.2]}),
        ("std", {"std": [0.1, 0.0, 0.3]}),
        ("pad", {"pad": -1}),
        ("pad", {"pad": 1.5}),
        ("cutout", {"cutout": -2}),
        ("mixup", {"mixup": -0.1}),
        ("mixup", {"mixup": float("nan")}),
        ("mixup", {"mixup": float("inf")}),
    ],
)
def test_wrong_option_is_named(name, options):
    with pytest.raises(ValueError, match=rf"{name} .*accepted"):
        Augmentation(MEAN, **{"std": STD, **options})


@pytest.mark.parametrize("batch", [torch.rand(2, 3, 4, 4), images(2)[0], images(2, channels=1)])
def test_wrong_images_are_named(batch):
    with pytest.raises(ValueError, match=r"images are torch.*accepted is torch.uint8 of shape \(N, 3, H, W\)"):
        Augmentation(MEAN, STD).normalise(batch)
