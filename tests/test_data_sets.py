"""Data sets in memory: what is read is what the archives hold, and what is wrong in them is named."""

import pickle

import numpy as np
import pytest
import torch
from archives import ROWS, WRITE, cifar10, python2, rows, svhn

from evenconv_cuda.data import open_data

savemat = pytest.importorskip("scipy.io").savemat
load_digits = pytest.importorskip("sklearn.datasets").load_digits


def opened(kind, folder, **options):
    WRITE[kind](folder)
    return open_data(f"{kind}:{folder}", **options)


@pytest.mark.parametrize("write", [python2, pickle.dumps, lambda value: pickle.dumps(value, 2)])
@pytest.mark.parametrize("within", ["", "cifar-10-batches-py"])
def test_cifar10(write, within, tmp_path):
    (tmp_path / within).mkdir(exist_ok=True)
    cifar10(tmp_path / within, write)
    data = open_data(f"cifar10:{tmp_path}")
    assert (data.name, data.num_classes, data.in_channels, data.image_size, data.pad) == ("cifar10", 10, 3, 32, 4)
    assert data.flip
    assert data.classes == [f"class {n}" for n in range(10)]
    for part, written in ((data.train, range(5)), (data.test, [5])):
        images, labels = part[list(range(len(part)))]
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        # A row holds the red pixels row by row, then the green, then the blue.
        expected = np.concatenate([rows(b) for b in written])
        assert images.shape == (len(expected), 3, 32, 32)
        for channel, y, x in ((0, 0, 0), (0, 0, 5), (1, 3, 0), (2, 31, 31)):
            assert images[:, channel, y, x].tolist() == expected[:, 1024 * channel + 32 * y + x].tolist()
        assert torch.equal(images.flatten(1), torch.from_numpy(expected))
        assert labels.tolist() == [(n + b) % 10 for b in written for n in range(ROWS)]


def test_cifar100(tmp_path):
    data = opened("cifar100", tmp_path)
    assert data.classes == [f"fine {n}" for n in range(100)]
    for b, part in enumerate((data.train, data.test)):
        images, labels = part[list(range(ROWS))]
        assert torch.equal(images.flatten(1), torch.from_numpy(rows(b)))
        assert labels.tolist() == [(7 * n + b) % 100 for n in range(ROWS)]


def test_svhn_label_10_is_the_digit_0(tmp_path):
    data = opened("svhn", tmp_path)
    assert data.classes == list("0123456789")
    assert not data.flip
    for seed, part in enumerate((data.train, data.test)):
        written = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, ROWS), dtype=np.uint8)
        images, labels = part[list(range(ROWS))]
        assert torch.equal(images, torch.from_numpy(written).permute(3, 2, 0, 1))
        assert labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2


def test_digits():
    data = open_data("digits", seed=3)
    assert (data.in_channels, data.image_size, data.classes, data.flip) == (1, 32, list("0123456789"), False)
    images, labels = (
        torch.cat(both) for both in zip(data.train[range(len(data.train))], data.test[range(len(data.test))])
    )
    shipped = load_digits()
    # Four times as large: the mean of each 4×4 square of a bilinear enlargement keeps the order of grey levels.
    assert sorted(labels.tolist()) == sorted(shipped.target.tolist())
    total = images.double().mean((1, 2, 3)).sort().values * 16 / 255
    assert total == pytest.approx(np.sort(shipped.images.mean((1, 2))), abs=0.6)
    shares = torch.bincount(data.test[range(len(data.test))][1]) / torch.bincount(labels)
    assert shares == pytest.approx(torch.full((10,), 0.2), abs=0.01)


def test_digits_are_split_by_seed():
    first, same, other = (open_data("digits", seed=seed).test for seed in (3, 3, 4))
    assert torch.equal(first.images, same.images)
    assert not torch.equal(first.images, other.images)


def test_a_batch_is_in_the_order_of_its_indices(tmp_path):
    data = opened("cifar10", tmp_path)
    images, labels = data.train[[33, 2, 2]]
    assert torch.equal(images.flatten(1), torch.from_numpy(np.stack([rows(1)[13], rows(0)[2], rows(0)[2]])))
    assert labels.tolist() == [4, 2, 2]


@pytest.mark.parametrize("subset", [None, 30])
def test_mean_and_std_are_the_training_images(subset, tmp_path):
    data = opened("cifar10", tmp_path, subset=subset)
    pixels = data.train[range(len(data.train))][0].double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_subset_is_balanced_and_chosen_by_seed(tmp_path):
    cifar10(tmp_path)
    whole = open_data(f"cifar10:{tmp_path}").train
    known = {image.numpy().tobytes(): label for image, label in zip(whole.images, whole.labels.tolist())}
    chosen = {}
    for seed in (0, 1, 0):
        data = open_data(f"cifar10:{tmp_path}", subset=34, seed=seed)
        images, labels = data.train[range(34)]
        assert [known[image.numpy().tobytes()] for image in images] == labels.tolist()
        assert len({image.numpy().tobytes() for image in images}) == 34
        assert set(torch.bincount(labels, minlength=10).tolist()) == {3, 4}
        assert torch.equal(chosen.setdefault(seed, images), images)
        assert len(data.test) == ROWS
    assert not torch.equal(chosen[0], chosen[1])


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("cifar", {}, "data is 'cifar'; accepted is one of digits, cifar10:DIR"),
        ("cifar10", {}, "data is 'cifar10'; accepted"),
        ("cifar10:", {}, "data is 'cifar10:'; accepted"),
        ("digits:here", {}, "data is 'digits:here'; accepted"),
        ("cifar10:no/such/folder", {}, "no/such/folder is no folder"),
        ("digits", {"image_size": 64}, "image_size is 64; accepted for digits is 32"),
        ("digits", {"seed": -1}, "seed is -1; accepted"),
        ("digits", {"subset": 0}, "subset is 0; accepted is 1 to 1437"),
        ("digits", {"subset": 1438}, "subset is 1438; accepted is 1 to 1437"),
    ],
)
def test_wrong_option_is_named(spec, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_data(spec, **options)


def edited(content, **changes):
    return python2({**content, **{key.encode(): value for key, value in changes.items()}})


GOOD = {b"data": rows(0), b"labels": [0] * ROWS}
BROKEN_BATCHES = {
    "cannot be read as a pickle": python2(GOOD)[:5000],
    "cannot be read as a pickle of arrays: pickle exhausted": b"",
    "holds a list; accepted is a dictionary": python2([]),
    "has no 'data'": python2({b"labels": [0] * ROWS}),
    "has no 'labels'": python2({b"data": rows(0), b"fine_labels": [0] * ROWS}),
    r"data uint8 of shape \(20, 3071\); accepted is uint8 of shape \(N, 3072\)": edited(GOOD, data=rows(0)[:, 1:]),
    "asks for an array of 'i8'; accepted is 'u1', uint8": edited(GOOD, data=rows(0).astype(np.int64)),
    "data list; accepted": edited(GOOD, data=[1]),
    "has 19 images; accepted is 20": edited(GOOD, data=rows(0, ROWS - 1), labels=[0] * (ROWS - 1)),
    "has 19 labels; accepted .* 20 images": edited(GOOD, labels=[0] * (ROWS - 1)),
    "has labels that are no whole numbers": edited(GOOD, labels=[0] * (ROWS - 1) + [0.5]),
    "has labels int; accepted": edited(GOOD, labels=3),
    "has a label 10; accepted is 0 to 9": edited(GOOD, labels=[0] * (ROWS - 1) + [10]),
    "has a label -1; accepted is 0 to 9": edited(GOOD, labels=[-1] * ROWS),
}


@pytest.mark.parametrize(("message", "content"), BROKEN_BATCHES.items())
def test_broken_cifar_batch_is_named(message, content, tmp_path):
    cifar10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(ValueError, match=f"{tmp_path / 'data_batch_2'} .*{message}"):
        open_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
def test_missing_file_is_named(name, tmp_path):
    cifar10(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; cifar10 takes the folder cifar-10-batches-py"):
        open_data(f"cifar10:{tmp_path}")


def test_other_class_names_are_refused(tmp_path):
    cifar10(tmp_path)
    (tmp_path / "batches.meta").write_bytes(python2({b"label_names": [b"one"]}))
    with pytest.raises(ValueError, match=r"batches\.meta names 1 classes; accepted is 10"):
        open_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("names", [10, ["text"] * 10])
def test_class_names_of_another_type_are_refused(names, tmp_path):
    cifar10(tmp_path)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    with pytest.raises(ValueError, match=r"batches\.meta has no list of class names in 'label_names'"):
        open_data(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("name", ["V8", "O8", [("a", "O")]])
def test_arrays_of_made_up_types_are_refused(name, tmp_path):
    cifar10(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": np.dtype(name), b"labels": [0] * ROWS}))
    with pytest.raises(ValueError, match=r"test_batch cannot be read as a pickle of arrays: it asks for an array of"):
        open_data(f"cifar10:{tmp_path}")


PIXELS, LABELS = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("has no variable X", {"y": LABELS}),
        ("has no variable y", {"X": PIXELS}),
        (r"X uint8 of shape \(32, 31, 3, 4\); accepted", {"X": PIXELS[:, 1:], "y": LABELS}),
        ("X float64 of shape", {"X": PIXELS.astype(float), "y": LABELS}),
        ("has 3 labels; accepted is one for each of 4 images", {"X": PIXELS, "y": LABELS[1:]}),
        ("has a label 0; accepted is 1 to 10", {"X": PIXELS, "y": 0 * LABELS}),
        ("has a label 11; accepted is 1 to 10", {"X": PIXELS, "y": 11 * LABELS}),
    ],
)
def test_broken_svhn_file_is_named(message, content, tmp_path):
    svhn(tmp_path)
    savemat(tmp_path / "test_32x32.mat", content)
    with pytest.raises(ValueError, match=f"test_32x32.mat .*{message}"):
        open_data(f"svhn:{tmp_path}")


def test_truncated_and_missing_svhn_file_is_named(tmp_path):
    svhn(tmp_path)
    file = tmp_path / "train_32x32.mat"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"train_32x32\.mat cannot be read as a MATLAB file"):
        open_data(f"svhn:{tmp_path}")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"train_32x32\.mat is missing"):
        open_data(f"svhn:{tmp_path}")
