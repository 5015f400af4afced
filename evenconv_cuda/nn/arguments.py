"""Checks of the layers' arguments."""

from __future__ import annotations

Padding = str | int | tuple[int, int]
"""``"same"``, a layer's own ``padding``, or for odd kernels half of them; a text for even kernels."""


def check_fixed(padding, dilation, padding_mode, odd_kernel: int | None = None) -> None:
    """That what the layer fixes has its value; padding by half an odd kernel keeps H×W, and so says the same."""
    half = None if odd_kernel is None else odd_kernel // 2
    if padding != "same" and (half is None or padding not in (half, (half, half), [half, half])):
        also = ", where `directions` say on which sides" if half is None else f" and kernel_size // 2, {half}"
        raise ValueError(f"padding is {padding!r}; accepted is 'same'{also}")
    if dilation not in (1, (1, 1), [1, 1]):
        raise ValueError(f"dilation is {dilation!r}; accepted is 1")
    if padding_mode != "zeros":
        raise ValueError(f"padding_mode is {padding_mode!r}; accepted is 'zeros'")


def check_depthwise(in_channels: int, out_channels: int, groups: int | None) -> None:
    if out_channels != in_channels:
        raise ValueError(f"out_channels is {out_channels}; accepted is in_channels, {in_channels} (a depthwise layer)")
    if groups not in (None, in_channels):
        raise ValueError(f"groups is {groups}; accepted is in_channels, {in_channels} (a depthwise layer)")


def check_kernel(kernel_size, fixed: int) -> None:
    if square(kernel_size) != fixed:
        raise ValueError(f"kernel_size is {kernel_size!r}; accepted is {fixed}")


def check_choice(argument: str, given, accepted) -> None:
    if not isinstance(given, str) or given not in accepted:
        raise ValueError(f"{argument} is {given!r}; accepted are {', '.join(map(repr, accepted))}")


def square(kernel_size) -> int:
    """A kernel size that is an int or a pair of equal ones."""
    if isinstance(kernel_size, (tuple, list)) and len(kernel_size) == 2 and kernel_size[0] == kernel_size[1]:
        return kernel_size[0]
    if isinstance(kernel_size, (tuple, list)):
        raise ValueError(f"kernel_size is {kernel_size!r}; accepted are an int or a pair of equal ints")
    return kernel_size
