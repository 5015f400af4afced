"""An operator against its definition."""

import definition
import torch
from cases import as_float64, gradient_like, outputs
from tolerance import check_close

from evenconv_cuda import functional, reference


def check(case, grad=None):
    """The fused operator's result and every gradient against the definition; the reference's too. ``grad`` is the
    result's gradient, random if not given."""
    tensors = case.inputs()
    grad = gradient_like(case.run(reference, tensors)) if grad is None else grad
    fused = outputs(case, functional, tensors, grad)
    plain = outputs(case, reference, tensors, grad)
    exact = outputs(case, definition, as_float64(tensors), grad)
    for name, value in fused.items():
        check_close(name, value, plain[name], exact[name], case.dtype)
        assert value.dtype == (case.dtype if name in ("x", "y") else case.weight_dtype or case.dtype)
    if case.dtype == torch.float64:
        for name, value in plain.items():
            check_close(f"reference {name}", value, exact[name], exact[name])


def same_bits(a, b):
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.shape == b.shape and torch.equal(a.contiguous().view(whole), b.contiguous().view(whole))
