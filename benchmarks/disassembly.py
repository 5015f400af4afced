"""The machine code (SASS) of compiled kernels."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path


def find_nvdisasm() -> str | None:
    """On PATH, in the CUDA toolkit, or in a package of this environment (nvidia-cuda-nvdisasm, triton)."""
    packages = Path(sysconfig.get_paths()["purelib"])
    places = [Path("/usr/local/cuda/bin"), *sorted(packages.glob("nvidia/cu*/bin"))]
    places.append(packages / "triton" / "backends" / "nvidia" / "bin")
    found = [shutil.which("nvdisasm"), *(shutil.which("nvdisasm", path=str(place)) for place in places)]
    return next(filter(None, found), None)


@cache
def functions(cubin: Path) -> dict[str, str]:
    """The code of each kernel of a cubin as nvdisasm prints it, by its name with template arguments."""
    sass = cubin.with_suffix(".sass")
    if not sass.exists():
        done = subprocess.run([find_nvdisasm(), "--print-code", str(cubin)], capture_output=True, text=True, check=True)
        sass.write_text(done.stdout)
    parts = re.split(r"^\.text\.(\w+):$", sass.read_text(), flags=re.MULTILINE)
    symbols = "\n".join(parts[1::2])
    names = subprocess.run(["c++filt"], input=symbols, capture_output=True, text=True, check=True).stdout.splitlines()
    return {re.search(r"(\w+<.*>)\(", name)[1]: code for name, code in zip(names, parts[2::2])}
