"""Bytes that autograd saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(forward: Callable[[], object], without: Iterable[Tensor] = ()) -> int:
    """Storages that autograd keeps between the forward and its backward, each once, but none of ``without``."""
    kept: dict[int, Tensor] = {}
    left_out = {tensor.untyped_storage().data_ptr() for tensor in without}

    def note(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # with its graph, a saved result would keep itself alive
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in left_out)
