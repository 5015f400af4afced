"""Existing models with this package's layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from .nn import XSepConv2d, XSepConv2dNormActivation
from .plan import PaddingReport, apply_padding_plan
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
    """One layer and its replacement; MACs are None where no ``input_size`` was given."""

    name: str
    before: str
    after: str
    params: tuple[int, int]
    macs: tuple[int, int] | None


@dataclass(frozen=True)
class Conversion:
    """What :func:`convert` changed, or in a dry run would change."""

    changes: tuple[Change, ...]
    params: tuple[int, int]
    """Of the model, before and after."""
    macs: tuple[int, int] | None
    padding: PaddingReport | None
    """Of the XSepConv layers, where there are any."""

    def __str__(self) -> str:
        title = ("layer", "before", "after", "params", "", *(["MACs", ""] if self.macs else []))
        rows = [(c.name, c.before, c.after, *c.params, *(c.macs or ())) for c in self.changes]
        total = ("model", "", "", *self.params, *(self.macs or ()))
        parts = [table([title, *rows, total], text=3)]
        if self.padding is not None:
            parts.append(f"padding plan:\n{self.padding}")
        return "\n\n".join(parts)


def convert(
    model: nn.Module,
    *rules: str | Rule,
    input_size: Sequence[int] | None = None,
    dry_run: bool = False,
) -> Conversion:
    """Replace layers of ``model`` by this package's, in place.

    >>> convert(model, "c2sp", "xsepconv", input_size=(1, 3, 224, 224), dry_run=True)  # prints what would change
    >>> convert(model, Rule("doconv", where="layer4.*"))

    The first rule that matches a layer decides. If any rule matches nothing, or a layer that it matches cannot be
    converted, nothing changes at all. Where layers become XSepConv, the padding plan is applied to all that the model
    then has. Weights that layers share become each layer's own; convert before torch.compile, DDP and optimizers.

    Args:
        model: a module that is not itself the layer to replace.
        rules: names of targets (:data:`~evenconv_cuda.rules.TARGETS`) or :class:`~evenconv_cuda.rules.Rule`.
        input_size: shape of an input, to count MACs and to find the order of XSepConv layers where ``torch.fx`` cannot.
        dry_run: print the table of changes and leave the model as it is.

    Returns:
        Every change, with params and, given ``input_size``, MACs before and after; ``print`` shows it as a table.

    Raises:
        ValueError: naming the rule or the layer, and the reason.
    """
    random_state = torch.get_rng_state()
    replacements = _choose(model, [rule if isinstance(rule, Rule) else Rule(rule) for rule in rules])
    names = {layer: name for name, layer in model.named_modules() if layer in replacements}
    params_before, before = _params(model), None if input_size is None else profile(model, input_size)
    with ExitStack() as undo:
        undo.callback(torch.set_rng_state, random_state)
        undo.callback(
            _restore, {layer: layer.directions for layer in model.modules() if isinstance(layer, XSEP_LAYERS)}
        )
        undo.callback(put_back, replace_layers(model, replacements))
        padding = None
        if any(isinstance(layer, XSEP_LAYERS) for new in replacements.values() for layer in new.modules()):
            padding = apply_padding_plan(model, input_size, XSEP_LAYERS)
        params_after, after = _params(model), None if input_size is None else profile(model, input_size)
        changes = []
        for old, new in replacements.items():
            name = names[old]
            macs = (before.within(name).macs, after.within(name).macs) if before else None
            changes.append(Change(name, _shown(old), _shown(new), (_params(old), _params(new)), macs))
        macs = (before.macs, after.macs) if before else None
        conversion = Conversion(tuple(changes), (params_before, params_after), macs, padding)
        if dry_run:
            print(conversion)
        else:
            undo.pop_all()
    return conversion


def _choose(model: nn.Module, rules: list[Rule]) -> dict[nn.Module, nn.Module]:
    """Each layer that a rule matches, with its replacement."""
    if not rules:
        raise ValueError("rules are empty; accepted is at least one target's name or Rule")
    names: dict[nn.Module, list[str]] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        names.setdefault(layer, []).append(name)
    chosen: dict[nn.Module, nn.Module] = {}
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
            chosen[layer] = rules[number].replacement(layer)
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
