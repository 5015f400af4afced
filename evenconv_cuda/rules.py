"""What an existing convolution can become, and why another cannot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from .checks import MAX_KERNEL
from .fit import take_over_
from .nn import DOConv2d, DOEvenConv2d, EvenConv2d, XSepConv2d, conv2d_of
from .surgery import computes_as, why_not_exchangeable

Where = str | Sequence[str] | Callable[[str, nn.Module], bool] | None


@dataclass(frozen=True)
class Rule:
    """Which layers :func:`~evenconv_cuda.convert` replaces by what.

    Args:
        to: the name of a target (:data:`TARGETS`), or a function from the layer to its replacement, which sees to
            device, dtype and mode itself.
        where: a name pattern or several (``"layer1.*.conv2"``, as in a shell) or a predicate ``(name, layer) -> bool``;
            None is the target's own choice, what its paper replaces. Patterns, and predicates of targets, are asked of
            convolutions alone.
    """

    to: str | Callable[[nn.Module], nn.Module]
    where: Where = None

    def __post_init__(self):
        if not callable(self.to) and not (isinstance(self.to, str) and self.to in TARGETS):
            raise ValueError(f"to is {self.to!r}; accepted are {', '.join(TARGETS)} or a function")
        if callable(self.to) and self.where is None:
            raise ValueError("where is None; accepted beside a function is a name pattern or a predicate")
        if not (self.where is None or callable(self.where) or all(isinstance(name, str) for name in self._patterns())):
            raise ValueError(f"where is {self.where!r}; accepted are a name pattern, several, a predicate and None")

    def __str__(self) -> str:
        to = self.to if isinstance(self.to, str) else getattr(self.to, "__name__", repr(self.to))
        return to if self.where is None else f"{to} where {getattr(self.where, '__name__', self.where)}"

    def matches(self, names: Sequence[str], layer: nn.Module) -> bool:
        """``names`` are all that the model has for the layer."""
        if self.where is None:
            target = TARGETS[self.to]
            return target.refusal(layer) is None and target.reserve(layer) is None
        if not isinstance(layer, nn.Conv2d) and not (callable(self.to) and callable(self.where)):
            return False
        if callable(self.where):
            return any(self.where(name, layer) for name in names)
        return any(fnmatchcase(name, pattern) for name in names for pattern in self._patterns())

    def reason(self, layer: nn.Module) -> str:
        """Why a layer does not match."""
        if self.where is not None:
            return "where leaves it out"
        return TARGETS[self.to].refusal(layer) or f"{TARGETS[self.to].reserve(layer)} (where can name it)"

    def nearly_matches(self, layer: nn.Module) -> bool:
        """Whether a layer could be taken, but is not by default."""
        return self.where is None and TARGETS[self.to].refusal(layer) is None

    def replacement(self, layer: nn.Module) -> nn.Module:
        """The new layer; a target's is on the device, of the dtype, memory format and mode of the old one.

        Raises:
            ValueError: with the reason, where there is none.
        """
        if callable(self.to):
            new = self.to(layer)
            if not isinstance(new, nn.Module):
                raise ValueError(f"the rule returns {new!r}; accepted is a torch.nn.Module")
            return new
        target = TARGETS[self.to]
        if (reason := target.refusal(layer)) is not None:
            raise ValueError(reason)
        new = target.make(layer).train(layer.training)
        weight = layer.weight
        if weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous():
            new = new.to(memory_format=torch.channels_last)
        return new

    def take_over(self, new: nn.Module, layer: nn.Module, init: str) -> float | None:
        """Give a replacement, whose directions are settled, its weights; how far it is from what the layer computed."""
        return None if callable(self.to) or layer.weight.is_meta else TARGETS[self.to].take_over(new, layer, init)

    def _patterns(self) -> Sequence[str]:
        return self.where if isinstance(self.where, (list, tuple)) else [self.where]


@dataclass(frozen=True)
class Target:
    """A kind of layer to convert to."""

    refusal: Callable[[nn.Module], str | None]
    """Why a layer cannot become one, or None."""
    reserve: Callable[[nn.Conv2d], str | None]
    """Why a rule without ``where`` leaves a layer that could, or None."""
    make: Callable[[nn.Conv2d], nn.Module]
    take_over: Callable[[nn.Module, nn.Conv2d, str], float]
    """Gives what ``make`` made the weights that an ``init`` names; the relative error of the kernel."""


def _not_centred(layer: nn.Module) -> str | None:
    """Why this is no square convolution that keeps the centre of its kernel over the pixel."""
    if not computes_as(layer, nn.Conv2d):
        return f"its type is {type(layer).__name__}; accepted is torch.nn.Conv2d"
    if (reason := why_not_exchangeable(layer)) is not None:
        return reason
    rows, columns = layer.kernel_size
    if rows != columns or rows % 2 == 0:
        return f"kernel_size is {layer.kernel_size}; accepted are pairs of one odd number"
    if layer.padding != "same" and layer.padding != (rows // 2, rows // 2):
        return f"padding is {layer.padding}; accepted is kernel_size // 2, {rows // 2}"
    if any(step not in (1, 2) for step in layer.stride):
        return f"stride is {layer.stride}; accepted are 1 and 2"
    if layer.dilation != (1, 1):
        return f"dilation is {layer.dilation}; accepted is 1"
    if layer.padding_mode != "zeros":
        return f"padding_mode is {layer.padding_mode!r}; accepted is 'zeros'"
    return None


def _not_dense(layer: nn.Module) -> str | None:
    if (reason := _not_centred(layer)) is not None:
        return reason
    return None if layer.groups == 1 else f"groups is {layer.groups}; accepted is 1 (a dense convolution)"


def _not_depthwise(layer: nn.Module) -> str | None:
    if (reason := _not_centred(layer)) is not None:
        return reason
    if not layer.groups == layer.in_channels == layer.out_channels:
        channels = f"in_channels {layer.in_channels}, out_channels {layer.out_channels}, groups {layer.groups}"
        return f"it has {channels}; accepted are three equal numbers (a depthwise convolution)"
    if layer.kernel_size[0] > MAX_KERNEL:
        return f"kernel_size is {layer.kernel_size}; accepted are odd numbers to {MAX_KERNEL}"
    return None


def _not_convolution(layer: nn.Module) -> str | None:
    if computes_as(layer, nn.Conv2d) or computes_as(layer, EvenConv2d):
        return why_not_exchangeable(layer)
    return f"its type is {type(layer).__name__}; accepted are torch.nn.Conv2d and EvenConv2d"


def _not_usual_dense(layer: nn.Conv2d) -> str | None:
    if layer.kernel_size != (3, 3):
        return f"kernel_size is {layer.kernel_size}; by default 3×3"
    if layer.in_channels < 4:
        return f"in_channels is {layer.in_channels}; by default at least 4, one for each group"
    return None


def _not_usual_depthwise(layer: nn.Conv2d) -> str | None:
    least = 5 if layer.stride == (1, 1) else 7
    if layer.kernel_size[0] >= least:
        return None
    return f"kernel_size is {layer.kernel_size} at stride {layer.stride}; by default {least}×{least} and larger"


def _not_usual_doconv(layer: nn.Conv2d) -> str | None:
    return "kernel_size is (1, 1); by default larger ones" if layer.kernel_size == (1, 1) else None


def _place(layer: nn.Conv2d) -> dict:
    return {"bias": layer.bias is not None, "device": layer.weight.device, "dtype": layer.weight.dtype}


def _even(kind: str) -> Target:
    def make(layer: nn.Conv2d) -> nn.Module:
        conv = conv2d_of(kind, layer.in_channels, layer.out_channels, **_place(layer))
        if layer.stride == (1, 1):
            return conv
        pool = nn.AvgPool2d(layer.stride, ceil_mode=True)  # as the authors do, who never stride C2sp
        return nn.Sequential(OrderedDict(pool=pool, conv=conv))

    def take_over(new: nn.Module, layer: nn.Conv2d, init: str) -> float:
        return take_over_(new if isinstance(new, EvenConv2d) else new.conv, layer, init, pool=layer.stride)

    return Target(_not_dense, _not_usual_dense, make, take_over)


def _make_xsep(layer: nn.Conv2d) -> nn.Module:
    return XSepConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, **_place(layer))


def _make_doconv(layer: nn.Conv2d) -> nn.Module:
    arguments = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation
    if isinstance(layer, EvenConv2d):
        new = DOEvenConv2d(*arguments, directions=layer.directions, **_place(layer))
    else:
        new = DOConv2d(*arguments, groups=layer.groups, padding_mode=layer.padding_mode, **_place(layer))
    new.load_plain_(layer)
    return new


TARGETS = {
    **{kind: _even(kind) for kind in ("c2", "c2sp", "c4", "c4sp")},
    "xsepconv": Target(_not_depthwise, _not_usual_depthwise, _make_xsep, take_over_),
    "doconv": Target(_not_convolution, _not_usual_doconv, _make_doconv, lambda new, layer, init: 0.0),
}
"""The targets of rules by name.

- ``"c2sp"``, ``"c4sp"``, ``"c2"``, ``"c4"``: dense 3×3 convolutions of at least 4 channels become
  :class:`~evenconv_cuda.nn.EvenConv2d`; a stride becomes an average pool before it, as in the authors' networks. By
  ``where`` any dense odd convolution that pads by half its kernel.
- ``"xsepconv"``: depthwise K×K convolutions, K ≥ 5, or at a stride K ≥ 7, where XSepConv saves, become
  :class:`~evenconv_cuda.nn.XSepConv2d`, in the directions of the padding plan. By ``where`` any odd K to 31.
- ``"doconv"``: every convolution but 1×1 becomes :class:`~evenconv_cuda.nn.DOConv2d`, C2sp and C4sp
  :class:`~evenconv_cuda.nn.DOEvenConv2d`, which compute what they did. By ``where`` 1×1 too: they gain nothing, but
  their parameter is called W then, as in checkpoints of networks that have DO-Conv throughout.

The weights of the even and separated layers are those that ``convert``'s ``init`` names, to be trained even where the
layer's were frozen; those of DO-Conv are the layer's own, copied, and frozen where the layer's are.
"""
