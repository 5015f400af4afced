"""Existing models with this package's layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from . import meta, record
from .calibrate import estimate_statistics_
from .directions import as_directions
from .fit import INITS
from .nn import XSepConv2d, XSepConv2dNormActivation
from .plan import PaddingReport, plan_directions
from .profile import profile
from .rules import Rule
from .surgery import put_back, replace_layers
from .text import table

XSEP_LAYERS = (XSepConv2d, XSepConv2dNormActivation)
"""The layers that the padding plan of arXiv 2002.12046 is for."""

SHOWN_REASONS = 5
"""How many layers an error about a rule without matches gives reasons for."""


@dataclass(frozen=True)
class Change:
    """One layer and its replacement; MACs are None where no input was given."""

    name: str
    before: str
    after: str
    params: tuple[int, int]
    macs: tuple[int, int] | None
    error: float | None
    """How far the new kernel is from the old one, relative to it, as :mod:`evenconv_cuda.fit` measures it; None for
    functions and on the meta device."""


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` changed, or in a dry run would change."""

    changes: tuple[Change, ...]
    params: tuple[int, int]
    """Of the model, before and after."""
    macs: tuple[int, int] | None
    padding: PaddingReport | None
    """Of the XSepConv layers that were planned, where there are any."""

    def __str__(self) -> str:
        title = ("layer", "before", "after", "error", "params", "", *(["MACs", ""] if self.macs else []))
        rows = [
            (c.name, c.before, c.after, "" if c.error is None else f"{c.error:.3f}", *c.params, *(c.macs or ()))
            for c in self.changes
        ]
        total = ("model", "", "", "", *self.params, *(self.macs or ()))
        parts = [table([title, *rows, total], text=3)]
        if self.padding is not None:
            parts.append(f"padding plan:\n{self.padding}")
        return "\n\n".join(parts)


def convert(
    model: nn.Module,
    *rules: str | Rule,
    input_size: Sequence[int] | None = None,
    example_inputs: meta.ExampleInputs | None = None,
    init: str = "fit",
    calibrate: Iterable[meta.ExampleInputs] | None = None,
    replan: bool = False,
    dry_run: bool = False,
) -> Conversion:
    """Replace layers of ``model`` by this package's, in place.

    >>> convert(model, "c2sp", "xsepconv", input_size=(1, 3, 224, 224), dry_run=True)  # prints what would change
    >>> convert(model, Rule("doconv", where="layer4.*"))

    The first rule that matches a layer decides. If any rule matches nothing, or a layer that it matches cannot be
    converted, nothing changes at all. Where layers become XSepConv, the padding plan is applied to these. Weights that
    layers share become each layer's own; convert before torch.compile, DDP and optimizers.

    The model's ``state_dict`` then has a record of all conversions, ``evenconv_cuda_conversion``, by which
    :func:`convert_like` converts another model so that the state loads.

    Args:
        model: a module that is not itself the layer to replace.
        rules: names of targets (:data:`~evenconv_cuda.rules.TARGETS`) or :class:`~evenconv_cuda.rules.Rule`.
        input_size: shape of an input, to count MACs and to find the order of XSepConv layers where ``torch.fx`` cannot.
        example_inputs: what the model is called with, in place of ``input_size``: a tensor, a tuple of arguments or a
            dict of keyword arguments. Values of tensors do not matter.
        init: the weights of even and separated layers: ``"fit"``, the nearest to the kernel that is replaced, with its
            norm per output channel, so that a trained network keeps much of what it had learned and one without
            normalisation its scale; ``"scale"``, new ones of that norm; ``"fresh"``, new ones. The bias stays, except
            with ``"fresh"``.
        calibrate: batches of what the model is called with, each as ``example_inputs``, by which the running statistics
            of its batch normalisations are estimated anew, as a converted network needs before it is evaluated. Not
            used in a dry run.
        replan: apply the padding plan to all XSepConv layers that the model then has, those too that were there before
            or come from a rule's function, whose directions stay otherwise.
        dry_run: print the table of changes and leave the model as it is.

    Returns:
        Every change, with its error, params and, given an input, MACs before and after; ``print`` shows it as a table.

    Raises:
        ValueError: naming the rule, the layer or the argument, and the reason.
    """
    if init not in INITS:
        raise ValueError(f"init is {init!r}; accepted are {', '.join(map(repr, INITS))}")
    inputs = meta.inputs_of(model, input_size, example_inputs)
    random_state = torch.get_rng_state()
    chosen = _choose(model, [rule if isinstance(rule, Rule) else Rule(rule) for rule in rules])
    names = {layer: name for name, layer in model.named_modules() if layer in chosen}
    params_before, before = _params(model), _profile(model, input_size, example_inputs)
    with ExitStack() as undo:
        undo.callback(torch.set_rng_state, random_state)
        undo.callback(
            _restore, {layer: layer.directions for layer in model.modules() if isinstance(layer, XSEP_LAYERS)}
        )
        undo.callback(put_back, replace_layers(model, {old: new for old, (_, new) in chosen.items()}))
        planned = {new for rule, new in chosen.values() if rule.to == "xsepconv"}
        if replan:
            planned = {layer for layer in model.modules() if isinstance(layer, XSEP_LAYERS)}
        padding = plan_directions(model, planned, inputs) if planned else None
        errors = {old: _take_over(names[old], old, *choice, init) for old, choice in chosen.items()}
        params_after, after = _params(model), _profile(model, input_size, example_inputs)
        changes = []
        for old, (_, new) in chosen.items():
            name = names[old]
            macs = (before.within(name).macs, after.within(name).macs) if before else None
            changes.append(Change(name, _shown(old), _shown(new), (_params(old), _params(new)), macs, errors[old]))
        macs = (before.macs, after.macs) if before else None
        conversion = Conversion(tuple(changes), (params_before, params_after), macs, padding)
        if dry_run:
            print(conversion)
            return conversion
        if calibrate is not None:
            estimate_statistics_(model, calibrate)
        record.add(model, [_entry(names[old], rule) for old, (rule, _) in chosen.items()])
        undo.pop_all()
    return conversion


def convert_like(model: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Convert ``model``, in place, as the one was whose state this is, so that the state loads.

    >>> model = torchvision.models.convnext_tiny()
    >>> convert_like(model, state)
    >>> model.load_state_dict(state)

    Args:
        model: one that is as the other was before its first conversion; its weights are copied or new.
        state_dict: of the converted model, with its record, as :func:`convert` leaves it.

    Raises:
        ValueError: if there is no record, one that cannot be read, one of layers that a function replaced, or if the
            model has not the layers that it names. Nothing changes then.
    """
    steps = record.read(state_dict)
    with ExitStack() as undo:
        for step in steps:
            _repeat(model, step, undo)
        undo.pop_all()
    for step in steps:
        record.add(model, [{"layer": entry["layer"], "to": entry["to"]} for entry in step])


def _repeat(model: nn.Module, step: record.Step, undo: ExitStack) -> None:
    entries = {entry["layer"]: entry for entry in step}
    if by_function := [name for name, entry in entries.items() if entry["to"] is None]:
        raise ValueError(f"layer {by_function[0]!r} was replaced by a function, which a record does not hold")
    rules = [
        Rule(to, lambda name, _, to=to: name in entries and entries[name]["to"] == to)
        for to in dict.fromkeys(entry["to"] for entry in step)
    ]
    chosen = _choose(model, rules)
    if missing := entries.keys() - {name for name, layer in _named(model) if layer in chosen}:
        raise ValueError(f"model has no convolution {min(missing)!r}, which the state's was converted at")
    undo.callback(put_back, replace_layers(model, {old: new for old, (_, new) in chosen.items()}))
    for name, entry in entries.items():
        if "directions" in entry:
            record.converted_layer(model, name).directions = as_directions(entry["directions"])


def _take_over(name: str, old: nn.Module, rule: Rule, new: nn.Module, init: str) -> float | None:
    try:
        return rule.take_over(new, old, init)
    except ValueError as error:
        raise ValueError(f"layer {name!r} cannot become {rule}: {error}") from error


def _entry(name: str, rule: Rule) -> dict[str, str | None]:
    return {"layer": name, "to": rule.to if isinstance(rule.to, str) else None}


def _profile(model: nn.Module, input_size, example_inputs):
    if input_size is None and example_inputs is None:
        return None
    return profile(model, input_size, example_inputs=example_inputs)


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return model.named_modules(remove_duplicate=False)


def _choose(model: nn.Module, rules: list[Rule]) -> dict[nn.Module, tuple[Rule, nn.Module]]:
    """Each layer that a rule matches, with the rule and the replacement."""
    if not rules:
        raise ValueError("rules are empty; accepted is at least one target's name or Rule")
    names: dict[nn.Module, list[str]] = {}
    for name, layer in _named(model):
        names.setdefault(layer, []).append(name)
    chosen: dict[nn.Module, tuple[Rule, nn.Module]] = {}
    matched: set[int] = set()
    for layer, known_as in names.items():
        if any(layer in outer.modules() for outer in chosen) or (layer is model and not isinstance(layer, nn.Conv2d)):
            continue
        number = _first_match(rules, known_as, layer)
        if number is None:
            continue
        if layer is model:
            raise ValueError(f"model is itself a {type(layer).__name__}; accepted is a model that has it as a layer")
        try:
            chosen[layer] = rules[number], rules[number].replacement(layer)
        except Exception as error:
            raise ValueError(f"layer {known_as[0]!r} cannot become {rules[number]}: {error}") from error
        matched.add(number)
    for number, rule in enumerate(rules):
        if number not in matched:
            raise ValueError(f"rule {rule} takes no layer of the model{_reasons(names, rule, chosen)}")
    return chosen


def _first_match(rules: list[Rule], names: list[str], layer: nn.Module) -> int | None:
    for number, rule in enumerate(rules):
        try:
            if rule.matches(names, layer):
                return number
        except Exception as error:
            raise ValueError(f"rule {rule} cannot be asked about layer {names[0]!r}: {error}") from error
    return None


def _reasons(names: dict[nn.Module, list[str]], rule: Rule, chosen: dict) -> str:
    """Why not the first few convolutions, those that could be taken first."""
    taken = {inner for layer in chosen for inner in layer.modules()}
    convolutions = [layer for layer in names if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        return ", which has no Conv2d"
    convolutions.sort(key=lambda layer: layer in taken or not rule.nearly_matches(layer))
    lines = [f"{names[c][0]}: {'another rule takes it' if c in taken else rule.reason(c)}" for c in convolutions]
    rest = [f"and {len(lines) - SHOWN_REASONS} more"] if len(lines) > SHOWN_REASONS else []
    return ":\n  " + "\n  ".join([*lines[:SHOWN_REASONS], *rest])


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _restore(directions: dict[nn.Module, tuple[str, ...]]) -> None:
    for layer, before in directions.items():
        layer.directions = before


def _shown(layer: nn.Module) -> str:
    if isinstance(layer, nn.Sequential):
        return " + ".join(map(_shown, layer))
    if not hasattr(layer, "kernel_size"):
        return type(layer).__name__
    sizes = layer.kernel_size, getattr(layer, "stride", 1)
    pairs = (pair if isinstance(pair, tuple) else (pair, pair) for pair in sizes)
    kernel, stride = ("×".join(map(str, pair)) for pair in pairs)
    return f"{type(layer).__name__} {kernel}" + (f" / {stride}" if stride != "1×1" else "")
