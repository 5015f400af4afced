"""Folders of image files: which files with which labels, and what is wrong named before training starts."""

import os
import struct
import threading
import zlib

import numpy as np
import pytest
import torch

from evenconv_cuda.data import open_data

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("tqdm")
checking = pytest.importorskip("evenconv_cuda.data.checking")

SIDE = 8


def pixels(key, side=SIDE):
    return np.random.default_rng(list(map(ord, str(key)))).integers(0, 256, (side, side, 3), dtype=np.uint8)


def save(file, key, side=SIDE):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(key, side)).save(file, format="PNG")


COUNTS = {"train": {"cat": 3, "ant": 4, "bee": 2}, "val": {"bee": 2, "ant": 1, "cat": 1}}


def image_folder(root, test="val"):
    for split, classes in COUNTS.items():
        for name, count in classes.items():
            for n in range(count):
                save(root / (test if split == "val" else split) / name / f"{n}.png", (split, name, n))


WNIDS, WORDS = ["n02", "n01", "n03"], {"n00": "no class", "n01": "goldfish, Carassius", "n02": "eel", "n03": "newt"}
ANNOTATED = ["n01", "n03", "n02", "n01"]


def tiny_imagenet(root):
    for wnid in WNIDS:
        for n in range(2):
            save(root / "train" / wnid / "images" / f"{wnid}_{n}.JPEG", (wnid, n), 64)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("0\t0\t1\t1\n")
    for n in range(len(ANNOTATED)):
        save(root / "val" / "images" / f"val_{n}.JPEG", n, 64)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    (root / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()))
    lines = [f"val_{n}.JPEG\t{wnid}\t0\t32\t44\t62\n" for n, wnid in enumerate(ANNOTATED)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


def contents(dataset):
    """Every image's pixels with its label."""
    images, labels = dataset[range(len(dataset))]
    return {(image.permute(1, 2, 0).numpy().tobytes(), label) for image, label in zip(images, labels.tolist())}


@pytest.mark.parametrize("test", ["val", "test"])
def test_image_folder(test, tmp_path):
    image_folder(tmp_path, test)
    (tmp_path / "train" / "ant" / ".DS_Store").write_bytes(b"a hidden file")
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    assert (data.classes, data.in_channels, data.image_size) == (["ant", "bee", "cat"], 3, SIDE)
    assert (data.pad, data.flip, data.left_out) == (4, True, [])
    for split, part in (("train", data.train), ("val", data.test)):
        expected = {
            (pixels((split, name, n)).tobytes(), data.classes.index(name))
            for name, count in COUNTS[split].items()
            for n in range(count)
        }
        assert len(part) == len(expected)
        assert contents(part) == expected


@pytest.mark.parametrize("within", ["", "tiny-imagenet-200"])
def test_tiny_imagenet(within, tmp_path):
    tiny_imagenet(tmp_path / within)
    data = open_data(f"tinyimagenet:{tmp_path}")
    assert data.image_size == 64
    assert data.classes == ["eel", "goldfish, Carassius", "newt"]
    train = {(pixels((wnid, n), 64).tobytes(), label) for label, wnid in enumerate(WNIDS) for n in range(2)}
    assert contents(data.train) == train
    val = {(pixels(n, 64).tobytes(), WNIDS.index(wnid)) for n, wnid in enumerate(ANNOTATED)}
    assert contents(data.test) == val


def test_mean_and_std_are_the_training_images(tmp_path):
    image_folder(tmp_path)
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    channels = data.train[range(len(data.train))][0].double() / 255
    assert data.mean == pytest.approx(channels.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(channels.std((0, 2, 3), correction=0).tolist())


def test_subset_is_balanced(tmp_path):
    image_folder(tmp_path)
    whole = open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE, subset=6)
    assert torch.bincount(data.train[range(6)][1]).tolist() == [2, 2, 2]
    assert contents(data.train) < contents(whole.train)
    assert contents(data.test) == contents(whole.test)


def truncate(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


def damage(file):
    """Pixels that do not unpack, between a whole header and a whole end."""
    content = bytearray(file.read_bytes())
    middle = content.index(b"IDAT") + 30
    content[middle : middle + 20] = bytes(20)
    file.write_bytes(content)


def declare(file, width, height):
    """A whole PNG whose header says that it is so large."""
    content = bytearray(file.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    file.write_bytes(content)


BAD_FILES = {
    "png cut off": ("c.png", lambda file: truncate(file, 0.6)),
    "png without its last bytes": ("c.png", lambda file: truncate(file, 0.97)),
    "jpeg cut off": ("c.jpg", lambda file: truncate(file, 0.8)),
    "text": ("c.png", lambda file: file.write_text("no image")),
    "empty": ("c.png", lambda file: file.write_bytes(b"")),
    "pipe": ("c.png", lambda file: (file.unlink(), os.mkfifo(file))),
    "device": ("c.png", lambda file: (file.unlink(), file.symlink_to("/dev/zero"))),
    "link to nothing": ("c.png", lambda file: (file.unlink(), file.symlink_to("nowhere"))),
    "floating-point numbers": ("c.tif", lambda file: Image.fromarray(np.ones((9, 9), np.float32)).save(file)),
    "more pixels than Pillow allows": ("c.png", lambda file: declare(file, 13000, 13000)),
    "a format that starts a program": ("c.png", lambda file: Image.open(file).save(file, format="EPS")),
}


def with_bad_file(root, name, spoil):
    image_folder(root)
    file = root / "train" / "bee" / name
    Image.fromarray(pixels("bad", 40)).save(file)
    spoil(file)
    return file


@pytest.mark.parametrize(("name", "spoil"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_image_is_named_or_left_out(name, spoil, tmp_path):
    file = with_bad_file(tmp_path, name, spoil)
    with pytest.raises(ValueError, match=f"1 of 14 files are bad, skip_bad_images leaves them out: {file}: .+"):
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE, skip_bad_images=True)
    [(left_out, reason)] = data.left_out
    assert left_out == str(file)
    assert reason
    assert (len(data.train), len(data.test)) == (9, 4)
    assert len(contents(data.train)) == 9


def test_folders_in_a_class_folder_belong_to_it(tmp_path):
    image_folder(tmp_path)
    cat = tmp_path / "train" / "cat"
    save(cat / "wild" / "far" / "0.PNG", "far")
    save(cat / "wild" / "1.png", "near")
    (cat / "wild" / "again").symlink_to(cat)
    (cat / "empty").mkdir()
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    expected = {pixels(("train", "cat", n)).tobytes() for n in range(3)} | {
        pixels(k).tobytes() for k in ("far", "near")
    }
    assert {image for image, label in contents(data.train) if label == data.classes.index("cat")} == expected
    assert len(data.train) == 11


def test_names_that_are_no_text_can_be_printed(tmp_path):
    image_folder(tmp_path)
    for split in ("train", "val"):
        save(tmp_path / split / os.fsdecode(b"caf\xe9") / "0.png", split)
    (tmp_path / "train" / "bee" / os.fsdecode(b"\xff.png")).write_text("no image")
    with pytest.raises(ValueError, match=r"bee/\\xff\.png: it is no image"):
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE, skip_bad_images=True)
    assert "caf\\xe9" in data.classes
    assert [file.rpartition("/")[2] for file, _ in data.left_out] == ["\\xff.png"]


def test_files_that_are_not_named_as_images_are_left_alone(tmp_path):
    image_folder(tmp_path)
    for file in ("Thumbs.db", "train/notes.txt", "train/ant/Thumbs.db", "val/ant/list.csv"):
        (tmp_path / file).write_text("no image")
    os.mkfifo(tmp_path / "train" / "ant" / "pipe")
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    assert (len(data.train), len(data.test), data.left_out) == (9, 4, [])


def test_damage_that_only_decoding_finds_is_named_by_the_batch(tmp_path):
    file = with_bad_file(tmp_path, "c.png", damage)
    with pytest.raises(ValueError, match=f"{file} does not decode"):
        # Mean and std come from all images of a small set.
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE, skip_bad_images=True)
    assert [left_out for left_out, _ in data.left_out] == [str(file)]


def test_bytes_behind_the_end_of_a_jpeg_are_accepted(tmp_path):
    def lengthen(file):
        file.write_bytes(file.read_bytes() + b"more")

    with_bad_file(tmp_path, "c.jpg", lengthen)
    assert len(open_data(f"imagefolder:{tmp_path}", image_size=SIDE).train) == 10


def test_only_the_first_bad_files_are_listed(tmp_path):
    image_folder(tmp_path)
    for n in range(9):
        (tmp_path / "train" / "ant" / f"bad{n}.png").write_text("no image")
    with pytest.raises(ValueError, match="9 of 22 files are bad") as refused:
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE)
    assert str(refused.value).count("it is no image that is one of BMP, GIF, JPEG") == 5


@pytest.mark.parametrize(("split", "name"), [("train", "class ant"), ("val", "no test image is left")])
def test_a_split_with_bad_images_alone_is_named(split, name, tmp_path):
    image_folder(tmp_path)
    for file in (tmp_path / split).glob("ant/*" if split == "train" else "*/*"):
        file.write_text("no image")
    with pytest.raises(ValueError, match=name):
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE, skip_bad_images=True)


def remove(root, path):
    for file in sorted((root / path).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (root / path).rmdir() if (root / path).is_dir() else (root / path).unlink()


def classes_at_the_top(root):
    remove(root, "val")
    (root / "train").rename(root.with_name("moved"))
    for folder in root.with_name("moved").iterdir():
        folder.rename(root / folder.name)


def replace(root, path, old, new):
    content = (root / path).read_text()
    assert old in content
    (root / path).write_text(content.replace(old, new))


WRONG_FOLDERS = [
    (image_folder, classes_at_the_top, "has no folder train; accepted is DIR/train/CLASS"),
    (image_folder, lambda root: remove(root, "val"), "has no folder val or test; accepted is DIR/train/CLASS"),
    (image_folder, lambda root: (root / "train" / "dog").mkdir(), "train/dog has no image; accepted"),
    (image_folder, lambda root: (root / "val" / "bee").rename(root / "val" / "dog"), "val/dog is a class that .*train"),
    (image_folder, lambda root: [remove(root, f"val/{name}") for name in COUNTS["val"]], "val has no class folders"),
    (tiny_imagenet, lambda root: remove(root, "wnids.txt"), "wnids.txt is missing; tinyimagenet takes the folder"),
    (tiny_imagenet, lambda root: remove(root, "words.txt"), "words.txt is missing"),
    (tiny_imagenet, lambda root: remove(root, "val/val_annotations.txt"), "val_annotations.txt is missing"),
    (tiny_imagenet, lambda root: remove(root, "train/n03"), "the folder .*train/n03/images is missing"),
    (tiny_imagenet, lambda root: [remove(root, f"train/n03/images/n03_{n}.JPEG") for n in range(2)],
     "train/n03/images has no image"),
    (tiny_imagenet, lambda root: (root / "train" / "n00").mkdir(), "train/n00 is no class of wnids.txt"),
    (tiny_imagenet, lambda root: replace(root, "words.txt", "n03", "n04"), "words.txt does not have the class n03"),
    (tiny_imagenet, lambda root: replace(root, "wnids.txt", "n03", "n02"), "wnids.txt names no class or one twice"),
    (tiny_imagenet, lambda root: replace(root, "val/val_annotations.txt", "n03", "n09"), "line 2: 'n09' is no class"),
    (tiny_imagenet, lambda root: replace(root, "val/val_annotations.txt", "val_2", "val_1"),
     "line 3: images/val_1.JPEG is missing or named twice"),
    (tiny_imagenet, lambda root: remove(root, "val/images/val_3.JPEG"), "line 4: images/val_3.JPEG is missing"),
    (tiny_imagenet, lambda root: save(root / "val/images/val_9.JPEG", 9),
     "val_annotations.txt does not have 1 files of .*such as val_9.JPEG"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "spoil", "message"), WRONG_FOLDERS, ids=[message for *_, message in WRONG_FOLDERS])
def test_wrong_folder_is_named(write, spoil, message, tmp_path):
    root = tmp_path / "data"
    write(root)
    spoil(root)
    kind = "imagefolder" if write is image_folder else "tinyimagenet"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_data(f"{kind}:{root}")


def test_wrong_image_size_is_named(tmp_path):
    image_folder(tmp_path)
    with pytest.raises(ValueError, match="image_size is 0; accepted"):
        open_data(f"imagefolder:{tmp_path}", image_size=0)


@pytest.mark.parametrize(("large", "alone"), [(SIDE**2 - 1, True), (SIDE**2, False)])
def test_large_images_are_decoded_one_after_the_other(large, alone, tmp_path, monkeypatch):
    """Each decoding looks how many have begun; those that need not be alone wait until another has."""
    image_folder(tmp_path)
    begun, most, begin = [], [], threading.Barrier(2)

    def counted(file):
        begun.append(file)
        if not alone:
            begin.wait(timeout=60)
        most.append(len(begun))
        begun.pop()

    monkeypatch.setattr(checking, "CHUNK", 1)
    monkeypatch.setattr(checking, "LARGE", large)
    monkeypatch.setattr(checking, "decoded", counted)
    files = [str(file) for file in sorted((tmp_path / "train" / "ant").iterdir())]
    assert checking.defects(files, whole=True) == {}
    assert len(most) == 4
    assert (max(most) == 1) == alone


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    file = with_bad_file(tmp_path, "c.webp", lambda file: os.truncate(file, 2**40))
    with pytest.raises(ValueError, match=rf"{file}: it has 1099511627776 bytes; accepted are 536870912"):
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE)


def test_every_suffix_of_a_format_is_an_images(tmp_path):
    image_folder(tmp_path)
    for suffix in ("jfif", "JPE", "pnm", "apng"):
        save(tmp_path / "train" / "ant" / f"more.{suffix}", suffix)
    assert len(open_data(f"imagefolder:{tmp_path}", image_size=SIDE).train) == 13


def test_test_images_alone_take_the_classes_that_are_given(tmp_path):
    image_folder(tmp_path)
    remove(tmp_path, "train")
    classes = ["zebra", "cat", "bee", "ant"]
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE, classes=classes)
    assert (data.classes, len(data.train)) == (classes, 0)
    assert contents(data.test) == {
        (pixels(("val", name, n)).tobytes(), classes.index(name)) for name, k in COUNTS["val"].items() for n in range(k)
    }
    with pytest.raises(ValueError, match="val/cat is a class that is none of zebra, bee, ant"):
        open_data(f"imagefolder:{tmp_path}", image_size=SIDE, classes=["zebra", "bee", "ant"])


def test_annotated_images_alone_are_enough_where_classes_are_given(tmp_path):
    tiny_imagenet(tmp_path)
    whole = contents(open_data(f"tinyimagenet:{tmp_path}").test)
    remove(tmp_path, "train")
    data = open_data(f"tinyimagenet:{tmp_path}", classes=["eel", "goldfish, Carassius", "newt"])
    assert contents(data.test) == whole
    assert len(data.train) == 0


def test_a_training_folder_says_the_classes_even_where_some_are_given(tmp_path):
    image_folder(tmp_path)
    data = open_data(f"imagefolder:{tmp_path}", image_size=SIDE, classes=["cat"])
    assert (data.classes, len(data.train)) == (["ant", "bee", "cat"], 9)
