"""Results as figures: ``draw`` writes those of a machine to docs/benchmarks.

Each PNG carries a digest of the results that it shows and of the modules that draw, so that ``stale`` can tell whether
it still is what they would draw.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin

from evenconv_cuda.demo import figure as demo_figure

from . import limits, model_figure, operator_figures, plotting, ratios
from .model_figure import models
from .operator_figures import bars, roofline, sweeps
from .results import FOLDER, Results
from .tables import DRAWN, figure_path

ROOT = FOLDER.parents[1]
FIGURES: dict[str, Callable[[Results], Figure]] = {
    "bars": bars,
    "sweeps": sweeps,
    "roofline": roofline,
    "models": models,
}

DRAWING = (model_figure, operator_figures, plotting, demo_figure, limits, ratios)


def draw(result: Results) -> list[Path]:
    """Every figure that there are results for."""
    written = []
    for name, make in FIGURES.items():
        if DRAWN[name](result):
            path = path_of(result, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(make(result), path, digest(result))
            written.append(path)
    return written


def stale(result: Results) -> list[Path]:
    """Figures that are missing or would now be drawn otherwise."""
    paths = [path_of(result, name) for name in FIGURES if DRAWN[name](result)]
    return [path for path in paths if _digest_in(path) != digest(result)]


def path_of(result: Results, name: str) -> Path:
    return ROOT / figure_path(result.machine["slug"], name)


def digest(result: Results) -> str:
    drawing = [Path(module.__file__).read_text() for module in DRAWING]
    return hashlib.sha256(json.dumps([vars(result), drawing], sort_keys=True).encode()).hexdigest()


def _digest_in(path: Path) -> str | None:
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get("results")


def _save(figure: Figure, path: Path, digest: str) -> None:
    """With 128 colours, a third of the bytes."""
    drawn, noted = io.BytesIO(), PngImagePlugin.PngInfo()
    figure.savefig(drawn, format="png", dpi=130)
    noted.add_text("results", digest)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=noted)
