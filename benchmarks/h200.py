"""The GPU that predictions are for: limits of an H200, and what they allow a kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Limits of compute capability 9.0; bandwidth is that of a device copy, reads and writes together."""

    sms: int = 132
    clock: float = 1.98e9
    bandwidth: float = 4.3e12
    registers: int = 64 << 10
    register_allocation: int = 256  # per warp
    schedulers: int = 4
    shared_bytes: int = 228 << 10
    shared_reserve: int = 1 << 10  # of each block
    threads: int = 2048
    blocks: int = 32


def blocks_per_sm(gpu: Gpu, threads: int, registers: int, shared_bytes: int) -> int:
    """Blocks that an SM holds at once, by registers (a quarter for each scheduler), shared memory and threads."""
    warps = math.ceil(threads / 32)
    warp_registers = math.ceil(registers * 32 / gpu.register_allocation) * gpu.register_allocation
    by_registers = gpu.schedulers * (gpu.registers // gpu.schedulers // warp_registers) // warps
    by_shared = gpu.shared_bytes // (shared_bytes + gpu.shared_reserve)
    return min(by_registers, by_shared, gpu.threads // (warps * 32), gpu.blocks)
