"""Running statistics of batch normalisation, estimated anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .meta import ExampleInputs, call


def estimate_statistics_(model: nn.Module, batches: Iterable[ExampleInputs]) -> None:
    """Running mean and variance of the model's batch normalisations, averaged over batches of what it is called with.

    Everything else runs as in evaluation. Where an error is raised, the model is as it was.

    Raises:
        ValueError: if there is no normalisation to do this for, no batch, or one on which the model does not run.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        raise ValueError("calibrate is given for a model without running statistics of batch normalisation")
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    model.eval()
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # the plain average of all batches
    try:
        _run(model, batches)
    except BaseException:
        for norm, buffers in zip(norms, before):
            norm.load_state_dict(buffers, strict=False)
        raise
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def _run(model: nn.Module, batches: Iterable[ExampleInputs]) -> None:
    number = 0
    for number, batch in enumerate(batches, 1):
        try:
            call(model, batch)
        except Exception as error:
            raise ValueError(f"the model does not run on batch {number} of calibrate: {error}") from error
    if not number:
        raise ValueError("calibrate has no batch; accepted is at least one")
