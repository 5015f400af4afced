"""Which process sees which images in which order, and the DataLoader over it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

MOST_WORKERS = 8


class Batch(list):
    """Indices of a batch, with the seed and the epoch on which the random crops of files depend."""

    def __init__(self, indices: Iterable[int], seed: int, epoch: int):
        super().__init__(indices)
        self.seed = seed
        self.epoch = epoch


class Batches(Sampler[Batch]):
    """The batches of one process of ``world_size``, in an order that depends on seed and epoch alone.

    Process r takes images r, r + world_size, ... of an order that all share, so batch k of all processes together is
    batch k of one process with ``world_size`` times the batch. With ``drop_last`` every batch is full; without, every
    image is seen once by one process, and all processes have equally many batches, of nearly equal sizes up to
    ``batch_size`` (one more where a process would be left without): collectives within an evaluation step meet their
    partners.
    """

    def __init__(
        self, images: int, batch_size: int, *, shuffle: bool, seed: int, rank: int, world_size: int, drop_last: bool
    ):
        self.images = images
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        if self.drop_last:
            return self.images // self.world_size // self.batch_size
        largest_share = -(-self.images // self.world_size)
        return max(1, min(-(-largest_share // self.batch_size), self.images // self.world_size))

    def __iter__(self) -> Iterator[Batch]:
        order = self.order()[self.rank :: self.world_size]
        if self.drop_last:
            order = order[: len(self) * self.batch_size]
        for part in order.tensor_split(len(self)):
            yield Batch(part.tolist(), self.seed, self.epoch)

    def order(self) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.images)
        # Not seed + epoch: the second epoch of seed 0 must not be the first of seed 1.
        key = random.Random(f"{self.seed} {self.epoch}").getrandbits(63)
        return torch.randperm(self.images, generator=torch.Generator().manual_seed(key))


def loader(
    dataset: Dataset,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    workers: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool,
) -> DataLoader:
    """Batches of uint8 images and int64 labels, ``batch_size`` of them for each process.

    Before an epoch call ``loader.sampler.set_epoch(epoch)``. Images in memory take no worker processes; for files
    ``workers`` is by default the CPUs of this process's share of the machine, at most 8, and they live on between
    epochs. The default random generator is not touched.

    Raises:
        ValueError: an argument out of range, or too few images for every process to get a batch.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("world_size", world_size, 1), ("workers", workers, 0)):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; accepted is a whole number from {least}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank}; accepted is 0 to world_size - 1 = {world_size - 1}")
    needed = world_size * batch_size if drop_last else world_size
    if len(dataset) < needed:
        least = f"batch_size {batch_size} × world_size {world_size}" if drop_last else f"world_size {world_size}"
        raise ValueError(f"the data set has {len(dataset)} images; accepted is at least {least}")

    batches = Batches(
        len(dataset),
        batch_size,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
    )
    if dataset.in_memory:
        workers = 0
    elif workers is None:
        workers = default_workers(world_size)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def default_workers(world_size: int) -> int:
    """A share of the CPUs; torchrun says how many processes of this machine share them."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return min(MOST_WORKERS, max(1, os.cpu_count() // processes))
