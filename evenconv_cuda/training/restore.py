"""A trained network from its checkpoint, for the commands that take one."""

from __future__ import annotations

import sys
from pathlib import Path

from .checkpoint import read_checkpoint
from .module import Classifier
from .options import create_network


def restored(path: Path) -> tuple[Classifier, dict]:
    """The network in eval mode and what the checkpoint says of its data, or leave with what is wrong with ``path``."""
    try:
        checkpoint = read_checkpoint(path)
    except (ValueError, OSError) as error:
        sys.exit(f"CHECKPOINT: {error}")
    recipe, data = (checkpoint["hyper_parameters"][part] for part in ("recipe", "data"))
    model = create_network(recipe["model"], recipe["width"], data["num_classes"], data["in_channels"])
    module = Classifier(model, recipe, data)
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval(), data
