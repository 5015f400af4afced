"""How far a low-precision result may be from the exact one.

A kernel may err twice as much as the same computation in plain PyTorch at the same precision does, plus a rounding of
the result: it must not be worse than what it replaces. The wider types, whose plain result may by luck be exact, get
the roundings of a sum.
"""

import torch

ROUNDINGS = {torch.float64: 200, torch.float32: 16, torch.float16: 4, torch.bfloat16: 4}


def largest_error(value, exact):
    return (value.double() - exact).abs().max().item() if exact.numel() else 0.0


def check_close(name, value, plain, exact, dtype=None):
    """``value`` of the kernel, ``plain`` of unfused PyTorch in the same dtype, ``exact`` in float64; ``dtype`` of what
    is rounded on the way, if it is not the value's."""
    assert value.shape == exact.shape, f"{name} has shape {tuple(value.shape)}, expected {tuple(exact.shape)}"
    assert torch.isfinite(value).all(), f"{name} is not finite"
    largest = max(exact.abs().max().item(), 1.0) if exact.numel() else 0.0
    dtype = dtype or value.dtype
    rounding = ROUNDINGS[dtype] * torch.finfo(dtype).eps * largest
    allowed = 2 * largest_error(plain, exact) + rounding
    error = largest_error(value, exact)
    assert error <= allowed, f"{name} is off by {error:.3g}; allowed is {allowed:.3g}"
