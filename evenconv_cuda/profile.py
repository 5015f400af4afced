"""What a model costs, layer by layer: parameters, multiply-accumulates, bytes kept for backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from . import meta
from .text import table


@dataclass
class LayerProfile:
    """One module's own share, without that of the modules inside it."""

    name: str
    type: str
    output_shape: tuple[int, ...] = ()
    params: int = 0
    macs: int = 0
    saved_bytes: int = 0


@dataclass(frozen=True)
class Profile:
    """The layers in the order of ``named_modules``, those that cost nothing left out."""

    input_size: tuple[int, ...] | None
    """None where examples were given."""
    layers: tuple[LayerProfile, ...]

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def saved_bytes(self) -> int:
        return sum(layer.saved_bytes for layer in self.layers)

    def within(self, name: str) -> Profile:
        """The part of the module called ``name`` and of those inside it."""
        if not name:
            return self
        inside = (layer for layer in self.layers if layer.name == name or layer.name.startswith(f"{name}."))
        return Profile(self.input_size, tuple(inside))

    def __str__(self) -> str:
        title = ("layer", "type", "output", "params", "MACs", "saved bytes")
        rows = [
            (
                layer.name,
                layer.type,
                "×".join(map(str, layer.output_shape)),
                layer.params,
                layer.macs,
                layer.saved_bytes,
            )
            for layer in self.layers
        ]
        total = ("total", "", "", self.params, self.macs, self.saved_bytes)
        return table([title, *rows, total], text=3)


def profile(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    example_inputs: meta.ExampleInputs | None = None,
) -> Profile:
    """Count a forward with gradients, without running it: shapes on the meta device are enough.

    Per layer and in total (``print`` shows a table):

    - params: numbers in its parameters, shared ones counted where they are met first.
    - MACs: multiply-accumulates of convolutions, linear layers and matrix products, by
      ``torch.utils.flop_counter.FlopCounterMode``. Folding is a part of a DO-Conv layer's, once per forward;
      ``to_standard(model)`` has none.
    - saved bytes: activations that autograd keeps for backward, each counted once, with the layer that first keeps it;
      parameters and buffers not counted. Theoretical: what the running kernels allocate beside it is not in it.

    Args:
        model: left as it is, and counted in the mode, training or eval, that it is in. Its forward hooks run, without
            data, only if it does not run without them.
        input_size: shape of the input, batch included, as ``(1, 3, 224, 224)``, in the dtype of the parameters.
        example_inputs: what the model is called with, in place of ``input_size``: a tensor, a tuple of arguments or a
            dict of keyword arguments. Values of tensors do not matter.

    Raises:
        ValueError: if the model does not run on such an input.
    """
    inputs = meta.inputs_of(model, input_size, example_inputs)
    if inputs is None:
        raise ValueError("input_size and example_inputs are both None; accepted is one of them")
    return Profile(input_size and tuple(input_size), meta.without_data(model, lambda twin: _layers(twin, inputs)))


def _layers(twin: nn.Module, inputs: meta.Inputs) -> tuple[LayerProfile, ...]:
    layers = {module: LayerProfile(name, type(module).__name__) for name, module in twin.named_modules()}
    _count_parameters(layers)
    parameters = {tensor.untyped_storage()._cdata for tensor in chain(twin.parameters(), twin.buffers())}
    running = [layers[twin]]
    kept: dict[int, Tensor] = {}
    counter = FlopCounterMode(display=False)
    counted = 0

    def note_macs() -> None:
        nonlocal counted
        total = counter.get_total_flops() // 2
        running[-1].macs += total - counted
        counted = total

    def enter(module, _) -> None:
        note_macs()
        running.append(layers[module])

    def leave(module, _, output) -> None:
        note_macs()
        running.pop()
        if isinstance(output, Tensor):
            layers[module].output_shape = tuple(output.shape)

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters and storage._cdata not in kept:
            kept[storage._cdata] = tensor  # which keeps the address from being used again
            running[-1].saved_bytes += storage.nbytes()
        return tensor

    for module in layers:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    with torch.enable_grad(), counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        meta.run(twin, inputs)
    return tuple(layer for layer in layers.values() if layer.params or layer.macs or layer.saved_bytes)


def _count_parameters(layers: dict[nn.Module, LayerProfile]) -> None:
    counted: set[Tensor] = set()
    for module, layer in layers.items():
        own = set(module.parameters(recurse=False)) - counted
        layer.params = sum(parameter.numel() for parameter in own)
        counted |= own
