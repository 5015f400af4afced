"""Bytes that a step takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int | None:
    """That the call takes beyond what is there before it, at most at once; None where nothing tells.

    On CUDA by the allocator's statistics. On the CPU by the growth of the resident memory (Linux), which knows oneDNN's
    own buffers too: what is free is given back before, so that the call has to ask for it again.
    """
    call()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not CLEAR.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5")  # the peak starts at what is resident now
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def keep_memory() -> bool:
    """From now on the allocator gives no memory back to the system, so that after some calls it has what they need.

    False where it cannot be told to.

    glibc, as it is, gives back what was freed at the end of its heap, and blocks of more than 32 MiB at once; the
    system clears each page of what is asked for again.
    """
    try:
        told = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(told(M_MMAP_MAX, 0) and told(M_TRIM_THRESHOLD, -1))


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) << 10
