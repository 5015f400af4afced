"""The four channel groups of an even kernel: where each pads, and how many channels it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks
from .. import functional as EF
from ..directions import NAMES, Directions, as_directions, numbers
from ..directions import group_sizes as papers_split

_SIGN = "even kernel, directions "
"""How ``padding`` begins where it says what the directions are."""


class ChannelGroups(torch.nn.Module):
    """A layer that pads each of four groups of its input channels towards a corner of the group's own.

    Both ``directions`` and ``group_sizes`` can be set, and both are in the layer's state (the key ``_extra_state``: the
    numbers of the four directions and, unless all are the same, the four sizes). To load a state of other ones is an
    error; a state without them, as older versions wrote it, loads.

    ``padding`` is a text that names the directions. ``torch.nn.Conv2d`` and ``F.conv2d``, which have no such padding,
    refuse it; the constructors here take the directions from it.
    """

    padding: str | tuple[int, ...]

    @property
    def directions(self) -> tuple[str, str, str, str]:
        """The corner that each group pads towards."""
        return self._directions

    @directions.setter
    def directions(self, directions: Directions) -> None:
        self._directions = as_directions(directions)
        self._describe()

    @property
    def group_sizes(self) -> tuple[int, ...] | None:
        """The channels of each group; None, of a layer for any number of channels, is the paper's split."""
        return self._group_sizes

    @group_sizes.setter
    def group_sizes(self, sizes: Sequence[int] | None) -> None:
        channels = getattr(self, "in_channels", None)
        if sizes is None:
            self._group_sizes = None if channels is None else tuple(papers_split(channels))
        else:
            self._group_sizes = _checked_sizes(sizes, channels)
        self._describe()

    def _set_groups(self, directions: Directions, sizes: Sequence[int] | None) -> None:
        self._directions, self._group_sizes = as_directions(directions), None
        self.group_sizes = sizes

    def _describe(self) -> None:
        """What follows from directions and sizes: the text, and what forward asks for at every call."""
        sizes = self._group_sizes
        self._channels = None if sizes is None else sum(sizes)
        self._uniform = sizes is None or len(set(self._directions)) == 1
        self._splits_as_the_operators = self._uniform or [*sizes] == papers_split(self._channels)
        self.padding = _text(self._directions, None if self._splits_as_the_operators else sizes)

    def _by_group(self, x: Tensor, *parameters: Tensor | None) -> Iterator[tuple]:
        """Of every group: its part of ``x`` and of parameters that have the channels first, and its direction."""
        sizes = self._group_sizes
        parts = ([None] * 4 if parameter is None else parameter.split(sizes) for parameter in parameters)
        groups = zip(x.split(sizes, -3), *parts, self._directions)
        return (group for size, group in zip(sizes, groups) if size)

    def _depthwise(self, function: Callable[..., Tensor], stride, x: Tensor, *parameters: Tensor | None) -> Tensor:
        """``function(x, parameters, stride, directions)``, whose parameters have the channels first."""
        self._check_channels(parameters[0], 0)
        if self._splits_as_the_operators:
            return function(x, *parameters, stride, self._directions)
        groups = self._by_group(x, *parameters)
        return torch.cat([function(*parts, stride, direction) for *parts, direction in groups], -3)

    def _dense(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """:func:`~evenconv_cuda.functional.even_conv2d` with this layer's groups."""
        self._check_channels(weight, 1)
        if self._splits_as_the_operators:
            return EF.even_conv2d(x, weight, bias, self.stride, self._directions)
        padded, bias = self._pad(x, weight.shape[-1]), None if bias is None else bias.to(x.dtype)
        return F.conv2d(padded, weight.to(x.dtype), bias, self.stride)

    def _pad(self, x: Tensor, kernel_size: int) -> Tensor:
        if self._splits_as_the_operators:
            return EF.symmetric_pad2d(x, kernel_size, self._directions)
        parts = [EF.symmetric_pad2d(part, kernel_size, direction) for part, direction in self._by_group(x)]
        return torch.cat(parts, -3)

    def _check_channels(self, weight: Tensor, axis: int) -> None:
        """That nobody took channels from the weight and left the groups as they were; what traces has no tensors."""
        if isinstance(weight, Tensor) and self._channels not in (None, weight.shape[axis]):
            raise ValueError(
                f"group_sizes is {self._group_sizes}, of a layer whose weight has {weight.shape[axis]} input channels; "
                "accepted are sizes that sum to them (evenconv_cuda.nn.prune takes channels away from both)"
            )

    def extra_repr(self) -> str:
        names = self._directions[0] if len(set(self._directions)) == 1 else self._directions
        sizes = "" if self._splits_as_the_operators else f", group_sizes={self._group_sizes}"
        others = super().extra_repr().replace(f", padding={self.padding}", "")
        return ", ".join(filter(None, [others, f"directions={names!r}{sizes}"]))

    def get_extra_state(self) -> Tensor:
        device = next((tensor.device for tensor in self.parameters()), torch.device("cpu"))
        return torch.tensor(self._state(), device=device)

    def _state(self) -> list[int]:
        return [*numbers(self._directions), *(() if self._uniform else self._group_sizes)]

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to set: what differs from the layer's is refused before anything is loaded."""

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        key = f"{prefix}_extra_state"
        if (reason := self._conflict(state_dict.get(key))) is not None:
            errors.append(f"{prefix.removesuffix('.') or type(self).__name__}: {reason}")
            return
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        if key in missing:
            missing.remove(key)

    def _conflict(self, state: Tensor | None) -> str | None:
        """Why a state is not this layer's; one on the meta device is anyone's."""
        if state is None or (isinstance(state, Tensor) and state.is_meta):
            return None
        given = state.tolist() if isinstance(state, Tensor) and state.dim() == 1 else []
        if len(given) not in (4, 8) or any(number not in range(len(NAMES)) for number in given[:4]):
            return f"_extra_state is {state!r}; accepted are the numbers of four directions, and four group sizes"
        if given == (own := self._state()):
            return None
        return f"the state has {_words(given)}, the layer {_words(own)}; accepted are equal ones"

    def __setstate__(self, state: dict) -> None:
        """A pickled layer of an older version, whose directions were its own attribute, is read too."""
        directions = state.pop("directions", None)
        super().__setstate__(state)
        if directions is not None:
            self._set_groups(directions, None)


def read_groups(padding, directions: Directions | None, sizes: Sequence[int] | None, default: Directions):
    """A constructor's directions and group sizes, with those that its ``padding`` names.

    Raises:
        ValueError: if ``padding`` says otherwise than ``directions`` or ``group_sizes``.
    """
    if plain_padding(padding) is padding:
        return default if directions is None else directions, sizes
    names, _, counts = padding.removeprefix(_SIGN).partition(" of ")
    names = as_directions(names.split() if " " in names else names)
    counts = [int(count) for count in counts.split()] or None
    if directions is not None and as_directions(directions) != names:
        raise ValueError(f"directions is {directions!r}, padding {padding!r}; accepted is one of them, or equal ones")
    if counts is not None and sizes is not None and [*sizes] != counts:
        raise ValueError(f"group_sizes is {sizes!r}, padding {padding!r}; accepted is one of them, or equal ones")
    return names, counts or sizes


def plain_padding(padding):
    """A constructor's ``padding``, which is ``"same"`` where it names groups."""
    return "same" if isinstance(padding, str) and padding.startswith(_SIGN) else padding


def _text(directions: tuple[str, ...], sizes: tuple[int, ...] | None) -> str:
    names = directions[:1] if len(set(directions)) == 1 else directions
    return _SIGN + " ".join(names) + ("" if sizes is None else " of " + " ".join(map(str, sizes)))


def _words(state: list[int]) -> str:
    sizes = f" of group sizes {tuple(state[4:])}" if state[4:] else ""
    return f"directions {tuple(NAMES[number] for number in state[:4])}{sizes}"


def _checked_sizes(sizes, channels: int | None) -> tuple[int, ...]:
    fits = isinstance(sizes, Sequence) and len(sizes) == 4 and all(checks.integer(s) and s >= 0 for s in sizes)
    if not fits or (channels is not None and sum(sizes) != channels):
        total = "" if channels is None else f" that sum to in_channels, {channels}"
        raise ValueError(f"group_sizes is {sizes!r}; accepted are four whole numbers from 0{total}")
    return tuple(map(int, sizes))
