"""A record of what was converted, which travels in the model's ``state_dict`` under :data:`KEY`.

The weights of a converted model fit no other. Its state says so: :func:`~evenconv_cuda.convert_like` converts another
model by it, the model itself refuses a state of other layers, strict loading or not, and a model that was not converted
meets an unexpected key. States without a record load as ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .directions import as_directions

KEY = "evenconv_cuda_conversion"

MAX_BYTES = 1 << 20
"""Of a record that is read."""

Step = list[dict[str, Any]]
"""One conversion: of every layer its name (``layer``), its target (``to``; None is a function of the user's) and, as
they are when the state is saved, its ``directions``, if it has any."""


def add(model: nn.Module, step: Step) -> None:
    """Add a conversion to what ``model`` records."""
    if not hasattr(model, KEY):
        model.register_state_dict_post_hook(_save)
        model.register_load_state_dict_pre_hook(_check)
    setattr(model, KEY, [*getattr(model, KEY, []), step])


def forget(model: nn.Module) -> None:
    """Remove the records of ``model`` and the modules inside it."""
    for module in model.modules():
        if hasattr(module, KEY):
            delattr(module, KEY)
            for hooks, own in ((module._state_dict_hooks, _save), (module._load_state_dict_pre_hooks, _check)):
                for key in [key for key, hook in hooks.items() if getattr(hook, "hook", hook) is own]:
                    del hooks[key]


def read(state_dict: Mapping[str, Any]) -> list[Step]:
    """The record of a model's state.

    Raises:
        ValueError: if there is none, or one that cannot be read.
    """
    if KEY not in state_dict:
        raise ValueError(f"state_dict has no {KEY!r}; accepted is the state of a model that was converted")
    try:
        return _decoded(state_dict[KEY])
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{KEY} of state_dict cannot be read: {error}") from error


def converted_layer(model: nn.Module, name: str) -> nn.Module | None:
    """The layer with weights that stands where a record says, None where none does any more."""
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        return None
    return getattr(layer, "conv", layer)  # behind a pool


def _decoded(encoded: Tensor) -> list[Step]:
    if encoded.dtype != torch.uint8 or encoded.dim() != 1 or encoded.numel() > MAX_BYTES:
        raise ValueError(f"it has shape {tuple(encoded.shape)} and dtype {encoded.dtype}; accepted are bytes")
    steps = json.loads(bytes(encoded.tolist()))
    for step in steps:
        for entry in step:
            if not isinstance(entry["layer"], str) or not isinstance(entry["to"], str | None):
                raise ValueError(f"it has the entry {entry}; accepted are names")
            if "directions" in entry:
                as_directions(entry["directions"])
    return steps


def _save(module: nn.Module, state_dict: dict, prefix: str, local_metadata) -> None:
    steps = [[_with_directions(module, entry) for entry in step] for step in getattr(module, KEY)]
    encoded = json.dumps(steps, separators=(",", ":")).encode()
    state_dict[prefix + KEY] = torch.tensor(list(encoded), dtype=torch.uint8, device="cpu")


def _with_directions(module: nn.Module, entry: dict) -> dict:
    directions = getattr(converted_layer(module, entry["layer"]), "directions", None)
    return entry if directions is None else {**entry, "directions": list(directions)}


def _check(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
    own = [[(entry["layer"], entry["to"]) for entry in step] for step in getattr(module, KEY)]
    encoded = state_dict.pop(prefix + KEY, None)
    if encoded is not None:
        try:
            saved = [[(entry["layer"], entry["to"]) for entry in step] for step in read({KEY: encoded})]
        except ValueError as error:
            errors.append(str(error))
            return
        if saved != own:
            errors.append(f"{prefix}{KEY}: the state is of a model converted otherwise ({_difference(saved, own)})")
        return
    for name in sorted({name for step in own for name, _ in step}):
        if f"{prefix}{name}.weight" in state_dict and _lacks_weight(module, name):
            errors.append(
                f"{prefix}{name}.weight is of the layer before convert(); accepted is the state of a converted model "
                "(load this one before converting)"
            )


def _lacks_weight(module: nn.Module, name: str) -> bool:
    return converted_layer(module, name) is not None and "weight" not in module.get_submodule(name)._parameters


def _difference(saved: list, own: list) -> str:
    first, second = ({entry for step in steps for entry in step} for steps in (saved, own))
    if first == second:
        return "in another order"
    parts = [f"{name} to {to}, which this model's record lacks" for name, to in sorted(first - second, key=str)[:3]]
    parts += [f"not {name} to {to}" for name, to in sorted(second - first, key=str)[:3]]
    return "; ".join(parts)
