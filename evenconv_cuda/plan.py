"""Improved symmetric padding: directions that alternate over a network's layers, so that their shifts cancel.

Source: arXiv 2002.12046; the directions as its one known implementation takes them. That the last of an odd number of
layers pads in four groups is the paper's for N % 4 = 1, derived for N % 4 = 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from . import checks, meta
from .directions import NAMES, SYMMETRIC, as_directions
from .nn import (
    DOConv2d,
    DOEvenConv2d,
    EvenConv2d,
    EvenDepthwiseConv2d,
    SeparableDepthwiseConv2d,
    SymmetricPad2d,
    XSepConv2d,
    XSepConv2dNormActivation,
)

EVEN_LAYERS: tuple[type[nn.Module], ...] = (
    DOEvenConv2d,
    EvenConv2d,
    EvenDepthwiseConv2d,
    XSepConv2d,
    XSepConv2dNormActivation,
)
"""The layers that shift features by half a pixel, unless their directions cancel."""


def padding_plan(n_layers: int) -> list[str | tuple[str, ...]]:
    """The directions of ``n_layers`` even-sized layers, in execution order.

    One direction for all channels of a layer, ``BR, TL, BL, TR`` in turn (consecutive pairs are opposite); of an odd
    number the last layer pads its four channel groups in all four (``SYMMETRIC``).

    >>> padding_plan(3)
    ['BR', 'TL', ('BR', 'TL', 'BL', 'TR')]
    """
    if not checks.integer(n_layers) or n_layers < 0:
        raise ValueError(f"n_layers is {n_layers!r}; accepted is a whole number from 0")
    plan: list[str | tuple[str, ...]] = [NAMES[layer % 4] for layer in range(n_layers)]
    if n_layers % 2:
        plan[-1] = SYMMETRIC
    return plan


@dataclass(frozen=True)
class PaddingReport:
    """What :func:`apply_padding_plan` did."""

    directions: dict[str, tuple[str, ...]]
    """Of each layer that took part by its name, in execution order."""
    net_shift: tuple[float, float]
    """How far down and to the right these layers together move features, in pixels of each layer's own map, averaged
    over its channels."""

    def __str__(self) -> str:
        width = max(map(len, self.directions))
        lines = [f"{name:<{width}}  {' '.join(dict.fromkeys(groups))}" for name, groups in self.directions.items()]
        return "\n".join([*lines, "net shift: {:+g} rows, {:+g} columns".format(*self.net_shift)])


def apply_padding_plan(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    layers: type[nn.Module] | tuple[type[nn.Module], ...] = EVEN_LAYERS,
    *,
    example_inputs: meta.ExampleInputs | None = None,
) -> PaddingReport:
    """Set the directions of ``model``'s even-sized layers to :func:`padding_plan`, in execution order.

    Execution order is that of ``torch.fx``'s trace or, with ``input_size`` or ``example_inputs``, of a forward of such
    an input on the meta device; layers that it does not reach keep their directions. A layer that runs several times
    has its place in the plan once and its shift counted each time.

    Args:
        model: changed in place, nothing but its layers' ``directions``.
        input_size: shape of an input, as ``(1, 3, 224, 224)``; needed where ``torch.fx`` cannot trace the model.
        layers: which of the even-sized layers take part, ``XSepConv2d`` for example where C2sp is to stay.
        example_inputs: see :func:`~evenconv_cuda.profile`, in place of ``input_size``.

    Returns:
        The directions and the net shift, which is zero for every N if each layer runs once: exactly, if the channels of
        a layer that pads in groups leave a remainder of 0 or 2 when divided by 4.

    Raises:
        ValueError: if there is no such layer, or the model does not run as it must to tell the order.
    """
    taking_part = {layer for layer in model.modules() if isinstance(layer, layers)}
    return plan_directions(model, taking_part, meta.inputs_of(model, input_size, example_inputs))


def plan_directions(model: nn.Module, layers: set[nn.Module], inputs: meta.Inputs | None) -> PaddingReport:
    """:func:`apply_padding_plan` for these layers of the model."""
    wanted = {name for name, layer in model.named_modules() if layer in layers}
    executed = _traced_order(model, wanted) if inputs is None else _run_order(model, wanted, inputs)
    if not executed:
        kinds = ", ".join(kind.__name__ for kind in EVEN_LAYERS)
        raise ValueError(f"model runs no even-sized layer that takes part; even-sized layers are {kinds}")
    names = list(dict.fromkeys(executed))
    for name, directions in zip(names, padding_plan(len(names))):
        model.get_submodule(name).directions = as_directions(directions)
    return PaddingReport(
        {name: model.get_submodule(name).directions for name in names},
        tuple(map(sum, zip(*(shift(model.get_submodule(name)) for name in executed)))),
    )


def shift(layer: nn.Module) -> tuple[float, float]:
    """How far down and to the right an even-sized layer moves features, in pixels, averaged over its input channels.

    Half a pixel away from the padded side, for 2×2 as for 4×4 kernels with equal weights.
    """
    sizes = layer.group_sizes
    rows = sum(size * (0.5 if direction[0] == "T" else -0.5) for size, direction in zip(sizes, layer.directions))
    columns = sum(size * (0.5 if direction[1] == "L" else -0.5) for size, direction in zip(sizes, layer.directions))
    return rows / layer.in_channels, columns / layer.in_channels


_LEAVES = (*EVEN_LAYERS, DOConv2d, SeparableDepthwiseConv2d, SymmetricPad2d)
"""Layers that the trace is to have as one call each; DO-Conv's looks at its weights, which torch.fx cannot follow."""


def _traced_order(model: nn.Module, wanted: set[str]) -> list[str]:
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            if isinstance(module, _LEAVES):
                return True
            holds_some = any(isinstance(inner, EVEN_LAYERS) for inner in module.modules())
            return not holds_some and super().is_leaf_module(module, name)

    try:
        graph = Tracer().trace(nn.Sequential(model))  # in which the model may itself be a layer
    except Exception as error:
        raise ValueError(
            f"input_size is None, and torch.fx cannot trace the model ({error}); accepted here are the shape of an "
            "input and example_inputs"
        ) from error
    called = (node.target for node in graph.nodes if node.op == "call_module")
    return [name for call in called if (name := call.removeprefix("0").removeprefix(".")) in wanted]


def _run_order(model: nn.Module, wanted: set[str], inputs: meta.Inputs) -> list[str]:
    def attempt(twin: nn.Module) -> list[str]:
        executed: list[str] = []
        for name, module in twin.named_modules():
            if name in wanted:
                module.register_forward_pre_hook(lambda *_, name=name: executed.append(name))
        with torch.no_grad():
            meta.run(twin, inputs)
        return executed

    return meta.without_data(model, attempt)
