"""The networks' benchmark: only what computes the same is timed."""

import pytest
from planted import planted
from small_cases import TINY

from benchmarks import models
from benchmarks.candidates import LAYOUTS
from benchmarks.models import Setting, Training
from evenconv_cuda import functional
from evenconv_cuda.backend import current_backend

pytestmark = pytest.mark.usefixtures("no_clock")


def test_model_rows():
    rows = models.measure(TINY, rounds=2, blocks=2)
    keys = [tuple(row[k] for k in ("conv", "backend", "layout", "precision", "mode")) for row in rows]
    networks = [("c3", "fused"), ("c2sp", "fused"), ("c2sp", "reference")]
    assert set(keys) == {(*n, l, p, "eager") for n in networks for l in LAYOUTS for p in ("float32", "bfloat16")}
    by_key = dict(zip(keys, rows))
    for row in rows:
        assert row["images_per_s"] == pytest.approx(2e3 / row["ms"]["median"], rel=1e-3)
        assert len(row["ms"]["blocks"]) == 2
    for layout in LAYOUTS:
        fused, reference = (by_key["c2sp", b, layout, "float32", "eager"] for b in ("fused", "reference"))
        assert 0 < fused["saved_bytes"] <= reference["saved_bytes"]


@pytest.mark.parametrize(
    ("precision", "what", "factor"),
    [("float32", "result", 1.5), ("float32", 0, 1.5), ("float32", 1, float("nan")), ("bfloat16", 1, float("nan"))],
)
def test_a_wrong_network_is_named_and_not_timed(precision, what, factor, monkeypatch, capsys):
    right = functional.even_conv2d

    def of_backend(*args, **options):
        function = planted(right, what, factor) if current_backend() == "fused" else right
        return function(*args, **options)

    monkeypatch.setattr(functional, "even_conv2d", of_backend)
    rows = models.measure(TINY, rounds=2, blocks=1)
    assert {row["backend"] for row in rows if row["conv"] == "c2sp" and row["precision"] == precision} == {"reference"}
    assert f"c2sp fused NCHW {precision} eager of resnet20 is not timed: wrong: loss by" in capsys.readouterr().out


def test_backends_train_alike():
    losses = []
    for backend in ("fused", "reference"):
        training = Training(TINY, Setting("c2sp", backend, "NCHW", "float32", "eager"), "cpu")
        for _ in range(3):
            training.step()
        losses.append(training.loss().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
