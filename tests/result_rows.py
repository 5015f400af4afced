"""Rows of results whose numbers are easy to work out by hand."""

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
    deciles = {"p10": median * (1 - width), "p90": median * (1 + width)}
    blocks = [median * (1 - width / 4), median, median * (1 + width / 4)]
    return quartiles | deciles | {"median": median, "rounds": 25, "blocks": blocks}


def row(candidate, median, layout="NCHW", mode="eager", what="step", dtype="float32", case=FIRST, width=0.02, **more):
    named = {"candidate": candidate, "layout": layout, "mode": mode, "pass": what, "dtype": dtype}
    return case | named | {"ms": spread(median, width), "times_copy": median / 0.5} | more


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
