"""The benchmarks' harness: what is timed is right, and what is written is what was measured."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import models, ops
from benchmarks.candidates import EXACT, FORMS, LAYOUTS, TOLERANCE, candidates
from benchmarks.cases import OTHERS, SWEEPS, XSEP, Case
from benchmarks.limits import Limits, measure_limits, needs, sets_for
from benchmarks.machine import commit, description
from benchmarks.memory import peak_bytes, saved_bytes
from benchmarks.models import Comparison, Setting, Training
from benchmarks.results import load, machines, save
from benchmarks.timing import interleaved, spread
from evenconv_cuda import functional

SMALL = {
    "symmetric_pad2d": Case(2, 6, 9, 4, "symmetric_pad2d"),
    "even_conv2d": Case(2, 6, 9, 4, "even_conv2d", stride=2),
    "even_depthwise_conv2d": Case(2, 6, 9, 2, "even_depthwise_conv2d"),
    "separable_depthwise_conv2d": Case(2, 6, 9, 5, "separable_depthwise_conv2d"),
    "xsep_conv2d": Case(2, 6, 9, 5, stride=2),
}
LIMITS = Limits(1e10, {"float32": 1e11, "bfloat16": 1e11})


@pytest.fixture(autouse=True)
def few_sets(request, monkeypatch):
    """Small cases would take thousands of sets of tensors to fill a cache."""
    if "cache" not in request.node.name:
        monkeypatch.setattr("benchmarks.limits.ROTATED_BYTES", {"cpu": 1})


@pytest.fixture(params=SMALL)
def case(request):
    return SMALL[request.param]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_form_in_every_layout(case, dtype):
    found = candidates(case, dtype)
    forms = {
        "symmetric_pad2d": EXACT[:2],
        "even_conv2d": EXACT,
        "even_depthwise_conv2d": EXACT,
        "separable_depthwise_conv2d": ("fused", "pad+concat", "K×K", "3×3"),
        "xsep_conv2d": FORMS,
    }[case.operator]
    assert set(found) == {f"{form}, {layout}" for form in forms for layout in LAYOUTS}
    for name, candidate in found.items():
        x, grad = candidate.sets[0]
        y, dx, *_ = candidate.step()
        assert x.is_contiguous(memory_format=LAYOUTS[name.split(", ")[1]])
        assert (y.shape, dx.shape, y.dtype) == (grad.shape, x.shape, dtype)
        exact = name.startswith(EXACT)
        assert (candidate.error is not None) == exact
        if exact:
            assert 0 <= candidate.error <= TOLERANCE[dtype]
            assert candidate.error > 0 or not candidate.weights or dtype == torch.float32


def test_a_wrong_candidate_is_named_and_not_timed(case, monkeypatch, capsys):
    right = getattr(functional, case.operator)
    monkeypatch.setattr(functional, case.operator, lambda *args, **options: right(*args, **options) * 1.001)
    found = candidates(case, torch.float32)
    assert not any(name.startswith("fused") for name in found)
    assert f"fused, NCHW is wrong for {case} in torch.float32" in capsys.readouterr().out
    rows = ops.measure([case], rounds=2)
    assert {row["candidate"] for row in rows} >= {"copy", "pad+concat"}
    assert "fused" not in {row["candidate"] for row in rows}


@pytest.mark.parametrize("thorough", [False, True])
def test_rows(case, thorough, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(ops, "COMPILED", (SMALL["even_conv2d"],))
    rows = ops.measure(
        [replace(case, group="here")], (torch.float32, torch.bfloat16), 3, "cpu", LIMITS, thorough=thorough
    )
    assert json.loads(json.dumps(rows)) == rows
    for row in rows:
        assert (row["operator"], row["N"], row["C"], row["H"], row["K"]) == (case.operator, *(2, 6, 9), case.K)
        assert (row["stride"], row["group"]) == (case.stride, "here")
        assert 0 < row["ms"]["min"] <= row["ms"]["p25"] <= row["ms"]["median"] <= row["ms"]["p75"]
        assert row["times_copy"] > 0
        assert ("roofline" in row) == (row["candidate"] not in ("copy", "onnxruntime"))
    keys = [tuple(row[k] for k in ("dtype", "pass", "candidate", "layout", "mode")) for row in rows]
    assert len(set(keys)) == len(keys)
    for dtype in ("float32", "bfloat16"):
        for what in ("forward", "backward", "step"):
            for layout in LAYOUTS:
                assert (dtype, what, "fused", layout, "eager") in keys
                assert (dtype, what, "pad+concat", layout, "eager") in keys
    copies = {(row["dtype"], row["layout"]): row["ms"]["median"] for row in rows if row["candidate"] == "copy"}
    assert all(row["times_copy"] == row["ms"]["median"] / copies[row["dtype"], row["layout"]] for row in rows)
    with_memory = [row for row in rows if "saved_bytes" in row]
    assert bool(with_memory) == thorough
    assert all(row["pass"] == "step" and row["dtype"] == "float32" for row in with_memory)
    assert any(row["mode"] == "compiled" for row in rows) == (thorough and case.operator == "even_conv2d")


def test_onnxruntime_is_a_candidate_where_it_is_installed():
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    rows = ops.measure([SMALL["xsep_conv2d"]], rounds=2, passes=("forward",), thorough=True)
    assert [row["layout"] for row in rows if row["candidate"] == "onnxruntime"] == ["NCHW"]


def test_spread():
    values = list(np.random.default_rng(0).permutation(101) + 1.0)
    found = spread(values)
    assert found == {"median": 51, "p10": 10.2, "p25": 25.5, "p75": 76.5, "p90": 91.8, "min": 1, "rounds": 101}


def test_candidates_take_turns():
    order = []
    times = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == list("abababab")
    assert times["a"]["rounds"] == times["b"]["rounds"] == 3


def test_times_are_times_and_end():
    times = interleaved({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, 100, at_most_s=0.05)
    assert times["slow"]["rounds"] == 5
    assert 20 <= times["slow"]["median"] < 60
    assert times["fast"]["median"] < 1


def test_needs():
    case = Case(2, 6, 10, 5, stride=2)
    fused = candidates(case, torch.float32)["fused, NCHW"]
    x, y = 2 * 6 * 10 * 10, 2 * 6 * 5 * 5
    flops = 2 * (x * 4 + x // 2 * 5 + y * 5)
    assert needs(fused, "forward") == (4 * (x + y), flops)
    assert needs(fused, "backward") == (4 * (2 * x + y), 2 * flops)
    assert needs(fused, "step") == (4 * (3 * x + 2 * y), 3 * flops)
    pad = candidates(SMALL["symmetric_pad2d"], torch.bfloat16)["fused, NCHW"]
    x, y = 2 * 6 * 81, 2 * 6 * 144
    assert needs(pad, "step") == (2 * 2 * (x + y), 0)


def test_limits():
    assert LIMITS.milliseconds(10**7, 10**7, torch.float32) == 1
    assert LIMITS.milliseconds(10**7, 10**9, torch.bfloat16) == 10


def test_the_machines_limits_are_plausible(monkeypatch):
    monkeypatch.setattr("benchmarks.limits.COPIED_BYTES", {"cpu": 1 << 22})
    monkeypatch.setattr("benchmarks.limits.MATRIX", {"cpu": 128})
    limits = measure_limits("cpu", (torch.float32,))
    assert 1e8 < limits.copy_bytes_per_s < 1e13
    assert 1e8 < limits.flops_per_s["float32"] < 1e14


def test_inputs_do_not_fit_into_the_cache():
    for case in (*XSEP, *OTHERS, *SWEEPS):
        sets = sets_for(case, torch.float32, "cpu")
        assert sets * 2 * 4 * case.N * case.C * case.H**2 >= 64 << 20
        assert sets >= 2


def test_sets_are_used_in_turn():
    candidate = candidates(SMALL["xsep_conv2d"], torch.float32, sets=3)["fused, NCHW"]
    seen = []
    candidate.function = lambda x, *_: seen.append(x.data_ptr())
    call = candidate.forwards()
    for _ in range(6):
        call()
    assert len(set(seen)) == 3
    assert seen[:3] == seen[3:]


def test_saved_bytes():
    found = candidates(SMALL["xsep_conv2d"], torch.float32)
    x, weights = 4 * 2 * 6 * 81, 4 * 6 * (4 + 5 + 5)
    assert saved_bytes(found["fused, NCHW"].forward) == x + weights
    assert saved_bytes(found["pad+concat, NCHW"].forward) > 2 * (x + weights)
    fused = found["fused, NCHW"]
    assert saved_bytes(fused.forward, without=[fused.sets[0][0]]) == weights


def test_peak_bytes():
    if peak_bytes(lambda: None) is None:
        pytest.skip("no /proc/self/clear_refs here")
    size = 64 << 20

    def call():
        first = torch.ones(size // 4)
        del first
        second = torch.ones(size // 4)
        return second + second

    assert size * 1.9 < peak_bytes(call) < size * 2.2


def test_results_are_written_and_read(tmp_path):
    rows = ops.measure([SMALL["symmetric_pad2d"]], rounds=2)
    machine = description()
    save(
        {"machine": machine, "command": "x", "limits": {"copy_bytes_per_s": 1.0}, "rows": rows},
        tmp_path / "m" / "ops.json",
    )
    read = load(tmp_path / "m")
    assert (read.machine, read.ops, read.models, read.limits) == (machine, rows, [], {"copy_bytes_per_s": 1.0})
    with pytest.raises(FileNotFoundError, match=r"holds neither ops\.json nor models\.json"):
        load(tmp_path)


def test_committed_results_can_be_read():
    assert machines()
    for folder in machines():
        assert load(folder).machine["slug"] == folder.name


def test_description():
    found = description()
    assert found["slug"].endswith(f"{torch.get_num_threads()}-threads")
    assert found["torch"] == torch.__version__
    assert set(found["slug"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert commit() is None or 7 <= len(commit()) <= 41


TINY = Comparison("resnet20", ("c3", "c2sp"), 2, 8)


def test_model_rows():
    rows = models.measure(TINY, rounds=2)
    keys = [tuple(row[k] for k in ("conv", "backend", "layout", "precision", "mode")) for row in rows]
    networks = [("c3", "fused"), ("c2sp", "fused"), ("c2sp", "reference")]
    assert set(keys) == {(*n, l, p, "eager") for n in networks for l in LAYOUTS for p in ("float32", "bfloat16")}
    by_key = dict(zip(keys, rows))
    for row in rows:
        assert row["images_per_s"] == pytest.approx(2e3 / row["ms"]["median"])
    for layout in LAYOUTS:
        fused, reference = (by_key["c2sp", b, layout, "float32", "eager"] for b in ("fused", "reference"))
        assert 0 < fused["saved_bytes"] <= reference["saved_bytes"]


def test_backends_train_alike():
    losses = []
    for backend in ("fused", "reference"):
        training = Training(TINY, Setting("c2sp", backend, "NCHW", "float32", "eager"), "cpu")
        for _ in range(3):
            training.step()
        losses.append(training.loss().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ops, "XSEP", (SMALL["xsep_conv2d"],))
    monkeypatch.setattr(ops, "OTHERS", (SMALL["symmetric_pad2d"],))
    monkeypatch.setattr(models, "COMPARISONS", (TINY,))
    ops.main(["--quick", "--rounds", "2", "--output", str(tmp_path / "ops.json")])
    models.main(["--quick", "--output", str(tmp_path / "models.json")])
    read = load(tmp_path)
    assert {row["operator"] for row in read.ops} == {"xsep_conv2d", "symmetric_pad2d"}
    assert {row["conv"] for row in read.models} == {"c3", "c2sp"}
    assert "× copy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "1"], "--rounds is 1; accepted are 2 and more"),
        (["--only", "nothing"], "--only is 'nothing'; accepted is a part of"),
        (["--device", "tpu"], "--device is 'tpu'; accepted are cpu and"),
    ],
)
@pytest.mark.parametrize("command", [ops.main, models.main])
def test_bad_options(command, arguments, message, capsys):
    with pytest.raises(SystemExit):
        command(arguments)
    assert message in capsys.readouterr().err
