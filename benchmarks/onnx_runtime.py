"""onnxruntime as a candidate: XSepConv's forward as three standard convolutions, where it is installed."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import torch

from evenconv_cuda import nn, to_standard

from .candidates import TOLERANCE, Candidate, relative_error
from .cases import Case
from .left_out import leave_out

NEEDED = ("onnx", "onnxruntime", "onnxscript")


def why_no_onnx(device: str) -> str | None:
    if torch.device(device).type != "cpu":
        return "it is measured on CPUs"
    missing = [name for name in NEEDED if find_spec(name) is None]
    return f"no {', '.join(missing)}" if missing else None


def onnx_forward(case: Case, fused: Candidate) -> Callable[[], object] | None:
    """The forward of ``fused``, float32 on the CPU and NCHW, in onnxruntime with as many threads as PyTorch has.

    None, and a line that says so, if its result is wrong.
    """
    import onnxruntime

    layer = nn.XSepConv2d(case.C, case.C, case.K, case.stride, bias=False)
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), fused.weights):
            parameter.copy_(weight)
    x = fused.sets[0][0]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(to_standard(layer.eval()), (x,), path, input_names=["x"], dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    error = relative_error(torch.from_numpy(y), fused.exact[0])
    if not error <= TOLERANCE[torch.float32]:
        leave_out(f"onnxruntime, for {case}", f"wrong by {error:.1e}")
        return None
    inputs = cycle([x.numpy() for x, _ in fused.sets])
    return lambda: session.run(None, {"x": next(inputs)})
