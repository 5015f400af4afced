"""`make gpu-check` as far as it can be known without a GPU: its parts run on the CPU, and its runner and goals hold."""

import json
import sys

import pytest
import torch

from benchmarks.gpu import behaviour, goals, large, memory, small, smoke, speed
from benchmarks.gpu.__main__ import PARTS, Part, main, run_all
from benchmarks.gpu.goals import Goal, evaluate
from benchmarks.gpu.report import Report


def failures(report):
    return [check for check in report.checks if not check["passed"]]


@pytest.mark.parametrize("few", [True, False])
def test_smoke(few):
    report = Report()
    smoke.run(report, "cpu", few)
    assert report.passed
    assert {check["name"].split()[0] for check in report.checks} == set(smoke.operators(1, 1))


def test_smoke_sees_a_wrong_result(monkeypatch):
    wrong = smoke.functional.symmetric_pad2d
    monkeypatch.setattr(smoke.functional, "symmetric_pad2d", lambda *args, **kwargs: 1.1 * wrong(*args, **kwargs))
    report = Report()
    smoke.run(report, "cpu", few=True)
    assert {check["name"].split()[0] for check in failures(report)} == {"symmetric_pad2d"}


@pytest.mark.parametrize("part", [behaviour, large])
def test_parts_that_check(part):
    report = Report()
    part.run(report, "cpu", (4, 5, 6, 3) if part is behaviour else (5, 6, 7, 8))
    assert report.passed


def test_memory_on_the_cpu():
    report = Report()
    memory.run(report, "cpu", (4, 8, 9, 3))
    saved = [goal for goal in report.goals if goal.name.startswith("G7 saved")]
    assert len(saved) == 4
    assert all(goal.met for goal in saved)


def test_small_on_the_cpu(monkeypatch):
    monkeypatch.setattr(small, "CALLS", 2)
    report = Report()
    small.run(report, "cpu", shapes=((2, 4, 6, 3),), rounds=1)
    assert not failures(report)
    assert [goal.name for goal in report.goals] == ["G9 step against eager"] * 2


def test_speed_on_the_cpu(tmp_path):
    report = Report(tmp_path / "speed.json")
    speed.run(report, "cpu", shapes=(((2, 4, 6, 3), torch.float32),), rounds=2)
    assert report.passed
    (measured,) = json.loads((tmp_path / "speed.json").read_text())["data"]["measured"]
    names = set(measured["milliseconds"])
    for form in ("fused", "pad+concat", "in 3×3", "K×K", "3×3"):
        assert f"forward | {form}, channels_last | eager" in names
    assert "backward | fused, NCHW | eager" in names
    assert "copy | fused, NCHW" in names


def test_what_raises_is_a_failed_check(tmp_path):
    report = Report(tmp_path / "found.json")
    report.check("good", True)
    with report.guard("bad"):
        raise ValueError("no such thing")
    assert not report.passed
    assert json.loads((tmp_path / "found.json").read_text())["checks"][1] == {
        "name": "bad",
        "passed": False,
        "detail": "ValueError: no such thing",
    }


def entry(shape, dtype, **milliseconds):
    """Medians of ``what_form`` in NCHW."""
    forms = {"fused": "fused", "pad": "pad+concat", "embedded": "in 3×3", "single": "K×K", "conv": "3×3"}
    named = {}
    for name, value in milliseconds.items():
        what, form = name.split("_")
        named[f"{what} | {forms[form]}, NCHW" + (" | eager" if what != "copy" else "")] = value
    return {"shape": shape, "dtype": dtype, "milliseconds": named}


def by_name(found):
    return {goal.name: goal for goal in found}


def test_goals_of_a_large_shape():
    large_shape = (128, 128, 56, 7)
    times = {"copy_fused": 1, "forward_fused": 1.4, "backward_fused": 3.4, "step_fused": 4.8, "step_pad": 24}
    times |= {"step_embedded": 12, "forward_conv": 2, "step_single": 9}
    found = by_name(evaluate([entry(large_shape, "bfloat16", **times)]))
    assert found["G1 forward in copies"].met
    assert not found["G2 backward in copies"].met
    assert found["G3 step against best"].value == pytest.approx(2.5)
    assert found["G3 geometric mean"].value == pytest.approx(2.5)
    assert not found["G4 step against eager pad+concat, NCHW"].met
    assert found["G5 forward against one 3×3"].value == pytest.approx(0.7)
    assert found["G5 step against K×K"].met


def test_goals_by_dtype_and_size():
    times = {"copy_fused": 1, "forward_fused": 1.18, "backward_fused": 1.7, "step_fused": 2, "step_pad": 4}
    found = by_name(evaluate([entry((128, 128, 56, 3), "float32", **times)]))
    assert not found["G1 forward in copies"].met
    assert found["G2 backward in copies"].met
    assert by_name(evaluate([entry((128, 128, 56, 3), "float16", **times)]))["G1 forward in copies"].met
    assert evaluate([entry((1, 8, 9, 3), "float32", **times)]) == []
    (large_band,) = evaluate([entry((128, 128, 56, 31), "float32", **times)])
    assert large_band == Goal("G10 step against best", "128, 128, 56, K=31 float32", 2.0, 1.5, at_least=True)


def test_channels_last_is_held_against_nchw():
    found = entry((128, 128, 56, 5), "float32", copy_fused=1, step_fused=4, forward_fused=2, backward_fused=3)
    for what, value in (("forward", 2.2), ("backward", 3.6)):
        found["milliseconds"][f"{what} | fused, channels_last | eager"] = value
    goals_found = by_name(evaluate([found]))
    assert goals_found["G6 forward, channels_last against NCHW"].met
    assert not goals_found["G6 backward, channels_last against NCHW"].met


def test_times_of_two_processes_are_scaled():
    shape = (128, 128, 56, 5)
    first = entry(shape, "float32", copy_fused=1, step_fused=4, step_pad=16)
    slower = entry(shape, "float32", copy_fused=2, step_fused=8, step_embedded=20)
    (together,) = goals.merged([first, slower])
    assert together["milliseconds"]["step | in 3×3, NCHW | eager"] == 10
    assert by_name(evaluate([first, slower]))["G3 step against best"].value == pytest.approx(2.5)


def python(name, code, seconds=30, **more):
    return Part(name, seconds, ("-c", code), **more)


def test_runner_goes_on_after_a_failure(tmp_path):
    write = "import json, sys; json.dump({'checks': [{'name': 'a', 'passed': True}]}, open('{json}', 'w'))"
    parts = (
        python("bad", "import sys; print('why it failed'); sys.exit(3)"),
        python("slow", "import time; print('begun', flush=True); time.sleep(60)", seconds=1),
        python("absent", "", before=("no-such-program",)),
        python("unsupported", "import sys", before=(sys.executable, "-c", "print('Device not supported'); exit(1)")),
        Part("good", 30, ("-c", write.replace("{'", "{{'").replace("True}]}", "True}}]}}"))),
    )
    outcomes = run_all(parts, tmp_path, {}, total=60)
    assert [outcome.status for outcome in outcomes] == ["failed", "stopped", "skipped", "skipped", "passed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "results.json", "summary.md"]
    summary = (tmp_path / "summary.md").read_text()
    assert "why it failed" in summary
    assert "exit code 3" in summary
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["parts"][-1]["checks"] == [{"name": "a", "passed": True}]


def test_runner_keeps_to_its_time(tmp_path):
    parts = (python("first", "import time; time.sleep(60)"), python("second", ""))
    outcomes = run_all(parts, tmp_path, {}, total=6)
    assert [outcome.status for outcome in outcomes] == ["stopped", "stopped"]
    assert outcomes[1].reason == "not begun: the time was over"


def test_most_important_first():
    assert [part.name for part in PARTS[:3]] == ["build", "smoke", "speed"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    with pytest.raises(SystemExit, match=r"gpu-check needs a GPU: PyTorch .* sees no GPU here"):
        main([])


def test_unknown_part(capsys):
    with pytest.raises(SystemExit):
        main(["sped"])
    assert "parts holds ['sped']; accepted are" in capsys.readouterr().err
