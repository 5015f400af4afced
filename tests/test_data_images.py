"""How files become pixels: modes, test crops and random crops that can be repeated."""

import struct

import numpy as np
import pytest
import torch

from evenconv_cuda.data import loader, open_data
from evenconv_cuda.data.image_files import decoded

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("tqdm")
GREY = np.array([[0, 60, 120], [130, 200, 255], [7, 8, 9]], dtype=np.uint8)


def save(image, root, **options):
    for split in ("train", "val"):
        folder = root / split / "only"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / "image.png", **options)


def rgb(image, root, **options):
    """The pixels ``(3, 3, 3)`` that become of an image."""
    save(image, root, **options)
    pixels, _ = open_data(f"imagefolder:{root}", image_size=3).test[[0]]
    return pixels[0].permute(1, 2, 0).numpy()


def test_grey_is_three_times_itself(tmp_path):
    assert (rgb(Image.fromarray(GREY), tmp_path) == GREY[..., None]).all()


def test_sixteen_bits_of_grey_keep_their_upper_eight(tmp_path):
    assert (rgb(Image.fromarray(GREY.astype(np.uint16) * 256 + 99), tmp_path) == GREY[..., None]).all()


@pytest.mark.parametrize(("level", "expected"), [(250, 0), (260, 1), (32768, 128), (65535, 255)])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_the_depth_of_a_file_is_its_scale_whatever_its_maximum(suffix, level, expected, tmp_path):
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(np.full((3, 3), level, np.uint16)).save(file)
    assert np.asarray(decoded(file)).tolist() == [[[expected] * 3] * 3] * 3


def twelve_bit_tiff(levels):
    """A row of an even number of pixels, two of them packed into three bytes."""
    row = b"".join((a << 12 | b).to_bytes(3, "big") for a, b in zip(levels[::2], levels[1::2]))
    tags = {256: len(levels), 257: 1, 258: 12, 259: 1, 262: 1, 273: 128, 277: 1, 278: 1, 279: len(row)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(128, b"\0") + row


def test_twelve_bits_of_grey_are_scaled_by_twelve(tmp_path):
    (tmp_path / "image.tif").write_bytes(twelve_bit_tiff([0, 16, 2048, 4095]))
    assert np.asarray(decoded(tmp_path / "image.tif"))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_scale_are_refused(dtype, tmp_path):
    Image.fromarray(GREY.astype(dtype)).save(tmp_path / "image.tif")
    with pytest.raises(
        ValueError, match=r"its pixels are floating-point, signed or 32-bit numbers; accepted are whole"
    ):
        decoded(tmp_path / "image.tif")


def test_pillows_limit_on_pixels_holds(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)
    decoded(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    with pytest.raises(ValueError, match="it has 9 pixels; accepted are 8"):
        decoded(tmp_path / "image.png")


def test_black_and_white(tmp_path):
    assert (rgb(Image.fromarray(GREY > 100), tmp_path) == 255 * (GREY > 100)[..., None]).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_opacity_is_dropped(channels, tmp_path):
    pixels = np.stack([GREY + n for n in range(channels)], -1)
    assert (rgb(Image.fromarray(pixels), tmp_path) == (pixels[..., :3] if channels == 4 else pixels[..., :1])).all()


@pytest.mark.parametrize("options", [{}, {"transparency": 1}, {"transparency": b"\x00\x80\xff"}])
def test_palette_is_looked_up(options, tmp_path, recwarn):
    palette = np.array([[10, 20, 30], [200, 0, 100], [5, 255, 90]], dtype=np.uint8)
    index = np.array([[0, 1, 2], [2, 1, 0], [1, 1, 2]], dtype=np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette(palette.tobytes())
    image.putdata(index.flatten().tolist())
    assert (rgb(image, tmp_path, **options) == palette[index]).all()
    assert not recwarn.list


WIDTH, HEIGHT = 300, 200


@pytest.fixture
def ramp(tmp_path):
    """Red is half of x and green y, so that a crop tells where it comes from."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    save(Image.fromarray(np.stack([x / 2, y, 0 * x], -1).astype(np.uint8)), tmp_path)
    return tmp_path


def place(image):
    """Left, right, top and bottom of the crop that an image is, from its inner pixels."""
    size = image.shape[-1]
    inner = np.arange(5, size - 5)
    edges = []
    for line in (2 * (image[0].double().mean(0) + 0.25), image[1].double().mean(1)):
        # Pixel j lies at (j + 1/2) / size of the crop, and pixel x of the source covers x to x + 1.
        slope, first = np.polyfit((inner + 0.5) / size, line.numpy()[inner] + 0.5, 1)
        edges += [first, first + slope]
    return edges


def test_a_test_image_is_the_central_square(ramp):
    data = open_data(f"imagefolder:{ramp}", image_size=112)
    side = 0.875 * HEIGHT
    expected = [(WIDTH - side) / 2, (WIDTH + side) / 2, (HEIGHT - side) / 2, (HEIGHT + side) / 2]
    assert place(data.test[[0]][0][0]) == pytest.approx(expected, abs=1)
    assert data.pad == 0


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_small_image_is_the_whole_square(part, ramp):
    data = open_data(f"imagefolder:{ramp}", image_size=64)
    expected = [(WIDTH - HEIGHT) / 2, (WIDTH + HEIGHT) / 2, 0, HEIGHT]
    assert place(getattr(data, part)[[0]][0][0]) == pytest.approx(expected, abs=1)
    assert data.pad == 4


def epochs(data, count, seed=0, **options):
    found = loader(data.train, 1, shuffle=True, seed=seed, drop_last=True, **options)
    for epoch in range(count):
        found.sampler.set_epoch(epoch)
        yield {label.item(): image for images, labels in found for image, label in zip(images, labels)}


def test_random_crops_keep_to_their_area_and_ratio(ramp):
    data = open_data(f"imagefolder:{ramp}", image_size=112)
    crops = np.array([place(images[0]) for images in epochs(data, 150, workers=0)])
    left, right, top, bottom = crops.T
    assert min(left.min(), top.min()) > -1.5
    assert right.max() < WIDTH + 1.5
    assert bottom.max() < HEIGHT + 1.5
    width, height = right - left, bottom - top
    area, ratio = width * height / (WIDTH * HEIGHT), width / height
    assert 0.07 < area.min() < 0.2
    assert 0.7 < area.max() < 1.02
    assert 0.73 < ratio.min() < 0.85
    assert 1.2 < ratio.max() < 1.36
    assert len(np.unique(left.round())) > 75


def test_a_thin_image_has_the_central_square(tmp_path):
    columns = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 3, 2)
    save(Image.fromarray(np.repeat(columns, 2, 0)), tmp_path)
    data = open_data(f"imagefolder:{tmp_path}", image_size=72)
    image = data.train[[0]][0].double()
    assert image.shape == (1, 3, 72, 72)
    assert 98 < image.min() < image.max() < 102


@pytest.fixture
def many(tmp_path):
    """Seven classes with an image each, so that a label tells the image."""
    for n in range(7):
        for split in ("train", "val"):
            folder = tmp_path / split / str(n)
            folder.mkdir(parents=True)
            pixels = np.random.default_rng(n).integers(0, 256, (80, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "image.png")
    return open_data(f"imagefolder:{tmp_path}", image_size=72)


def test_crops_depend_on_seed_epoch_and_image_alone(many):
    first, second = epochs(many, 2, workers=0)
    for workers in (1, 2):
        for expected, images in zip((first, second), epochs(many, 2, workers=workers), strict=True):
            assert expected.keys() == images.keys() == set(range(7))
            assert all(torch.equal(expected[n], images[n]) for n in expected)
    [other] = epochs(many, 1, workers=0, seed=1)
    for n in range(7):
        assert not torch.equal(first[n], second[n])
        assert not torch.equal(first[n], other[n])


def test_the_same_picture_twice_has_two_crops(ramp):
    picture = ramp / "train" / "only" / "image.png"
    picture.with_name("copy.png").write_bytes(picture.read_bytes())
    first, second = open_data(f"imagefolder:{ramp}", image_size=72).train[[0, 1]][0]
    assert not torch.equal(first, second)


def test_processes_make_the_crops_of_one(many):
    [one] = epochs(many, 1, workers=0)
    ranks = [images for rank in range(2) for images in epochs(many, 1, workers=0, rank=rank, world_size=2)]
    together = ranks[0] | ranks[1]
    assert len(together) == 6
    assert all(torch.equal(one[n], together[n]) for n in together)


def test_files_are_decoded_by_workers_that_stay(many):
    found = loader(many.train, 2, shuffle=True, seed=0, drop_last=False)
    assert found.num_workers >= 1
    assert found.persistent_workers
