"""Where, when and with what a measurement was taken."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path

import torch

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve", "bf16")
"""Of /proc/cpuinfo, those that decide which code runs."""


def description(device: str = "cpu") -> dict:
    """Machine, versions, commit and date, for the head of a result file; ``slug`` names the machine's folder."""
    import evenconv_cuda
    from evenconv_cuda.machine import cpu_name

    found = {
        "device": torch.device(device).type,
        "date": date.today().isoformat(),
        "commit": commit(),
        "evenconv_cuda": evenconv_cuda.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_isa": evenconv_cuda.build_info()["cpu_isa"],
        "cpu_flags": cpu_flags(),
    }
    if found["device"] == "cuda":
        found |= gpu_description()
        found["name"] = found["GPU"]
    else:
        found["name"] = f"{found['processor']} ({found['cpu_isa']}), {found['threads']} threads"
    return {"name": found["name"], "slug": re.sub(r"[^a-z0-9]+", "-", found["name"].lower()).strip("-"), **found}


def gpu_description() -> dict:
    """Device, versions and date; the package need not be built."""
    found = {"date": date.today().isoformat(), "python": platform.python_version(), "torch": torch.__version__}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found |= {
            "GPU": device.name,
            "GPUs": torch.cuda.device_count(),
            "multiprocessors": device.multi_processor_count,
            "capability": f"{device.major}.{device.minor}",
            "CUDA": torch.version.cuda,
        }
    return found


def cpu_flags() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return [flag for flag in CPU_FLAGS if flag in words]


def commit() -> str | None:
    """Of the sources that were measured, with a + where they have been changed since; None outside of a repository."""
    folder = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=folder, capture_output=True, text=True
        )
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None
