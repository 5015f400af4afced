"""A model through ONNX and another engine than PyTorch."""

import numpy as np
import pytest
import torch


def check(model, x, expected, folder):
    """Export, without any operator that is not ONNX's own, run in onnxruntime, compare."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = folder / "model.onnx"
    torch.onnx.export(model, (x,), path, input_names=["x"], dynamo=True, verbose=False)
    exported = onnx.load(path)
    onnx.checker.check_model(exported)
    assert {node.domain for node in exported.graph.node} <= {"", "ai.onnx"}
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    expected = expected.detach().numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
