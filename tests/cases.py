"""Inputs for the operators: one way to make them for every test."""

from dataclasses import dataclass, field

import places
import torch

OPERATORS = ("symmetric_pad2d", "even_depthwise_conv2d", "even_conv2d", "separable_depthwise_conv2d", "xsep_conv2d")
CONVOLUTIONS = tuple(name for name in OPERATORS if name != "symmetric_pad2d")
REGISTERED = tuple(name for name in OPERATORS if name != "even_conv2d")
DIRECTIONS = ("BR", "TL", "BL", "TR", ("BR", "TL", "BL", "TR"), ("TR", "TR", "BL", "TL"))
LAYOUTS = ("contiguous", "channels_last", "sliced", "sliced_channels_last", "transposed")
ODD_LAYOUTS = ("misaligned", "misaligned_channels_last", "expanded")


@dataclass(frozen=True)
class Case:
    """One call of an operator: sizes and options. ``even`` is k, ``band`` is K or the row's and the column's; ``bands``
    says which of these exist."""

    operator: str
    shape: tuple = (2, 6, 9, 8)
    even: int = 2
    band: int | tuple = 5
    bands: str = "both"
    stride: int | tuple = 1
    directions: object = ("BR", "TL", "BL", "TR")
    bias: bool = True
    layout: str = "contiguous"
    dtype: torch.dtype = torch.float32
    weight_dtype: torch.dtype | None = None
    seed: int = field(default=0, compare=False)

    def inputs(self):
        """The tensor arguments by name, leaves that want gradients (None where an argument is left out)."""
        generator = torch.Generator().manual_seed(self.seed)
        C = self.shape[1]

        def weight(*size):
            values = torch.randn(size, generator=generator, dtype=torch.float64) / (size[-1] * size[-2]) ** 0.5
            return values.to(places.device(), self.weight_dtype or self.dtype).requires_grad_()

        def bias(n):
            return weight(n, 1, 1).detach().flatten().requires_grad_() if self.bias else None

        tensors = {"x": as_layout(self.shape, self.layout, self.dtype, generator)}
        if self.operator == "even_depthwise_conv2d":
            tensors |= {"weight": weight(C, 1, self.even, self.even), "bias": bias(C)}
        elif self.operator == "even_conv2d":
            tensors |= {"weight": weight(C + 1, C, self.even, self.even), "bias": bias(C + 1)}
        elif self.operator != "symmetric_pad2d":
            if self.operator == "xsep_conv2d":
                tensors |= {"weight_even": weight(C, 1, self.even, self.even), "bias_even": bias(C)}
            row, col = self.bands in ("both", "row"), self.bands in ("both", "col")
            width, height = self.band if isinstance(self.band, tuple) else (self.band, self.band)
            tensors |= {"weight_row": weight(C, 1, 1, width) if row else None, "bias_row": bias(C) if row else None}
            tensors |= {"weight_col": weight(C, 1, height, 1) if col else None, "bias_col": bias(C) if col else None}
        return tensors

    def options(self):
        """The other arguments by name."""
        if self.operator == "symmetric_pad2d":
            return {"kernel_size": self.even, "directions": self.directions}
        if self.operator == "separable_depthwise_conv2d":
            return {"stride": self.stride}
        return {"stride": self.stride, "directions": self.directions}

    def run(self, module, tensors):
        """The operator of ``module`` (functional, reference or definition) on these tensors."""
        return getattr(module, self.operator)(**tensors, **self.options())


def as_layout(shape, layout, dtype, generator=None):
    """A random leaf of this shape whose memory lies as ``layout`` says."""
    N, C, H, W = shape

    def random(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64).to(places.device(), dtype)

    if layout == "channels_last":
        x = random(*shape).to(memory_format=torch.channels_last)
    elif layout == "sliced":
        x = random(N, C + 2, 2 * H, W + 3)[:, 1 : C + 1, ::2, 2 : W + 2]
    elif layout == "sliced_channels_last":
        x = random(N, C + 2, 2 * H, W + 3).to(memory_format=torch.channels_last)[:, 1 : C + 1, ::2, 2 : W + 2]
    elif layout == "transposed":
        x = random(N, C, W, H).transpose(2, 3)
    elif layout == "misaligned":
        x = random(N * C * H * W + 1)[1:].view(shape)
    elif layout == "misaligned_channels_last":
        x = random(N * H * W * C + 1)[1:].view(N, H, W, C).permute(0, 3, 1, 2)
    elif layout == "expanded":
        x = random(1, C, 1, W).expand(shape)
    else:
        x = random(*shape)
    return x.detach().requires_grad_()


def given(tensors):
    """The tensors that are there."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def as_float64(tensors):
    """Fresh float64 leaves of the same values."""
    return {
        name: None if tensor is None else tensor.detach().double().requires_grad_() for name, tensor in tensors.items()
    }


def outputs(case, module, tensors, grad=None):
    """Result and gradients by name. ``grad`` is the result's gradient, ones that vary if not given."""
    y = case.run(module, tensors)
    if grad is None:
        grad = gradient_like(y)
    leaves = given(tensors)
    gradients = torch.autograd.grad(y, list(leaves.values()), grad.to(y.dtype))
    return {"y": y.detach(), **dict(zip(leaves, gradients))}


def gradient_like(y):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.device, y.dtype)
