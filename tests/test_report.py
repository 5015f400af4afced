"""Tables, figures, comparison and guard against rows whose numbers are worked out by hand."""

import pytest
import torch
from PIL import Image

from benchmarks import compare, figures, guard, report, tables
from benchmarks.candidates import candidates
from benchmarks.cases import Case
from benchmarks.limits import needs
from benchmarks.ratios import fastest, is_fused, needed
from benchmarks.results import Results, load, save

CPU = {
    "name": "Some CPU, 2 threads",
    "slug": "some-cpu",
    "device": "cpu",
    "date": "2026-01-02",
    "torch": "9.9",
    "commit": "abcdef0",
}
GPU = CPU | {"name": "Some GPU", "slug": "some-gpu", "device": "cuda"}
LIMITS = {"copy_bytes_per_s": 2e10, "flops_per_s": {"float32": 1e11, "bfloat16": 2e11}}
FIRST = {"N": 2, "C": 8, "H": 16, "K": 7, "stride": 1, "operator": "xsep_conv2d", "group": "ConvNeXt"}
SECOND = FIRST | {"K": 3, "stride": 2, "group": "EfficientNet"}
T = 2 * 8 * 16 * 16 * 4


def spread(median, width=0.02):
    quartiles = {"p25": median * (1 - width / 2), "p75": median * (1 + width / 2)}
    return quartiles | {"median": median, "p10": median * (1 - width), "p90": median * (1 + width), "rounds": 25}


def row(candidate, median, layout="NCHW", mode="eager", what="step", dtype="float32", case=FIRST, width=0.02, **more):
    named = {"candidate": candidate, "layout": layout, "mode": mode, "pass": what, "dtype": dtype}
    return case | named | {"ms": spread(median, width)} | more


def trained(conv, backend, rate, layout="NCHW", precision="float32", mode="eager", **more):
    named = {"model": "net", "conv": conv, "backend": backend, "layout": layout, "precision": precision, "mode": mode}
    return named | {"batch": 10, "size": 32, "ms": spread(1e4 / rate), "images_per_s": rate} | more


OPS = [
    row("copy", 0.5, what="forward"),
    row("fused", 4, times_copy=8.0, roofline=0.25),
    row("fused", 2, "channels_last", times_copy=4.0, roofline=0.5, saved_bytes=T, peak_bytes=3 * T),
    row("pad+concat", 20, saved_bytes=3 * T, peak_bytes=7 * T),
    row("pad+concat", 9, "channels_last", saved_bytes=3 * T, peak_bytes=8 * T),
    row("in 3×3", 12),
    row("in 3×3", 7, "channels_last"),
    row("in 3×3", 6, "channels_last", "compiled"),
    row("K×K", 5),
    row("3×3", 1.5, "channels_last"),
    row("fused", 1, dtype="bfloat16"),
    row("pad+concat", 3.5, dtype="bfloat16"),
    row("fused", 1, what="forward"),
    row("pad+concat", 2.5, what="forward"),
    row("onnxruntime", 2.25, what="forward"),
    row("fused", 4, case=SECOND, times_copy=16.0, saved_bytes=1.5 * T),
    row("in 3×3", 3, case=SECOND),
]
PAD = FIRST | {"operator": "symmetric_pad2d", "K": 2}
MODELS = [
    trained("c3", "fused", 120, saved_bytes=100 << 20, peak_bytes=200 << 20),
    trained("c2sp", "fused", 60),
    trained("c2sp", "fused", 100, "channels_last", saved_bytes=90 << 20, peak_bytes=150 << 20),
    trained("c2sp", "reference", 40, saved_bytes=300 << 20),
    trained("c2sp", "fused", 50, mode="compiled"),
]


def lines(text, width):
    """Table rows of so many cells."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [line for line in found if len(line) == width]


def test_the_readme_is_what_the_results_say():
    report.main(["--check"])


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A repository with the README's markers and results of one machine."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n" + "".join(f"<!-- benchmarks: {n} -->\nold\n<!-- /benchmarks -->\n" for n in MARKERS))
    folder = tmp_path / CPU["slug"]
    save({"machine": CPU, "limits": LIMITS, "rows": [*OPS, *sweep()]}, folder / "ops.json")
    save({"machine": CPU, "rows": MODELS}, folder / "models.json")
    monkeypatch.setattr(report, "README", readme)
    monkeypatch.setattr(report, "machines", lambda: [folder])
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    return readme


MARKERS = ("headline", "xsepconv", "operators", "memory", "models")


def sweep():
    cases = [FIRST | {"group": f"sweep {name}", name: value} for name in "NHK" for value in (3, 9)]
    return [
        row(form, 2, case=case, what=what)
        for case in cases
        for form in ("fused", "copy")
        for what in ("forward", "step")
    ]


def test_the_report_writes_readme_and_figures(committed):
    with pytest.raises(SystemExit, match=r"README\.md"):
        report.main(["--check"])
    report.main([])
    report.main(["--check"])
    text = committed.read_text()
    assert text.startswith("before\n")
    assert "\nold\n" not in text
    linked = [word.split(")")[0] for word in text.split("(") if word.startswith("docs/")]
    assert len(linked) == 4
    for name in linked:
        path = committed.parent / name
        assert path.stat().st_size < 200_000
        with Image.open(path) as image:
            assert image.width > 1000
            assert image.height > 200


def test_what_the_results_do_not_say_is_seen(committed):
    report.main([])
    written = committed.read_text()
    committed.write_text(written.replace("| 3.00 |", "| 3.01 |", 1))
    with pytest.raises(SystemExit, match=r"say: README\.md;"):
        report.main(["--check"])
    committed.write_text(written)
    file = committed.parent / CPU["slug"] / "models.json"
    file.write_text(file.read_text().replace('"p90"', '"p95"'))  # nothing that a table has
    with pytest.raises(SystemExit, match=r"say: \S*-bars\.png, \S*-sweeps\.png, \S*-roofline\.png, \S*-models\.png;"):
        report.main(["--check"])


def test_one_machine_is_printed_and_the_readme_stays(committed, capsys):
    before = committed.read_text()
    report.main(["--machine", CPU["slug"]])
    assert committed.read_text() == before
    assert "Some CPU" in capsys.readouterr().out
    assert (committed.parent / "docs/benchmarks/some-cpu-bars.png").exists()
    with pytest.raises(SystemExit):
        report.main(["--machine", "other"])
    assert "'other'; there are results of some-cpu" in capsys.readouterr().err


def test_missing_markers_are_named(committed):
    committed.write_text(committed.read_text().replace("benchmarks: memory", "benchmark: memory"))
    with pytest.raises(
        SystemExit, match=r"headline, xsepconv, operators, models; needed is each of headline, xsepconv, op"
    ):
        report.main([])


def test_of_each_kind_of_device_the_last_measured_is_shown():
    older, newer, gpu = Results(CPU | {"date": "2025-12-31"}), Results(CPU), Results(GPU | {"date": "2020-01-01"})
    assert report.shown([newer, older, gpu]) == [newer, gpu]


def test_steps_of_xsepconv():
    found = {tuple(line[:2]): line[2:] for line in lines(tables.xsepconv(Results(CPU, LIMITS, [*OPS, *sweep()])), 12)}
    first = ["3.00", "3.00", "3.00", "3.00", "2.50", "**0.75**", "4.0", "50", "3.50", "2.25"]
    second = ["**0.75**", "**0.75**", "–", "–", "–", "–", "16.0", "–", "–", "–"]
    assert found["ConvNeXt", "2, 8, 16, 7"] == first
    assert found["EfficientNet", "2, 8, 16, 3 / 2"] == second
    assert found["geometric mean", ""] == [
        "1.50",
        "1.50",
        "3.00",
        "3.00",
        "2.50",
        "**0.75**",
        "8.0",
        "50",
        "3.50",
        "2.25",
    ]
    assert found["worst", ""][:7] == ["**0.75**", "**0.75**", "3.00", "3.00", "2.50", "**0.75**", "16.0"]
    assert len(found) == 6  # and head and rule, but no sweeps


def test_cuda_graphs_count_apart():
    graphs = [row("in 3×3", 0.5, mode="CUDA graph"), row("fused", 0.25, mode="CUDA graph")]
    first = lines(tables.xsepconv(Results(GPU, LIMITS, [*OPS, *graphs])), 14)[2]
    assert (first[2], first[-1]) == ("3.00", "2.00")
    assert fastest(graphs, "fused") is None


def test_other_operators():
    pads = [
        row("fused", 1, what="forward", case=PAD),
        row("fused", 2, case=PAD, times_copy=5.0),
        row("pad+concat", 4, what="forward", case=PAD),
        row("pad+concat", 1, "channels_last", "compiled", case=PAD),
        row("fused", 1, what="forward", case=PAD | {"K": 4}),
        row("pad+concat", 1, what="forward", case=PAD | {"K": 4}),
    ]
    text = tables.operators(Results(CPU, LIMITS, [*OPS, *pads]))
    assert lines(text, 5)[2:] == [["`symmetric_pad2d`", "2", "2.00 / 1.00", "**0.50** / **0.50**", "– / –"]]
    every = {line[2]: line for line in lines(text, 9)[2:]}
    assert every["2, 8, 16, 2"][3:] == ["4.00", "**0.50**", "–", "5.0", "–", "pad+concat, channels_last, compiled"]
    assert every["2, 8, 16, 4"][3:] == ["1.00", "–", "–", "–", "–", "–"]


def test_memory_is_in_bytes_of_x():
    found = lines(tables.memory(Results(CPU, LIMITS, OPS)), 9)[2:]
    assert found == [["`xsep_conv2d`", "1.0–1.5", "3.0", "–", "–", "3.0", "7.0", "–", "–"]]


def test_models_have_the_head_of_their_own_file(tmp_path):
    later = CPU | {"commit": "1234567"}
    save({"machine": CPU, "limits": LIMITS, "rows": OPS}, tmp_path / "ops.json")
    save({"machine": later, "rows": MODELS}, tmp_path / "models.json")
    read = load(tmp_path)
    assert "commit abcdef0" in tables.xsepconv(read)
    assert "commit 1234567" in tables.models(read)


def test_networks():
    assert lines(tables.models(Results(CPU, {}, [], MODELS)), 9)[2:] == [
        ["`net`", "c3 → c2sp", "float32", "10, 32", "100", "2.50", "**0.83**", "90 / 300 / 100", "150 / – / 200"],
        ["`net`", "c2sp", "float32, compiled", "10, 32", "50.0", "–", "–", "–", "–"],
    ]


def test_headline():
    cpu, gpu = Results(CPU, LIMITS, OPS), Results(GPU, LIMITS, [row("fused", 2), row("pad+concat", 1)])
    text = tables.headline([cpu])
    assert text.startswith("CPU: an XSepConv training step in float32 is **1.50 times as fast** as the fastest way")
    assert "geometric mean of 2 shapes, from 0.75 to 3.00 (Some CPU, 2 threads, torch 9.9, 2026-01-02" in text
    assert "NCHW or channels_last for 1 of 2; eager or compiled for 1 of 2" in text
    assert text.endswith("GPU: not yet measured.")
    assert "GPU: an XSepConv training step in float32 is **0.50 times as fast**" in tables.headline([cpu, gpu])
    assert tables.headline([]) == "CPU: not yet measured. GPU: not yet measured."


def test_without_results_nothing_is_claimed():
    assert set(report.parts([]).values()) == {"Not yet measured.", tables.headline([])}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("what", ["forward", "step"])
def test_what_xsepconv_needs(what, stride):
    case = Case(2, 4, 9, 5, stride=stride)
    fused = candidates(case, torch.float32, forms=("fused",))["fused, NCHW"]
    assert needed(vars(case) | {"pass": what, "dtype": "float32"}) == needs(fused, what)


def planted(scale=1.0, width=0.02, **slower):
    """Rows of many shapes; those of the candidates that ``slower`` names by that much."""
    cases = [FIRST | {"N": N} for N in range(1, 10)]
    return [
        row(form, N * scale * slower.get(form, 1), case=case, width=width)
        for N, case in enumerate(cases, 1)
        for form in ("fused", "K×K")
    ]


def test_compare_finds_what_became_slower_behind_the_drift():
    found = compare.compare(planted(), planted(scale=1.5, fused=1.2))
    assert found.drift == pytest.approx(1.5)
    assert len(found.slower) == len(found.changed) == 9
    assert found.changed[0].ratio == pytest.approx(1.2)
    faster = compare.compare(planted(), planted(fused=0.8))
    assert len(faster.changed) == 9
    assert not faster.slower


@pytest.mark.parametrize(("width", "slower"), [(0.02, 1), (0.5, 1.3), (0.001, 1.04)])
def test_compare_is_silent_on_drift_noise_and_trifles(width, slower):
    found = compare.compare(planted(width=width), planted(scale=0.7, width=width, fused=slower))
    assert not found.changed
    assert "Nothing changed" in compare.described(found)


def test_compare_lists_what_is_in_one_only():
    rows = planted()
    found = compare.compare(rows[1:], rows[:-1])
    assert (found.missing, found.new) == (rows[-1:], rows[:1])
    assert "missing: xsep_conv2d 9×8×16² K=7 float32 step K×K NCHW eager" in compare.described(found)


def test_the_original_network_is_not_fused():
    assert [is_fused(one) for one in MODELS] == [False, True, True, False, True]


def test_compare_as_a_command(tmp_path, capsys):
    slow = [trained("c2sp", "fused", 80) if is_fused(one) else one for one in MODELS[:2]]
    for name, ops, networks in (
        ("old", planted(), MODELS[:2]),
        ("new", planted(), slow),
        ("worse", planted(fused=2), MODELS),
    ):
        save({"machine": CPU, "rows": ops}, tmp_path / name / "ops.json")
        save({"machine": CPU, "rows": networks}, tmp_path / name / "models.json")
    compare.main([str(tmp_path / "old"), str(tmp_path / "new")])
    assert "faster, fused" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="9 fused rows became slower"):
        compare.main([str(tmp_path / "old/ops.json"), str(tmp_path / "worse/ops.json")])
    with pytest.raises(SystemExit):
        compare.main([str(tmp_path / "old/ops.json"), str(tmp_path / "new/models.json")])
    assert "accepted are two of a kind" in capsys.readouterr().err


def guarded(ratio, cases=guard.GUARDED):
    return [row(form, ms, case=vars(case)) for case in cases for form, ms in (("fused", 1), ("pad+concat", ratio))]


def test_guard_passes_what_kept_its_ratio():
    assert all(one.passed for one in guard.guard(lambda cases: guarded(2.2, cases), guarded(3), "cpu"))


def test_guard_fails_what_lost_its_ratio_or_is_missing():
    checks = guard.check(guarded(2), guarded(3), guard.GUARDED, "cpu")
    assert not any(one.passed for one in checks)
    assert [one.least for one in checks] == pytest.approx([0.7 * 3] * len(checks))
    wrong = [one for one in guarded(9) if one["candidate"] != "fused"]
    assert not any(one.passed for one in guard.check(wrong, [], guard.GUARDED, "cpu"))


def test_guard_without_results_has_xsepconvs_least_factor():
    checks = guard.check(guarded(1.1), [], guard.GUARDED, "cpu")
    assert {one.case.operator for one in checks if not one.passed} == {"xsep_conv2d"}


def test_guard_measures_again_what_failed():
    asked = []

    def measured(cases):
        asked.append(list(cases))
        rows = guarded(2, cases)
        return [{**rows[0], "ms": spread(5)}, *rows[1:]] if len(asked) == 1 else rows

    assert all(one.passed for one in guard.guard(measured, [], "cpu"))
    assert asked == [list(guard.GUARDED), [guard.GUARDED[0]]]


def test_guard_as_a_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(guard, "machines", lambda: [tmp_path / "mine"])
    monkeypatch.setattr(guard, "description", lambda device: CPU | {"slug": "mine"})
    save({"machine": CPU, "rows": guarded(4)}, tmp_path / "mine/ops.json")
    monkeypatch.setattr(guard, "measure", lambda cases, **_: guarded(3, cases))
    guard.main([])
    assert "2.80" in capsys.readouterr().out
    monkeypatch.setattr(guard, "measure", lambda cases, **_: guarded(2, cases))
    with pytest.raises(SystemExit, match=f"{len(guard.GUARDED)} of {len(guard.GUARDED)} failed"):
        guard.main([])


def test_committed_results_lie_in_their_machines_folder():
    assert all(load(folder).machine["slug"] == folder.name for folder in report.machines())
