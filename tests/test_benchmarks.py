"""The benchmarks' harness: only what is right is timed, and what is written is what was measured."""

import json
from dataclasses import replace

import pytest
import torch
from planted import planted
from small_cases import SMALL, TINY, each_operator

from benchmarks import models, onnx_runtime, ops
from benchmarks.candidates import LAYOUTS, candidates
from benchmarks.cases import OTHERS, XSEP
from benchmarks.left_out import left_out
from benchmarks.limits import Limits, needs
from benchmarks.machine import commit, description
from benchmarks.ratios import GRAPH, KEPT, by_case, wanted
from benchmarks.results import load, machines, save
from evenconv_cuda import functional

LIMITS = Limits(1e10, {"float32": 1e11, "bfloat16": 1e11})
pytestmark = pytest.mark.usefixtures("no_clock")


@each_operator
@pytest.mark.parametrize("factor", [1.01, float("nan")])
@pytest.mark.parametrize("what", ["result", "inference", 0, 1, 2, 3])
def test_a_wrong_candidate_is_named_and_not_timed(case, what, factor, monkeypatch, capsys):
    weights = {"symmetric_pad2d": 0, "separable_depthwise_conv2d": 2, "xsep_conv2d": 3}.get(case.operator, 1)
    if what in range(weights + 1, 4):
        pytest.skip("has fewer weights")
    monkeypatch.setattr(functional, case.operator, planted(getattr(functional, case.operator), what, factor))
    found = candidates(case, torch.float32)
    assert not any(name.startswith("fused") for name in found)
    assert f"fused, NCHW, eager, for {case} in float32 is not timed: wrong by" in capsys.readouterr().out
    assert any(line.startswith(f"fused, NCHW, eager, for {case}") for line in left_out())
    rows = ops.measure([case], rounds=2, blocks=1)
    assert {row["candidate"] for row in rows} >= {"copy", "pad+concat"}
    assert "fused" not in {row["candidate"] for row in rows}


def test_what_is_wrong_only_when_compiled_is_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda function, **_: planted(function, 1))
    monkeypatch.setattr(ops, "COMPILED", (SMALL["xsep_conv2d"],))
    rows = ops.measure([SMALL["xsep_conv2d"]], rounds=2, blocks=1, thorough=True)
    assert {row["mode"] for row in rows} == {"eager"}
    assert "pad+concat, NCHW, compiled, for xsep_conv2d" in capsys.readouterr().out


def test_what_fails_is_left_out_and_the_others_are_timed(monkeypatch, capsys):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate\na lot")

    case, other = SMALL["xsep_conv2d"], SMALL["symmetric_pad2d"]
    monkeypatch.setattr(torch, "compile", fail)
    monkeypatch.setattr(ops, "COMPILED", (case,))
    rows = ops.measure([case], rounds=2, blocks=1, thorough=True, passes=("step",))
    assert {row["mode"] for row in rows} == {"eager"}
    line = f"in 3×3, NCHW, compiled, for {case} in float32 is not timed: OutOfMemoryError: tried to allocate"
    assert line in capsys.readouterr().out.splitlines()
    monkeypatch.setattr(functional, "xsep_conv2d", fail)
    rows = ops.measure([case, other], rounds=2, blocks=1)
    assert [row["operator"] for row in rows if row["candidate"] == "fused"] == ["symmetric_pad2d"] * 6
    assert {row["candidate"] for row in rows if row["operator"] == "xsep_conv2d"} >= {"pad+concat", "K×K", "copy"}
    assert f"fused, NCHW, eager, for {case} in float32 is not timed: OutOfMemoryError: tried to allocate" in left_out()


def test_replays_of_graphs_have_no_copy_to_be_compared_with(monkeypatch, tmp_path, capsys):
    case, written = SMALL["xsep_conv2d"], tmp_path / "ops.json"
    rows = ops.measure([case], rounds=2, blocks=1, passes=("step",))
    replays = [row | {"mode": GRAPH} for row in rows if row["candidate"] == "fused"]
    monkeypatch.setattr(ops, "measure", lambda cases, *_, **__: [*rows, *replays] if cases else [])
    monkeypatch.setattr(ops, "measure_limits", lambda *_: LIMITS)
    ops.main(["--quick", "--output", str(written)])
    graphs = [row for row in json.loads(written.read_text())["rows"] if row["mode"] == GRAPH]
    assert len(graphs) == 2
    assert not any("times_copy" in row or "roofline" in row for row in graphs)
    assert GRAPH in capsys.readouterr().out


@each_operator
@pytest.mark.parametrize("thorough", [False, True])
def test_rows(case, thorough, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(ops, "COMPILED", (case,))
    measured = ops.measure(
        [replace(case, group="here")], (torch.float32, torch.bfloat16), 3, thorough=thorough, blocks=2
    )
    rows = ops.related(measured, LIMITS)
    assert json.loads(json.dumps(rows)) == rows
    for row in rows:
        assert (row["operator"], row["N"], row["C"], row["H"], row["K"]) == (case.operator, *(2, 6, 9), case.K)
        assert (row["stride"], row["group"]) == (case.stride, "here")
        ms = row["ms"]
        assert 0 < ms["min"] <= ms["p10"] <= ms["p25"] <= ms["median"] <= ms["p75"] <= ms["p90"]
        assert ms["rounds"] == 6
        assert len(ms["blocks"]) == 2
        assert row["times_copy"] > 0
        unfused = row["candidate"] not in ("copy", "K×K", "3×3")
        assert ("roofline" in row) == unfused
        if unfused:
            moved, flops = needs(case, row["dtype"], row["pass"])
            assert row["roofline"] == LIMITS.milliseconds(moved, flops, row["dtype"]) / ms["median"]
        assert ("error" in row) == (row["candidate"] not in ("copy", "onnxruntime"))
    keys = [tuple(row[k] for k in ("dtype", "pass", "candidate", "layout", "mode")) for row in rows]
    assert len(set(keys)) == len(keys)
    for dtype in ("float32", "bfloat16"):
        for what in ("forward", "step", *["backward"] * (dtype == "float32")):
            for layout in LAYOUTS:
                assert (dtype, what, "fused", layout, "eager") in keys
                assert (dtype, what, "pad+concat", layout, "eager") in keys
    copies = {(row["dtype"], row["layout"]): row["ms"]["median"] for row in rows if row["candidate"] == "copy"}
    assert all(row["times_copy"] == row["ms"]["median"] / copies[row["dtype"], row["layout"]] for row in rows)
    with_memory = [row for row in rows if "saved_bytes" in row]
    assert bool(with_memory) == thorough
    assert all(row["pass"] == "step" and row["dtype"] == "float32" for row in with_memory)
    widened = {row["dtype"] for row in rows if row["candidate"] == "pad+concat via float32"}
    assert widened == {"bfloat16"}
    replaced = {row["dtype"] for row in rows if row["candidate"] == "K×K"}
    assert replaced == ({"float32"} if case.operator in ("xsep_conv2d", "separable_depthwise_conv2d") else set())
    of_compiled = {(row["dtype"], row["pass"]) for row in rows if row["mode"] == "compiled"}
    assert of_compiled == ({("float32", "forward"), ("float32", "step")} if thorough else set())


def test_memory_that_is_kept_is_compared_with_its_own_copies():
    case = SMALL["symmetric_pad2d"]
    rows = ops.measure([case], rounds=2, blocks=1) + ops.measure([case], rounds=2, blocks=1, eager=KEPT)
    related = ops.related(rows, LIMITS)
    assert {row["mode"] for row in related} == {"eager", KEPT}
    assert [row["times_copy"] for row in related if row["candidate"] == "copy"] == [1.0] * 4


def test_onnxruntime_is_a_candidate_where_it_is_installed(monkeypatch, capsys):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)

    def rows():
        return ops.measure([SMALL["xsep_conv2d"]], rounds=2, passes=("forward",), thorough=True, blocks=1)

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert [row["layout"] for row in rows() if row["candidate"] == "onnxruntime"] == ["NCHW"]
    monkeypatch.setattr(onnx_runtime, "TOLERANCE", {torch.float32: 0})
    assert not [row for row in rows() if row["candidate"] == "onnxruntime"]
    assert "onnxruntime, for xsep_conv2d" in capsys.readouterr().out


def test_results_are_written_and_read(tmp_path):
    rows = ops.measure([SMALL["symmetric_pad2d"]], rounds=2, blocks=1)
    machine = description()
    save(
        {"machine": machine, "command": "x", "limits": {"copy_bytes_per_s": 1.0}, "rows": rows},
        tmp_path / "m" / "ops.json",
    )
    read = load(tmp_path / "m")
    assert (read.machine, read.ops, read.models, read.limits) == (machine, rows, [], {"copy_bytes_per_s": 1.0})
    with pytest.raises(FileNotFoundError, match=r"holds neither ops\.json nor models\.json"):
        load(tmp_path)


def test_committed_results():
    """Nothing is faster than the machine, but for what a cache keeps of a result's memory."""
    assert machines()
    for folder in machines():
        read = load(folder)
        assert read.machine["slug"] == folder.name
        assert all(row["roofline"] < 1.05 for row in read.ops if "roofline" in row)
        for row in (*read.ops, *read.models):
            assert row["ms"]["min"] <= row["ms"]["p10"]
            assert len(row["ms"]["blocks"]) >= 3
        for dtype in ("float32", "bfloat16") if read.ops else ():
            steps = wanted(read.ops, "fused", dtype=dtype, **{"pass": "step"})
            assert by_case(steps).keys() >= {*XSEP, *OTHERS}


def test_description():
    found = description()
    assert f"{torch.get_num_threads()}-threads" in found["slug"]
    assert found["torch"] == torch.__version__
    assert set(found["slug"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert commit() is None or 7 <= len(commit()) <= 41


def test_results_of_cudnn_s_choice_by_measurement_lie_beside_the_others(tmp_path):
    rows = [{"candidate": "fused", "mode": mode} for mode in ("eager", "cudnn.benchmark")]
    save({"machine": {"commit": "a"}, "rows": rows[:1]}, tmp_path / "ops.json")
    save({"machine": {"commit": "a"}, "rows": rows[1:]}, tmp_path / "ops-cudnn-benchmark.json")
    assert load(tmp_path).ops == rows
    save({"machine": {"commit": "b"}, "rows": rows[1:]}, tmp_path / "ops-cudnn-benchmark.json")
    with pytest.raises(ValueError, match=r"ops-cudnn-benchmark\.json are of commits a and b"):
        load(tmp_path)


def test_a_quick_look_is_at_the_first_case_of_each_operator(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(ops, "measure", lambda cases, *_, **__: asked.extend(cases) or [])
    monkeypatch.setattr(ops, "measure_limits", lambda *_: LIMITS)
    ops.main(["--quick"])
    every = (*XSEP, *OTHERS)
    assert set(asked) == {next(case for case in every if case.operator == operator) for operator in SMALL}


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ops, "XSEP", (SMALL["xsep_conv2d"],))
    monkeypatch.setattr(ops, "OTHERS", (SMALL["symmetric_pad2d"],))
    monkeypatch.setattr(ops, "measure_limits", lambda *_: LIMITS)
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
        (["--rounds", "1"], "--rounds: '1' is given; accepted is a whole number from 2"),
        (["--threads", "0"], "--threads: '0' is given; accepted is a whole number from 1"),
        (["--only", "nothing"], "--only is 'nothing'; accepted is a part of"),
        (["--device", "tpu"], "--device: 'tpu' is given; accepted is cpu and"),
    ],
)
@pytest.mark.parametrize("command", [ops.main, models.main])
def test_bad_options(command, arguments, message, capsys):
    with pytest.raises(SystemExit):
        command(arguments)
    assert message in capsys.readouterr().err
