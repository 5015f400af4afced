"""Where, when and with what a measurement was taken."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

CPUINFO, CACHES = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache")
OTHERS = "triton", "onnxruntime"
"""Packages whose version decides how fast something is that is compared with."""
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve", "bf16")
"""Of CPUINFO, those that decide which code runs."""


def description(device: str = "cpu") -> dict:
    """Machine, versions, commit and date, for the head of a result file; ``slug`` names the machine's folder."""
    import evenconv_cuda
    from evenconv_cuda.machine import cpu_name

    found = {
        "device": torch.device(device).type,
        "date": now(),
        "commit": commit(),
        "evenconv_cuda": evenconv_cuda.__version__,
        "torch": torch.__version__,
        **versions(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_name(),
        "model": cpu_model(),
        "cache_bytes": last_level_cache(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_isa": evenconv_cuda.build_info()["cpu_isa"],
        "cpu_flags": cpu_flags(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
    if found["device"] == "cuda":
        found |= gpu_description()
        name = slug = found["GPU"]
    else:
        name = f"{found['processor'].replace('(R)', '')} ({found['cpu_isa']}), {found['threads']} threads"
        slug = f"{name} model {found['model']} cache {(found['cache_bytes'] or 0) >> 20} MiB"
    return {"name": name, "slug": re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-"), **found}


def now() -> str:
    """UTC, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M")


def versions() -> dict[str, str | int | None]:
    """Of the libraries that compute what is compared with; None where one is missing."""
    one_dnn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    found = {"oneDNN": one_dnn and one_dnn[1], "cuDNN": torch.backends.cudnn.version()}
    for package in OTHERS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def set_up(threads: int | None = None, cudnn_benchmark: bool = True) -> None:
    """Threads, if given; cuDNN's way to choose algorithms, before it has chosen any; float32 without TF32, which rounds
    to 10 bits what the fused operators do not; torch.compile for as many variants as are compared."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = cudnn_benchmark
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than time as compiled what runs eagerly


def gpu_description() -> dict:
    """Device, versions and date; the package need not be built."""
    found = {"date": now(), "python": platform.python_version(), "torch": torch.__version__}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found |= {
            "GPU": device.name,
            "GPUs": torch.cuda.device_count(),
            "multiprocessors": device.multi_processor_count,
            "capability": f"{device.major}.{device.minor}",
            "CUDA": torch.version.cuda,
            "memory_bytes": device.total_memory,
        }
    return found


def cpu_flags() -> list[str]:
    words = set(_cpuinfo().split())
    return [flag for flag in CPU_FLAGS if flag in words]


def cpu_model() -> str:
    """Family, model and stepping, which tell apart what calls itself alike; empty where there are none."""
    lines = dict(re.findall(r"^(cpu family|model|stepping)\s*: (\d+)$", _cpuinfo(), re.MULTILINE))
    return " ".join(lines.values())


def last_level_cache() -> int | None:
    """Bytes of the processor's largest cache, which its cores may share; None where the system does not tell."""
    sizes = [path.read_text().strip() for path in CACHES.glob("index*/size")]
    return max((int(size[:-1]) << 10 for size in sizes if size.endswith("K")), default=None)


def _cpuinfo() -> str:
    return CPUINFO.read_text() if CPUINFO.exists() else ""


def commit() -> str | None:
    """Of the sources, with a + where they have been changed since, results aside; None outside of a repository."""
    found = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":(top)", ":(top,exclude)benchmarks/results")
    return found and found + ("+" if changed else "")


def _git(*arguments: str) -> str | None:
    try:
        said = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None
