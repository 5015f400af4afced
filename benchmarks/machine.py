"""Where and when a measurement was taken."""

from __future__ import annotations

import os
import platform
from datetime import date

import torch


def description() -> dict:
    """Processor, threads, versions and date, for the head of a table and of a result file."""
    import evenconv_cuda
    from evenconv_cuda.machine import cpu_name

    return {
        "date": date.today().isoformat(),
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_isa": evenconv_cuda.build_info()["cpu_isa"],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "evenconv_cuda": evenconv_cuda.__version__,
    }


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
