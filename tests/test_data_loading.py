"""Which process sees which images, when."""

import pytest
import torch

from evenconv_cuda.data import MemoryImages, loader

COUNT = 47


def numbered(count=COUNT):
    """Image n has pixels n and label n."""
    labels = torch.arange(count)
    return MemoryImages(labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous(), labels)


def batches(epoch=0, count=COUNT, batch_size=4, **options):
    options = {"shuffle": True, "seed": 0, "drop_last": False, **options}
    found = loader(numbered(count), batch_size, **options)
    found.sampler.set_epoch(epoch)
    seen = []
    for images, labels in found:
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert torch.equal(images, numbered(count).images[labels])
        seen.append(labels.tolist())
    assert len(found) == len(seen)
    return seen


def flat(parts):
    return [image for part in parts for image in part]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [6, 24, 46, 47, 48])
def test_every_image_is_seen_once(world_size, count):
    ranks = [batches(count=count, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(flat(flat(ranks))) == list(range(count))
    assert len({len(rank) for rank in ranks}) == 1
    sizes = [len(batch) for batch in flat(ranks)]
    assert max(sizes) <= 4
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("count", "world_size"), [(5, 2), (7, 3), (8, 3), (3, 3)])
def test_no_process_is_left_without_images(count, world_size):
    ranks = [batches(count=count, batch_size=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(flat(flat(ranks))) == list(range(count))
    assert len({len(rank) for rank in ranks}) == 1
    assert all(flat(ranks))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_full_batches_have_no_image_twice(world_size):
    ranks = [batches(rank=rank, world_size=world_size, drop_last=True) for rank in range(world_size)]
    seen = flat(flat(ranks))
    assert len(set(seen)) == len(seen) == COUNT // (4 * world_size) * 4 * world_size
    assert {len(batch) for batch in flat(ranks)} == {4}


def test_two_processes_together_take_the_batches_of_one():
    one = batches(batch_size=8, drop_last=True)
    two = zip(*(batches(rank=rank, world_size=2, drop_last=True) for rank in range(2)), strict=True)
    assert [sorted(batch) for batch in one] == [sorted(flat(pair)) for pair in two]


def test_order_depends_on_seed_and_epoch_alone():
    orders = {(seed, epoch): flat(batches(seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}
    assert len(set(map(tuple, orders.values()))) == 9
    torch.manual_seed(1)
    assert flat(batches(seed=1, epoch=2)) == orders[1, 2]
    assert flat(batches(seed=1, epoch=2, batch_size=5)) == orders[1, 2]


def test_without_shuffling_the_order_is_the_data_sets():
    assert flat(batches(shuffle=False, epoch=3)) == list(range(COUNT))


def test_global_random_state_is_not_touched():
    state = torch.get_rng_state()
    batches()
    assert torch.equal(torch.get_rng_state(), state)


def test_images_in_memory_take_no_workers():
    assert loader(numbered(), 4, shuffle=True, seed=0, drop_last=True, workers=3).num_workers == 0


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("batch_size is 0; accepted", {"batch_size": 0}),
        ("world_size is 0; accepted", {"world_size": 0}),
        ("workers is -1; accepted", {"workers": -1}),
        ("rank is 2; accepted is 0 to world_size - 1 = 1", {"rank": 2, "world_size": 2}),
        ("rank is -1; accepted", {"rank": -1}),
        ("47 images; accepted is at least batch_size 48", {"batch_size": 48, "drop_last": True}),
        (
            "47 images; accepted is at least batch_size 24 × world_size 2",
            {"batch_size": 24, "world_size": 2, "drop_last": True},
        ),
        ("2 images; accepted is at least world_size 3", {"count": 2, "world_size": 3}),
    ],
)
def test_wrong_option_is_named(message, options):
    with pytest.raises(ValueError, match=message):
        batches(**options)
