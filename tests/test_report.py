"""README's tables and figures, against rows whose numbers are worked out by hand."""

import pytest
from PIL import Image
from result_rows import CPU, FIRST, GPU, LIMITS, MODELS, OPS, PAD, row, spread

from benchmarks import figures, report, tables
from benchmarks.columns import IN_BLOCKS
from benchmarks.ratios import CUDNN_BENCHMARK, KEPT, against, fastest
from benchmarks.results import Results, load, save


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


LARGER = FIRST | {"K": 15}
MARKERS = ("headline", "xsepconv", "operators", "memory", "models")


def sweep():
    cases = [FIRST | {"group": f"sweep {name}", name: value} for name in "NHK" for value in (3, 9)]
    return [
        row(form, 2, case=case, what=what)
        for case in cases
        for form in ("fused", "copy")
        for what in ("forward", "step")
    ]


def test_figures_are_drawn_again_when_the_drawing_has_changed(committed, monkeypatch, tmp_path):
    report.main([])
    report.main(["--check"])
    changed = tmp_path / "plotting.py"
    changed.write_text("other colours")
    monkeypatch.setattr(figures.plotting, "__file__", str(changed))
    with pytest.raises(SystemExit, match="bars"):
        report.main(["--check"])


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
    older = Results(CPU | {"date": "2025-12-31"}, {}, OPS, MODELS)
    newer, gpu = Results(CPU, {}, OPS), Results(GPU | {"date": "2020-01-01"}, {}, OPS)
    assert report.shown([newer, older, gpu], "ops") == [newer, gpu]
    assert report.shown([newer, older, gpu], "models") == [older]
    again = Results(CPU | {"date": "2025-01-01"}, {}, OPS, MODELS, CPU | {"date": "2026-01-02 10:00"})
    assert report.shown([again, older], "models") == [again]
    assert report.shown([again, older], "ops") == [older]


def test_steps_of_xsepconv():
    kept = [row("in 3×3", 3, mode=KEPT), row("fused", 2.5, mode=KEPT)]
    kept += [row("onnxruntime", 1, mode=KEPT, what="forward"), row("fused", 2, mode=KEPT, what="forward")]
    text = tables.xsepconv(Results(CPU, LIMITS, [*OPS, *sweep(), *kept]))
    found = {tuple(line[:2]): line[2:] for line in lines(text, 15)}
    first = [
        "3.00",
        "3.00",
        "3.00",
        "3.00",
        "3.00",
        "2.50",
        "**0.75**",
        "4.0",
        "50",
        "3.50",
        "2.25",
        "1.20",
        "**0.50**",
    ]
    second = ["**0.75**", "0.75", "**0.75**", "–", "–", "–", "–", "16.0", "–", "–", "–", "–", "–"]
    assert found["ConvNeXt", "2, 8, 16, 7"] == first
    assert found["EfficientNet", "2, 8, 16, 3 / 2"] == second
    means = [
        "1.50",
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
        "1.20",
        "**0.50**",
    ]
    assert found["geometric mean", ""] == means
    assert found["worst", ""][:8] == ["**0.75**", "", "**0.75**", "3.00", "3.00", "2.50", "**0.75**", "16.0"]
    assert len(found) == 6  # and head and rule, but no sweeps
    assert "medians of 25 rounds in 3 blocks" in text
    goals = "2.5 against the fastest (1.50, 1.50 in each block: missed); no shape under 1.2 (0.75: missed)"
    goals += "; a geometric mean of 6 of NCHW against NCHW (1.50, 1.50 in each block: missed)."
    assert f"The goals for a CPU: a geometric mean of {goals}" in text
    assert "Where memory is kept from call to call, maps of 32 MiB and more come to 1.20 instead." in text
    faster = [row("fused", 1), row("in 3×3", 6)]
    assert "no shape under 1.2 (6.00: reached)" in tables.xsepconv(Results(CPU, LIMITS, faster))


def test_cuda_graphs_count_apart():
    graphs = [row("in 3×3", 0.5, mode="CUDA graph"), row("fused", 0.25, mode="CUDA graph")]
    first = lines(tables.xsepconv(Results(GPU, LIMITS, [*OPS, *graphs])), 15)[2]
    assert (first[2], first[-1]) == ("3.00", "2.00")
    assert fastest(graphs, "fused") is None


def test_a_block_by_itself():
    """In the middle block the other form is the fastest."""
    rows = [row("fused", 2), row("pad+concat", 6), row("in 3×3", 7)]
    for one, blocks in zip(rows, ((2, 2, 1), (6, 6, 6), (7, 5, 8))):
        one["ms"]["blocks"] = list(blocks)
    assert IN_BLOCKS.values(rows) == [3, 2.5, 6]
    assert against(rows, "pad+concat", "in 3×3") == 3
    assert IN_BLOCKS.cell(rows) == "2.50–6.00"
    searched = [{**one, "mode": CUDNN_BENCHMARK, "ms": spread(ms)} for one, ms in zip(rows, (1, 2, 3))]
    assert against([*rows, *searched], "pad+concat", "in 3×3") == 2
    assert against([*rows, *searched[:1]], "pad+concat", "in 3×3") == 3
    assert IN_BLOCKS.means([rows, rows]) == pytest.approx([3, 2.5, 6])


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
        [
            "`net`",
            "c3 → c2sp",
            "float32",
            "10, 32",
            "100",
            "2.50 (2.50)",
            "**0.83** (0.83)",
            "90 / 300 / 100",
            "150 / – / 200",
        ],
        ["`net`", "c2sp", "float32, compiled", "10, 32", "50.0", "–", "–", "–", "–"],
    ]


def test_headline():
    cpu, gpu = Results(CPU, LIMITS, OPS), Results(GPU, LIMITS, [row("fused", 2), row("pad+concat", 1)])
    text = tables.headline([cpu])
    assert text.startswith("CPU: an XSepConv training step in float32 is **1.50 times as fast** as the fastest way")
    assert "geometric mean of 2 shapes, from 0.75 to 3.00; 1.50" in text
    assert "(Some CPU, 2 threads, torch 9.9, 2026-01-02" in text
    assert "NCHW or channels_last for 1 of 2; eager or compiled for 1 of 2" in text
    assert "1.50 without" not in text
    assert "1.50 in each block of rounds by itself (Some CPU" in text
    larger = [row("fused", 1, case=LARGER), row("in 3×3", 12, case=LARGER), row("in 3×3", 0.1, mode=KEPT)]
    assert "of 3 shapes, from 0.75 to 12.00; 1.50 without K ≥ 15; 3.00 in each" in tables.headline(
        [Results(CPU, LIMITS, [*OPS, *larger])]
    )
    assert text.endswith("GPU: not yet measured.")
    assert "GPU: an XSepConv training step in float32 is **0.50 times as fast**" in tables.headline([cpu, gpu])
    assert tables.headline([]) == "CPU: not yet measured. GPU: not yet measured."


def test_without_results_nothing_is_claimed():
    assert set(report.parts([]).values()) == {"Not yet measured.", tables.headline([])}
