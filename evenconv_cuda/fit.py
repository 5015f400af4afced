"""Weights of even and separated layers from the convolution that they replace.

Both kernels are laid on one canvas of pixel offsets and compared by what they do to a map: the distance of ``K`` and
``K'`` is the standard deviation of ``(K - K') * x`` for maps of unit variance in which pixels at the offset (i, j)
correlate by ``CORRELATION ** (|i| + |j|)`` and channels do not. On white maps (correlation 0) the nearest 2×2 to a 3×3
is the restriction to its corner, which forgets what the other taps saw; on maps like features, the taps that remain
take over what they can tell of their neighbours, and the response to flat regions stays. Derived; no paper converts
trained networks.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn

from .directions import padding
from .nn import EvenConv2d, XSepConv2d

CORRELATION = 0.5
"""Of neighbouring pixels. A digits network keeps more of its accuracy at .5 than at 0 or .9."""

ITERATIONS = 50
"""Of alternating least squares; more of them change the distance by under one per cent."""

INITS = ("fit", "scale", "fresh")


@torch.no_grad()
def take_over_(layer: EvenConv2d | XSepConv2d, plain: nn.Conv2d, init: str, pool: tuple[int, int] = (1, 1)) -> float:
    """Weights and bias for ``layer`` in the place of ``plain``; see ``init`` of :func:`~evenconv_cuda.convert`.

    ``"fit"`` is the nearest kernel, each output channel then scaled to the norm of the kernel that was replaced:
    nearest alone would have less of it, and a network without normalisation would fade with every layer.

    Args:
        layer: on any device but meta.
        pool: height and width of the average pool before ``layer`` that has the stride of ``plain``.

    Returns:
        The distance of the two kernels, relative to the norm of the replaced one.

    Raises:
        ValueError: if a weight to take over has values that are not finite.
    """
    kernel = plain.weight.detach().to("cpu", torch.float64)
    form = (_Separated if isinstance(layer, XSepConv2d) else _Even)(layer, kernel, pool)
    parameters = [getattr(layer, name) for name in form.weights]
    if init != "fresh":
        if not kernel.isfinite().all():
            raise ValueError("its weight has values that are not finite; accepted then is init='fresh'")
        weights = form.nearest() if init == "fit" else _exact(parameters)
        for parameter, weight in zip(parameters, form.scaled(weights), strict=True):
            parameter.copy_(weight)
        biases = [getattr(layer, name) for name in form.biases] if plain.bias is not None else []
        for bias in biases:
            bias.zero_()
        if biases:
            biases[-1].copy_(plain.bias)
    distance = (form.composed(_exact(parameters)) - form.target).norm()
    return (distance / form.target.norm()).item() if distance else 0.0


def _exact(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.to("cpu", torch.float64) for parameter in parameters]


class _Form:
    """How a layer's weights make a kernel. Kernels on the canvas are (channels, channels, rows, columns), as seen
    through a square root of the correlations, so that distances are Euclidean."""

    weights: tuple[str, ...]
    biases: tuple[str, ...]

    def __init__(self, layer: nn.Module, kernel: Tensor, extent: tuple[tuple[int, int], tuple[int, int]]):
        """``extent`` is how far the canvas reaches before and behind the pixel, in rows and in columns."""
        self.layer, self.size = layer, kernel.shape[-1]
        self._before = [before for before, _ in extent]
        self._root = [_root_of_correlations(before + 1 + behind) for before, behind in extent]
        rows, columns = (self._taps(axis, range(-(self.size // 2), self.size // 2 + 1)) for axis in (0, 1))
        self.target = rows @ kernel @ columns.T

    def _together(self, parts, dimension: int) -> Tensor:
        """The groups' channels in the layer's order."""
        order = torch.cat([channels for channels, *_ in self._groups]).argsort()
        return torch.cat(list(parts), dimension).index_select(dimension, order)

    def nearest(self) -> list[Tensor]:
        """The weights whose kernel is nearest to the target."""
        raise NotImplementedError

    def composed(self, weights: list[Tensor]) -> Tensor:
        """The kernel that weights make."""
        raise NotImplementedError

    def scaled(self, weights: list[Tensor]) -> list[Tensor]:
        """Weights of the same directions whose kernels have the norms of the target's output channels."""
        wanted, given = (kernel.flatten(1).norm(dim=1) for kernel in (self.target, self.composed(weights)))
        factor = torch.where(given > 1e-6 * wanted, wanted / given, 1.0)
        others = torch.where(factor > 0, factor ** (1 / len(weights)), 1.0)  # a product of zeros could not be trained
        first = factor / others ** (len(weights) - 1)
        return [w * f[:, None, None, None] for w, f in zip(weights, [first, *[others] * (len(weights) - 1)])]

    def _taps(self, axis: int, offsets) -> Tensor:
        """The canvas of each of these offsets, as columns."""
        places = torch.tensor(list(offsets)) + self._before[axis]
        return self._root[axis].T[:, places]

    def _by_direction(self, kernel_size: int) -> list[tuple[Tensor, tuple[int, int]]]:
        """The channels of each direction, and how far the even kernel reaches before the pixel there."""
        groups: dict[tuple[int, int], list[int]] = {}
        channels = iter(range(self.layer.in_channels))
        for size, direction in zip(self.layer.group_sizes, self.layer.directions):
            top, _, left, _ = padding(kernel_size, direction)
            groups.setdefault((top, left), []).extend(islice(channels, size))
        return [(torch.tensor(members), before) for before, members in groups.items() if members]


class _Even(_Form):
    """A dense even kernel, behind an average pool: linear in its taps, and each axis by itself."""

    weights, biases = ("weight",), ("bias",)

    def __init__(self, layer, kernel, pool):
        half, reach = layer.kernel_size[0] // 2, kernel.shape[-1] // 2
        super().__init__(layer, kernel, [(max(reach, half * step), max(reach, (half + 1) * step - 1)) for step in pool])
        self._groups = [
            (channels, *(self._pooled(axis, before[axis], pool[axis]) for axis in (0, 1)))
            for channels, before in self._by_direction(layer.kernel_size[0])
        ]

    def _pooled(self, axis: int, before: int, step: int) -> Tensor:
        taps = range(-before, self.layer.kernel_size[0] - before)
        return sum(self._taps(axis, [tap * step + pixel for tap in taps]) for pixel in range(step)) / step

    def nearest(self):
        inverse = torch.linalg.pinv
        parts = [inverse(rows) @ self.target[:, group] @ inverse(columns).T for group, rows, columns in self._groups]
        return [self._together(parts, 1)]

    def composed(self, weights):
        return self._together([rows @ weights[0][:, group] @ columns.T for group, rows, columns in self._groups], 1)


class _Separated(_Form):
    """XSepConv's kernel, ``C E Rᵀ``: E is the 2×2, the two columns of C are the K×1 as each row of E shifts it, those
    of R the 1×K likewise. Zeros that the passes put beside the maps between them are left out."""

    weights = ("weight_even", "weight_row", "weight_col")
    biases = ("bias_even", "bias_row", "bias_col")

    def __init__(self, layer, kernel, pool):
        super().__init__(layer, kernel, [(kernel.shape[-1] // 2 + 1,) * 2] * 2)
        self._groups = [
            (channels, before, *(self._shifted(axis, before[axis]) for axis in (0, 1)))
            for channels, before in self._by_direction(2)
        ]

    def _shifted(self, axis: int, before: int) -> Tensor:
        """(2, canvas, K): where the taps of a band go by each tap of the 2×2."""
        half = self.size // 2
        return torch.stack([self._taps(axis, range(tap - before - half, tap - before + half + 1)) for tap in (0, 1)])

    def composed(self, weights):
        even, row, col = (weight[:, 0] for weight in weights)
        parts = [
            _on_canvas(rows, col[group].flatten(1)) @ even[group] @ _on_canvas(columns, row[group].flatten(1)).mT
            for group, _, rows, columns in self._groups
        ]
        return self._together(parts, 0)[:, None]

    def nearest(self):
        parts = [self._alternated(self.target[group, 0], *rest) for group, *rest in self._groups]
        even, row, col = (self._together(part, 0) for part in zip(*parts))
        return [even[:, None], row[:, None, None], col[:, None, :, None]]

    def _alternated(self, target: Tensor, before, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Alternating least squares from the best product of two bands, with the 2×2 at the tap over the pixel."""
        (top, lead), inverse = before, torch.linalg.pinv
        left, _, right = torch.linalg.svd(inverse(rows[top]) @ target @ inverse(columns[lead]).T)
        col, row = left[:, :, 0], right[:, 0]
        for _ in range(ITERATIONS):
            C, R = _on_canvas(rows, col), _on_canvas(columns, row)
            even = _solve(R.mT @ R, _solve(C.mT @ C, C.mT @ target @ R).mT).mT
            col = _band(target, even @ R.mT, rows)
            row = _band(target.mT, even.mT @ _on_canvas(rows, col).mT, columns)
        impulse = torch.zeros_like(row)
        impulse[:, self.size // 2] = 1
        norms = [part.flatten(1).norm(dim=1) for part in (even, row, col)]
        alive = target.flatten(1).norm(dim=1) > 0
        each = torch.where(alive, (norms[0] * norms[1] * norms[2]) ** (1 / 3), 1.0)
        even = even * torch.where(alive, each / norms[0], 0.0)[:, None, None]
        row, col = (
            torch.where(alive[:, None], band * (each / norm)[:, None], impulse)
            for band, norm in ((row, norms[1]), (col, norms[2]))
        )
        return even, row, col


def _root_of_correlations(size: int) -> Tensor:
    places = torch.arange(size, dtype=torch.float64)
    return torch.linalg.cholesky(CORRELATION ** (places[:, None] - places).abs())


def _on_canvas(shifts: Tensor, band: Tensor) -> Tensor:
    """(channels, canvas, 2): a band as each tap of the 2×2 shifts it."""
    return torch.einsum("tnk,ck->cnt", shifts, band)


def _band(target: Tensor, factors: Tensor, shifts: Tensor) -> Tensor:
    """The band b for which ``sum_t shifts[t] b factors[t]ᵀ`` is nearest to the target."""
    overlaps = torch.einsum("snk,tnl->stkl", shifts, shifts)
    normal = torch.einsum("cst,stkl->ckl", factors @ factors.mT, overlaps)
    return _solve(normal, torch.einsum("tnk,cnt->ck", shifts, target @ factors.mT)[..., None])[..., 0]


def _solve(normal: Tensor, right: Tensor) -> Tensor:
    """Normal equations, with a touch of damping for those that are singular."""
    damping = 1e-12 * normal.diagonal(dim1=-2, dim2=-1).mean(-1) + torch.finfo(normal.dtype).tiny
    return torch.linalg.solve(normal + damping[:, None, None] * torch.eye(normal.shape[-1]), right)
