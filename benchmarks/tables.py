"""What was measured as Markdown: a function for each part of the README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from statistics import median as middle

from . import columns
from .cases import Case
from .columns import DASH, IN_BLOCKS, NCHW_IN_BLOCKS, ratio, shown, span
from .ratios import (
    APART,
    CUDNN_BENCHMARK,
    ORIGINALS,
    UNFUSED,
    blocks_of,
    by_case,
    compared,
    fastest,
    geometric_mean,
    median,
    ordinary,
    tensor_bytes,
)
from .results import Results

XSEP = "xsep_conv2d"
OTHERS = ("even_conv2d", "even_depthwise_conv2d", "separable_depthwise_conv2d", "symmetric_pad2d")
MORE = {"sweeps": "how time grows with N, H and K", "roofline": "how far from the machine's limits"}
FORMS = {"pad+concat": "the 2×2 after a pad", "in 3×3": "the 2×2 in the corner of a 3×3"}
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
LARGE_K = 15
"""From which on few networks have layers."""
EXPLAINED = {
    "cpu": "bfloat16 is measured eager only; *memory kept* and *forward, kept*: step and forward against the fastest "
    "eager one, with an allocator that gives no memory back to the system, for maps that glibc otherwise takes from it "
    "anew each time",
    "cuda": "*fp16*: the same in float16; *in CUDA graphs*: all replayed on one set of inputs, which the L2 may keep",
}
"""What the columns say that only one kind of device has."""


def headline(results: Sequence[Results]) -> str:
    """One sentence for each kind of device."""
    measured = {result.machine["device"]: result for result in results}
    return " ".join(f"{device}: {_claim(measured.get(kind))}." for kind, device in DEVICES.items())


def _claim(result: Results | None) -> str:
    cases = {} if result is None else by_case(of_operator(result, XSEP))
    ratios = {case: value for case, rows in cases.items() if (value := columns.FASTEST.value(rows)) is not None}
    if not ratios:
        return "not yet measured"
    of_case = [
        [
            row
            for row in cases[case]
            if row["candidate"] in UNFUSED and (row["pass"], row["dtype"]) == ("step", "float32")
        ]
        for case in ratios
    ]
    forms, layouts, modes = (_tried(of_case, name) for name in ("candidate", "layout", "mode"))
    smaller = [value for case, value in ratios.items() if case.K < LARGE_K]
    of_smaller = f"; {geometric_mean(smaller):.2f} without K ≥ {LARGE_K}" if 0 < len(smaller) < len(ratios) else ""
    return (
        f"an XSepConv training step in float32 is **{geometric_mean([*ratios.values()]):.2f} times as fast** as the "
        f"fastest way with PyTorch's own operators ({forms}; {layouts}; {modes}), "
        f"geometric mean of {len(ratios)} shapes, from {min(ratios.values()):.2f} to {max(ratios.values()):.2f}"
        f"{of_smaller}; {span(IN_BLOCKS.means(cases.values()))} in each block of rounds by itself "
        f"({provenance(result.machine)})"
    )


def _tried(cases: Sequence[Sequence[dict]], field: str) -> str:
    """What a field is in these rows, and in how many cases if not in all."""
    values = (dict.fromkeys(row[field] for row in rows if row["mode"] not in APART) for rows in cases)
    counts = Counter(value for of_case in values for value in of_case)
    names = [FORMS.get(v, v) + (f" for {n} of {len(cases)}" if n < len(cases) else "") for v, n in counts.items()]
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def xsepconv(result: Results) -> str:
    cases = by_case(of_operator(result, XSEP))
    device = result.machine["device"]
    every = columns.OF_XSEP + columns.ONLY_ON[device]
    body = [[case.group, sizes(case), *(column.cell(rows) for column in every)] for case, rows in cases.items()]
    means, worst = zip(*(column.summary(cases.values()) for column in every))
    body += [["geometric mean", "", *means], ["worst", "", *worst]]
    slug = result.machine["slug"]
    more = [f"[{text}]({figure_path(slug, name)})" for name, text in MORE.items() if DRAWN[name](result)]
    source = _source(result.machine, result.ops)
    return _part(
        f"A training step of XSepConv, float32: how many times as fast as others ({source}).",
        markdown(["maps of", "N, C, H=W, K", *(column.title for column in every)], body, text=2),
        "Of the step, *vs fastest*: the fastest of pad + 3 convolutions and 2×2-in-a-3×3 + 2 convolutions, in "
        "any layout and mode, in the middle one of the blocks; *in each block*: least–most of the blocks; "
        "*NCHW*, *channels_last*: both sides in that layout; *vs compiled*: the fastest of them under `torch.compile`; "
        "*vs K×K*, *vs 3×3*: the one depthwise convolution that XSepConv replaces, and a 3×3, which compute something "
        "else; *× copy*: its time in copies of x; *% of roofline*: of what the fastest copy of this run, and the "
        "fastest matrix product or dense convolution, would allow; *bf16*: the fused one in bfloat16, others in "
        "it or via float32, with casts of the maps; *forward*: without "
        f"gradients, against onnxruntime too, timed by itself; {EXPLAINED[device]}; below 1, **bold**, it loses; / 2 "
        "is a stride.",
        *([_goals(cases.values())] if device == "cpu" else []),
        _image(slug, "bars", "Forward and step of every shape, as multiples of copying the tensor"),
        f"Also: {', '.join([*more, f'[every row](benchmarks/results/{slug})'])}; `make bench` measures again.",
    )


def _goals(cases: Collection[Sequence[dict]]) -> str:
    """What the project has set itself for CPUs, and whether it is so."""
    fastest_form, of_nchw = ([*filter(None, map(column.value, cases))] for column in columns.OF_GOALS)
    means, of_nchw_means = (f", {span(each.means(cases))} in each block" for each in (IN_BLOCKS, NCHW_IN_BLOCKS))
    goals = (
        ("a geometric mean of 2.5 against the fastest", geometric_mean(fastest_form), means, 2.5),
        ("no shape under 1.2", min(fastest_form), "", 1.2),
        ("a geometric mean of 6 of NCHW against NCHW", geometric_mean(of_nchw), of_nchw_means, 6),
    )
    found = (
        f"{goal} ({value:.2f}{blocks}: {'reached' if value >= least else 'missed'})"
        for goal, value, blocks, least in goals
    )
    kept = [*filter(None, map(columns.MEMORY_KEPT.value, cases))]
    of_kept = f" Where memory is kept from call to call, maps of 32 MiB and more come to {span(kept)} instead."
    return f"The goals for a CPU: {'; '.join(found)}.{of_kept if kept else ''}"


def operators(result: Results) -> str:
    chosen = (columns.FORWARD, columns.FASTEST, columns.BF16)
    summaries, body = [], []
    for operator in OTHERS:
        cases = by_case(of_operator(result, operator))
        for case, rows in cases.items():
            step = fastest(rows, *UNFUSED, dtype="float32", **{"pass": "step"})
            name = ", ".join(step[field] for field in ("candidate", "layout", "mode")) if step else DASH
            cells = [column.cell(rows) for column in (*chosen, *columns.LIMITS)]
            body.append([f"`{operator}`", case.group, sizes(case), *cells, name])
        if cases:
            pairs = [" / ".join(column.summary(cases.values())) for column in chosen]
            summaries.append([f"`{operator}`", str(len(cases)), *pairs])
    titles = [column.title for column in chosen]
    every = ["operator", "maps of", "N, C, H=W, K", *titles, *(column.title for column in columns.LIMITS)]
    return _part(
        f"The other operators: geometric mean / worst over shapes ({_source(result.machine, result.ops)}).",
        markdown(["operator", "shapes", *titles], summaries),
        "How many times as fast as the fastest other way to do it, in any layout and mode: *forward* and *step* in "
        "float32, *bf16 step* in bfloat16, the others in it or via float32, with casts of the maps; below 1, **bold**, "
        "the fused operator loses.",
        "<details><summary>Every shape</summary>\n\n"
        + markdown([*every, "fastest other step"], body, text=3)
        + "\n\n</details>",
    )


def memory(result: Results) -> str:
    forms = ("fused", "pad+concat", "in 3×3", "K×K")
    body = []
    for operator in (XSEP, *OTHERS):
        cells = []
        for field in ("saved_bytes", "peak_bytes"):
            for form in forms:
                rows = [r for r in of_operator(result, operator) if r["candidate"] == form and r.get(field) is not None]
                least = [min(r[field] / tensor_bytes(r) for r in of_case) for of_case in by_case(rows).values()]
                cells.append(span(least, 1))
        if set(cells) != {DASH}:
            body.append([f"`{operator}`", *cells])
    titles = [f"{what}: {form}" for what in ("saved", "peak") for form in forms]
    return _part(
        f"Bytes of a float32 step, in T, the bytes of x: least–most over shapes ({provenance(result.machine)}).",
        markdown(["operator", *titles], body),
        "*saved*: what autograd keeps between forward and backward; *peak*: what a step takes, at most at once, beyond "
        "x and the result's gradient; each in the layout that takes least.",
    )


def models(result: Results) -> str:
    body = []
    for (model, conv, precision, mode), fused in _trained(result.models).items():
        same = [
            row for row in result.models if (row["model"], row["precision"], row["mode"]) == (model, precision, mode)
        ]
        own = [row for row in same if row["conv"] == conv]
        by_backend = [[row for row in own if row["backend"] == backend] for backend in ("fused", "reference")]
        groups = *by_backend, [row for row in same if row["conv"] in ORIGINALS]
        three = _, _, original = [_quickest(group) for group in groups]
        times = [of_blocks(group, groups[0]) for group in groups[1:]]
        replaced = f"{original['conv']} → {conv}" if original else conv
        settings = precision if mode == "eager" else f"{precision}, {mode}"
        sizes = f"{fused['batch']}, {fused['size']}"
        mebibytes = [_mebibytes(three, field) for field in ("saved_bytes", "peak_bytes")]
        body.append([f"`{model}`", replaced, settings, sizes, _throughput(fused), *times, *mebibytes])
    titles = ["network", "replaces", "precision", "batch, size", "images/s", "vs reference", "vs original"]
    return _part(
        f"Training steps of the papers' networks ({_source(result.head('models'), result.models)}).",
        markdown([*titles, "saved MiB", "peak MiB"], body, text=3),
        "*images/s* with the fused operators; *vs reference*: how many times as fast as the same network in plain "
        "PyTorch; *vs original*: as the network with the convolution that was replaced, in the middle one of the "
        "blocks (least–most of them); below 1, **bold**, it is slower; each in its faster layout, compiled ones in "
        "channels_last. *saved* for backward, and *peak* of a "
        "step beyond parameters and their gradients: fused / reference / original.",
        _image(result.machine["slug"], "models", "Speed and saved bytes of networks, relative to the original"),
    )


def _trained(rows: Sequence[dict]) -> dict[tuple, dict]:
    """The fused training of every network in its faster layout."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["backend"] == "fused" and row["conv"] not in ORIGINALS:
            groups.setdefault((row["model"], row["conv"], row["precision"], row["mode"]), []).append(row)
    return {key: _quickest(group) for key, group in groups.items()}


def _quickest(rows: Iterable[dict]) -> dict | None:
    return min(rows, key=median, default=None)


def of_operator(result: Results, operator: str) -> list[dict]:
    """An operator's rows on the maps of networks."""
    return [row for row in ordinary(result.ops) if row["operator"] == operator]


def sizes(case: Case) -> str:
    return f"{case.N}, {case.C}, {case.H}, {case.K}" + (f" / {case.stride}" if case.stride > 1 else "")


DRAWN: dict[str, Callable[[Results], object]] = {
    "bars": lambda result: of_operator(result, XSEP),
    "sweeps": lambda result: [row for row in result.ops if row["group"].startswith("sweep")],
    "roofline": lambda result: result.limits and of_operator(result, XSEP),
    "models": lambda result: result.models,
}
"""What there must be of the results for a figure to be drawn."""


def figure_path(slug: str, name: str) -> str:
    return f"docs/benchmarks/{slug}-{name}.png"


def markdown(head: Sequence[str], body: Sequence[Sequence[str]], text: int = 1) -> str:
    """The first ``text`` columns to the left, the others to the right."""
    rule = ["---" if n < text else "---:" for n in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def provenance(machine: dict) -> str:
    commit = [f"commit {machine['commit']}"] if machine["commit"] else []
    return ", ".join([machine["name"], f"torch {machine['torch']}", machine["date"][:10], *commit])


def _source(machine: dict, rows: Sequence[dict]) -> str:
    rounds = sorted({row["ms"]["rounds"] for row in rows})
    counted = f"{rounds[0]}" + (f" to {rounds[-1]}" if len(rounds) > 1 else "")
    blocks = f"{blocks_of(rows)} block{'s' if blocks_of(rows) > 1 else ''}"
    two = any(row["mode"] == CUDNN_BENCHMARK for row in rows)
    processes = "the lesser of a process with cuDNN's choice by measurement and one without" if two else "one process"
    return f"{provenance(machine)}; {processes}, interleaved, medians of {counted} rounds in {blocks}"


def _part(*paragraphs: str) -> str:
    return "\n\n".join(paragraphs)


def _image(slug: str, name: str, alternative: str) -> str:
    return f"![{alternative}]({figure_path(slug, name)})"


def of_blocks(slow: Sequence[dict], fast: Sequence[dict]) -> str:
    found = compared(slow, fast)
    return f"{ratio(middle(found))} ({span(found)})" if found else DASH


def _throughput(row: dict) -> str:
    return f"{row['images_per_s']:.{0 if row['images_per_s'] >= 100 else 1}f}"


def _mebibytes(rows: Sequence[dict | None], field: str) -> str:
    counts = [(row or {}).get(field) for row in rows]
    if counts[0] is None:
        return DASH
    return " / ".join(shown(lambda count: f"{count / 2**20:.0f}", count) for count in counts)
