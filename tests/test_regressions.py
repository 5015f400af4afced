"""What became slower: two results against each other, and ratios against the committed ones."""

import pytest
from result_rows import CPU, FIRST, MODELS, row, spread, trained

from benchmarks import compare, guard
from benchmarks.ratios import is_fused
from benchmarks.results import save


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


def test_compare_divides_by_what_was_interleaved_with_the_row():
    """One case met another machine; the fused row of it is as slow as the rest of it, that of another case is not."""
    old, new = planted(), planted()
    for one in new[:2]:
        one["ms"] = spread(3 * old[0]["ms"]["median"])
    assert not compare.compare(old, new).changed
    new[2]["ms"] = spread(3 * old[2]["ms"]["median"])
    (change,) = compare.compare(old, new).changed
    assert (change.row["N"], change.ratio) == (2, pytest.approx(3))


def test_compare_is_silent_within_what_others_of_the_case_drift_by():
    forms = ("K×K", "3×3", "pad+concat", "in 3×3")
    old = [row("fused", 1), *(row(form, 2) for form in forms)]
    for fused, changed in ((1.3, 0), (0.9, 0), (1.7, 1), (0.7, 1)):
        new = [row("fused", fused), *(row(form, 2 * drift) for form, drift in zip(forms, (0.9, 1, 1.2, 1.4)))]
        found = compare.compare(old, new).changed
        assert len([change for change in found if is_fused(change.row)]) == changed


def test_compare_is_silent_where_blocks_overlap():
    old, new = planted(), planted(fused=1.2)
    for one in new:
        one["ms"]["blocks"][0] /= 1.2
    assert not compare.compare(old, new).changed


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
    save({"machine": CPU | {"name": "Another"}, "rows": planted()}, tmp_path / "another/ops.json")
    compare.main([str(tmp_path / "old"), str(tmp_path / "another")])
    assert "Of two machines: Some CPU, 2 threads and Another." in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"empty holds neither ops\.json nor models\.json"):
        compare.main([str(tmp_path / "old"), str(tmp_path / "empty")])
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


def test_guard_reads_no_sweep(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(guard, "machines", lambda: [tmp_path / "mine"])
    monkeypatch.setattr(guard, "description", lambda device: CPU | {"slug": "mine"})
    sweeps = [one | {"group": "sweep N"} for one in guarded(1)]
    save({"machine": CPU, "rows": [*guarded(4), *sweeps]}, tmp_path / "mine/ops.json")
    monkeypatch.setattr(guard, "measure", lambda cases, **_: guarded(3, cases))
    guard.main([])
    assert "2.80" in capsys.readouterr().out


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
