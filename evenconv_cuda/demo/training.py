"""One training per backend, interleaved step by step so that whatever else the machine does meets both."""

from __future__ import annotations

import time
from argparse import Namespace
from copy import deepcopy
from itertools import chain
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..backend import use_backend
from ..machine import synchronize
from ..saved import saved_bytes
from .data import Digits
from .network import digit_network

WARM_UP = 5
"""Steps at the start that step times leave out."""

COMPARED = ("fused", "reference")


class Run:
    """A model, its optimizer and what was seen of its training."""

    def __init__(self, backend: str, model: nn.Module, lr: float, steps: int):
        self.backend = backend
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, lr, total_steps=steps)
        self.losses: list[float] = []
        self.times: list[float] = []
        self.saved_bytes = 0
        self.accuracy = 0.0

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Forward, backward and update; notes the loss and the seconds taken."""
        synchronize(images.device)
        start = time.perf_counter()
        with use_backend(self.backend):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
        synchronize(images.device)
        self.times.append(time.perf_counter() - start)
        self.losses.append(loss.item())
        self.schedule.step()

    @property
    def steady_times(self) -> list[float]:
        return self.times[min(WARM_UP, len(self.times) // 2) :]

    @property
    def step_time(self) -> float:
        return median(self.steady_times)


def train(digits: Digits, options: Namespace, memory_format: torch.memory_format) -> list[Run]:
    """Train from the same weights on the same batches through each of ``COMPARED``."""
    device = digits.train_images.device
    torch.manual_seed(options.seed)
    model = digit_network(options.width, options.kernel_size).to(device, memory_format=memory_format)
    images = len(digits.train_labels)
    batches = images // options.batch_size
    steps = options.epochs * batches
    runs = [Run(backend, deepcopy(model), options.lr, steps) for backend in COMPARED]
    with tqdm(total=steps, unit="step") as bar:
        for epoch in range(options.epochs):
            order = torch.randperm(images).to(device)
            for batch in order.split(options.batch_size)[:batches]:
                for run in runs:
                    run.step(digits.train_images[batch], digits.train_labels[batch])
                losses = {run.backend: f"{run.losses[-1]:.4f}" for run in runs}
                bar.set_description(f"epoch {epoch + 1}/{options.epochs}", refresh=False)
                bar.set_postfix(losses, refresh=False)
                bar.update()
    for run in runs:
        run.saved_bytes = saved_by_a_forward(run.backend, model, digits.train_images[batch], digits.train_labels[batch])
        run.accuracy = accuracy(run.backend, run.model, digits.test_images, digits.test_labels)
    return runs


def saved_by_a_forward(backend: str, model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes that are kept for backward, parameters and buffers aside."""
    with use_backend(backend):
        return saved_bytes(
            lambda: F.cross_entropy(model(images), labels), without=chain(model.parameters(), model.buffers())
        )


@torch.no_grad()
def accuracy(backend: str, model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with use_backend(backend):
        predicted = model(images).argmax(1)
    return (predicted == labels).float().mean().item()
