"""Training steps of the papers' networks: fused, in plain PyTorch, and the networks that they replace.

    python -m benchmarks.models [--quick] [--device cpu] [--rounds N] [--threads N] [--only NAME] [--output FILE]

A step is forward, cross-entropy, backward and an SGD update on random images. One process; the networks of a comparison
are interleaved, in several blocks; medians with their spread. Writes every row as JSON.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain, product

import torch
import torch.nn.functional as F
from tqdm import tqdm

from evenconv_cuda import use_backend
from evenconv_cuda.models import create_model
from evenconv_cuda.saved import saved_bytes

from .candidates import LAYOUTS
from .command import BLOCKS, parse, write
from .left_out import leave_out, leaving_out
from .memory import peak_bytes
from .results import merged
from .timing import interleaved

ROUNDS, QUICK_ROUNDS, SECONDS = 7, 2, 4
TOLERANCE = {"float32": {"loss": 1e-5, "gradients": 0.1}, "bfloat16": {"loss": 1e-2, "gradients": math.inf}}
"""How far a network may be from the same in float64 to be timed: its loss, and its gradients as one vector, relative to
the exact ones. Rounding flips ReLUs, which depth amplifies: gradients of a ResNet-50 in bfloat16 have errors above 1,
whoever computes them, so in bfloat16 they only have to be finite."""


@dataclass(frozen=True)
class Comparison:
    """A network with each of its convolutions; the first is the one that the others replace."""

    model: str
    convs: tuple[str, ...]
    batch: int
    size: int
    compiled: bool = False
    """Whether torch.compile, which takes minutes a network on a small machine, is measured of the first two too."""


COMPARISONS = (
    Comparison("resnet20", ("c3", "c2sp", "c4sp"), 128, 32, compiled=True),
    Comparison("mobilenet_v3_small_cifar", ("depthwise", "xsepconv", "xsepconv_norm"), 64, 32, compiled=True),
    Comparison("mobilenet_v3_small", ("depthwise", "xsepconv"), 16, 224),
    Comparison("densenet_bc100", ("c3", "c2sp"), 16, 32),
    Comparison("resnet50_half", ("c3", "c2sp"), 4, 224),
)


@dataclass(frozen=True)
class Setting:
    """One candidate of a comparison."""

    conv: str
    backend: str
    layout: str
    precision: str
    mode: str


class Training:
    """A network in a setting, and its step."""

    def __init__(self, comparison: Comparison, setting: Setting, device: str):
        torch.manual_seed(0)
        memory_format = LAYOUTS[setting.layout]
        self.setting, self.device = setting, torch.device(device)
        dtype = torch.float64 if setting.precision == "float64" else torch.float32
        self.model = create_model(comparison.model, conv=setting.conv)
        self.model.to(self.device, dtype, memory_format=memory_format)
        for dropout in (layer for layer in self.model.modules() if isinstance(layer, torch.nn.Dropout)):
            dropout.p = 0.0  # or no two networks would compute the same
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9, nesterov=True)
        images = torch.randn(comparison.batch, 3, comparison.size, comparison.size, device=self.device)
        self.images = images.to(dtype, memory_format=memory_format)
        self.labels = torch.randint(10, (comparison.batch,), device=self.device)
        self.run: Callable = self.model
        if setting.mode == "compiled":
            self.run = torch.compile(self.model, dynamic=False)

    def loss(self) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.setting.precision == "bfloat16"):
            return F.cross_entropy(self.run(self.images), self.labels)

    def results(self) -> dict[str, torch.Tensor]:
        """Loss and gradients, each as a vector."""
        with use_backend(self.setting.backend):
            loss = self.loss()
            gradients = torch.autograd.grad(loss, [*self.model.parameters()])
        return {"loss": loss.detach().reshape(1), "gradients": torch.cat([g.flatten() for g in gradients])}

    def step(self) -> None:
        with use_backend(self.setting.backend):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()

    def saved_bytes(self) -> int:
        with use_backend(self.setting.backend):
            return saved_bytes(self.loss, without=chain(self.model.parameters(), self.model.buffers()))


def errors(training: Training, exact: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of loss and gradients, relative to the exact ones."""
    found = training.results()
    return {name: ((found[name].double() - value).norm() / value.norm()).item() for name, value in exact.items()}


def name_of(setting: Setting, comparison: Comparison) -> str:
    return f"{' '.join(asdict(setting).values())} of {comparison.model}"


def is_right(training: Training, comparison: Comparison, exact: dict[str, torch.Tensor]) -> bool:
    """Whether the network may be timed; a line says so if not."""
    found, setting = errors(training, exact), training.setting
    right = all(error <= bound for error, bound in zip(found.values(), TOLERANCE[setting.precision].values()))
    right = right and all(map(math.isfinite, found.values()))
    if not right:
        wrong = ", ".join(f"{what} by {error:.1e}" for what, error in found.items())
        leave_out(name_of(setting, comparison), f"wrong: {wrong}")
    return right


def trainings(comparison: Comparison, device: str, with_compiled: bool) -> list[dict[Setting, Training]]:
    """Those that can be run and are right, by what is interleaved."""
    exact = {
        conv: Training(comparison, Setting(conv, "reference", "NCHW", "float64", "eager"), device).results()
        for conv in comparison.convs
    }
    turns = []
    for turn in settings(comparison, with_compiled):
        turns.append({})
        for setting in turn:
            with leaving_out(name_of(setting, comparison)):
                training = Training(comparison, setting, device)
                if is_right(training, comparison, exact[setting.conv]):
                    turns[-1][setting] = training
    return turns


def settings(comparison: Comparison, with_compiled: bool) -> list[list[Setting]]:
    """The candidates, by what is interleaved: one layout and precision at a time."""
    plain, *even = comparison.convs
    networks = [(plain, "fused"), *product(even, ("fused", "reference"))]
    turns = []
    for layout, precision in product(LAYOUTS, ("float32", "bfloat16")):
        turn = [Setting(*network, layout, precision, "eager") for network in networks]
        if with_compiled and comparison.compiled and layout == "channels_last":
            turn += [Setting(*network, layout, precision, "compiled") for network in networks[:3]]
        turns.append(turn)
    return turns


def measure(
    comparison: Comparison,
    rounds: int = ROUNDS,
    device: str = "cpu",
    with_compiled: bool = False,
    blocks: int = BLOCKS,
) -> list[dict]:
    """A row for each setting; a block takes each layout and precision in turn."""
    torch._dynamo.reset()
    turns = trainings(comparison, device, with_compiled)
    measured = []
    for _, turn in tqdm([*product(range(blocks), turns)], desc=comparison.model, disable=not sys.stderr.isatty()):
        times = interleaved({setting: t.step for setting, t in turn.items()}, rounds, device, SECONDS, ahead=False)
        of_network = {"model": comparison.model, "batch": comparison.batch, "size": comparison.size}
        measured.append([of_network | asdict(setting) | {"ms": ms} for setting, ms in times.items()])
    every = {setting: training for turn in turns for setting, training in turn.items()}
    rows = []
    for row, (setting, training) in zip(merged(measured, blocks), every.items(), strict=True):
        row["images_per_s"] = float(f"{1e3 * comparison.batch / row['ms']['median']:.4g}")
        if setting.mode == "eager":
            row |= {"saved_bytes": training.saved_bytes(), "peak_bytes": peak_bytes(training.step, device)}
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    options = parse("models", __doc__, ROUNDS, QUICK_ROUNDS, arguments)
    chosen = [comparison for comparison in COMPARISONS if options.only in comparison.model]
    if not chosen:
        names = ", ".join(comparison.model for comparison in COMPARISONS)
        options.refuse(f"--only is {options.only!r}; accepted is a part of {names}")
    rows = []
    for comparison in chosen[:1] if options.quick else chosen:
        with leaving_out(comparison.model):
            measured = measure(comparison, options.rounds, options.device, not options.quick, options.blocks)
            for row in measured:
                names = ("model", "conv", "backend", "layout", "precision", "mode")
                print(f"{row['images_per_s']:9.1f} images/s ", *(row[name] for name in names), flush=True)
            rows += measured
    write(options, rows)


if __name__ == "__main__":
    main()
