"""A trained network from its checkpoint, for the commands that take one."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

from .checkpoint import read_checkpoint
from .module import Classifier
from .options import create_network


def restored(path: Path) -> tuple[Classifier, dict]:
    """The network in eval mode and what the checkpoint says of its data, or leave with what is wrong with ``path``."""
    try:
        checkpoint = read_checkpoint(path)
        recipe, data = (checkpoint["hyper_parameters"][part] for part in ("recipe", "data"))
        with torch.device("meta"):  # what does not fit must not take memory first
            load_weights(new_classifier(path, recipe, data), checkpoint, path)
        module = new_classifier(path, recipe, data)
        load_weights(module, checkpoint, path)
    except (ValueError, OSError) as error:
        sys.exit(f"CHECKPOINT: {error}")
    return module.eval(), data


def new_classifier(path: Path, recipe: dict, data: dict) -> Classifier:
    try:
        model = create_network(recipe["model"], recipe["width"], data["num_classes"], data["in_channels"])
        return Classifier(model, recipe, data)
    except Exception as error:
        raise ValueError(f"{path} is of a network that cannot be built: {one_line(error)}") from error


def load_weights(module: Classifier, checkpoint: dict, path: Path) -> None:
    """Those of ``checkpoint``, read from ``path``.

    Raises:
        ValueError: if they are of another network.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
            module.load_state_dict(checkpoint["state_dict"])
    except Exception as error:
        raise ValueError(f"{path} does not fit {module.recipe['model']}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
