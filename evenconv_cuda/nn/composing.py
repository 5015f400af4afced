"""DO-Conv's kernel from its factors, and kernels that are kept while the factors stay as they are."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

BLOCK = 4
"""Input channels whose products are one: with 3×3 kernels 2 to 6 times as fast on a CPU as one by one (AVX-512, 64 to
512 channels), though three quarters of what is multiplied are zeros; with 5×5 kernels slower."""


def compose(W: Tensor, D: Tensor, d_diag: Tensor, groups: int) -> Tensor:
    """``K[o, i] = (D + d_diag)[c] @ W[o, i]``, c the input channel of (o, i), (out_channels, in_channels / groups,
    M * N) of W's dtype; sums of the half types are float32."""
    outputs, inputs, S = W.shape
    taps = D.shape[1]
    block = BLOCK if inputs % BLOCK == 0 and taps * S <= 81 else 1
    dtype = torch.promote_types(W.dtype, torch.float32)
    depthwise = (D.to(dtype) + d_diag.to(dtype)).unflatten(0, (-1, block))
    diagonal = torch.diag_embed(depthwise.permute(0, 3, 2, 1)).permute(0, 3, 1, 4, 2)
    factors = W.to(dtype).reshape(groups, outputs // groups, inputs // block, block * S).transpose(1, 2)
    kernels = torch.bmm(factors.flatten(0, 1), diagonal.reshape(-1, block * S, block * taps))
    return kernels.unflatten(0, (groups, -1)).transpose(1, 2).reshape(outputs, inputs, taps).contiguous().to(W.dtype)


class KeptKernels:
    """The last kernel of each layer, for as long as its factors are the same tensors, unchanged.

    Writes through ``.data`` leave no trace in a tensor's version and are not seen. So it is for inference mode alone,
    in which nothing is trained, and a change of the layer's mode clears it.
    """

    def __init__(self):
        self._kept: WeakKeyDictionary[torch.nn.Module, tuple] = WeakKeyDictionary()

    def of(self, layer: torch.nn.Module) -> Tensor:
        factors = (layer.W, layer.D, layer.d_diag)
        if any(factor.is_inference() for factor in factors):  # which have no versions
            return layer._composed()
        state = [(factor.data_ptr(), factor.dtype, factor._version) for factor in factors]
        before, kernel, _ = self._kept.get(layer, (None, None, None))
        if state != before:
            kernel = layer._composed()
            self._kept[layer] = state, kernel, [factor.detach() for factor in factors]  # whose memory stays theirs
        return kernel

    def clear(self, layer: torch.nn.Module) -> None:
        self._kept.pop(layer, None)
