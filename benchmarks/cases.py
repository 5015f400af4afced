"""What is measured: operators on the maps of real networks, and how their cost grows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Case:
    """One operator on one size of map, ``(N, C, H, H)``, with kernel size K; dense operators keep C channels."""

    N: int
    C: int
    H: int
    K: int
    operator: str = "xsep_conv2d"
    stride: int = 1
    group: str = field(default="", compare=False)

    def __str__(self) -> str:
        stride = f" / {self.stride}" if self.stride != 1 else ""
        return f"{self.operator} {self.N}×{self.C}×{self.H}×{self.H}, K = {self.K}{stride}"


def grouped(group: str, *cases: Case) -> tuple[Case, ...]:
    return tuple(replace(case, group=group) for case in cases)


def even(operator: str, *sizes: tuple[int, int, int], kernels: tuple[int, ...] = (2, 4)) -> tuple[Case, ...]:
    return tuple(Case(*size, K, operator) for size in sizes for K in kernels)


XSEP = (
    *grouped("MobileNetV3-Small", Case(32, 240, 14, 5), Case(32, 120, 14, 5), Case(64, 576, 7, 5)),
    *grouped("EfficientNet", Case(32, 64, 32, 3), Case(32, 96, 28, 5), Case(32, 144, 56, 5, stride=2)),
    *grouped("ConvNeXt", Case(16, 96, 56, 7), Case(16, 192, 28, 7), Case(16, 384, 14, 7)),
    *grouped("high resolution", Case(8, 32, 112, 7), Case(1, 32, 512, 7), Case(1, 32, 512, 3)),
    *grouped("large kernels", Case(4, 128, 56, 15), Case(4, 64, 56, 31)),
)
"""XSepConv in place of the depthwise layers of networks."""

CIFAR, RESNET50 = ((64, 16, 32), (64, 32, 16), (64, 64, 8)), ((8, 32, 56), (8, 64, 28), (8, 128, 14))
"""N, C and H of the square convolutions of CIFAR ResNets and of the authors' ResNet-50 0.5x."""

OTHERS = (
    *grouped("CIFAR ResNet", *even("symmetric_pad2d", CIFAR[0]), *even("even_conv2d", *CIFAR)),
    *grouped("ResNet-50", *even("symmetric_pad2d", RESNET50[0]), *even("even_conv2d", *RESNET50)),
    *grouped(
        "EfficientNet", *even("even_depthwise_conv2d", (32, 96, 28)), Case(32, 144, 56, 2, "even_depthwise_conv2d", 2)
    ),
    *grouped("ConvNeXt", Case(16, 96, 56, 7, "separable_depthwise_conv2d")),
    *grouped("MobileNetV3-Small", Case(32, 240, 14, 5, "separable_depthwise_conv2d")),
    *grouped("high resolution", *even("even_depthwise_conv2d", (1, 32, 512)), *even("symmetric_pad2d", (1, 32, 512))),
)
"""The other four operators."""

SWEEPS = (
    *grouped("sweep N", *(Case(N, 96, 28, 5) for N in (1, 2, 4, 8, 16, 32, 64))),
    *grouped("sweep H", *(Case(8, 64, H, 7) for H in (7, 14, 28, 56, 112, 224))),
    *grouped("sweep K", *(Case(8, 64, 56, K) for K in (3, 5, 7, 9, 11, 15, 21, 31))),
)
"""How the cost of XSepConv grows with N, H and K."""

COMPILED = (*XSEP, *{case.operator: case for case in reversed(OTHERS)}.values())
"""Where torch.compile, which takes long on a small machine, is measured too: XSepConv, and a case of each other."""
