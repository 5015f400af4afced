"""What the benchmarks compare: every form in every layout, and whose turn it is among the inputs."""

from itertools import pairwise

import pytest
import torch
from small_cases import SMALL, each_operator

from benchmarks.candidates import EXACT, FORMS, LAYOUTS, NARROW, TOLERANCE, Corner, candidates, compiled


@each_operator
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
        assert 0 <= candidate.error <= TOLERANCE[dtype]
        assert candidate.error > 0 or not candidate.weights


def test_narrow_types_are_computed_in_float32_too():
    found = candidates(SMALL["xsep_conv2d"], torch.bfloat16, forms=NARROW)
    assert {name.split(", ")[0] for name in found} == {*EXACT, "pad+concat via float32", "in 3×3 via float32"}
    for layout in LAYOUTS:
        wide, narrow = (found[f"pad+concat{how}, {layout}"] for how in (" via float32", ""))
        x, weights = wide.sets[0][0], [weight.double() for weight in wide.weights]
        rounded = narrow.function(x.double(), *weights).bfloat16()
        assert wide.step()[0].dtype == torch.bfloat16
        torch.testing.assert_close(wide.step()[0], rounded, rtol=2**-8, atol=0)


def test_kernels_in_a_corner_are_found_there():
    for channels, shape in ((0, (6, 1, 2, 2)), (1, (3, 7, 4, 4))):
        corner, weight = Corner(channels, ("BR", "TL", "BL", "TR")), torch.randn(shape)
        odd = corner.place(weight)
        assert odd.shape[2:] == (shape[2] + 1, shape[2] + 1)
        assert torch.equal(corner.take(odd), weight)
        assert odd.count_nonzero() == weight.count_nonzero()
        first, last = (odd.narrow(channels, place, 1) for place in (0, shape[channels] - 1))
        assert not first[..., 0, :].any()
        assert not first[..., 0].any()
        assert not last[..., -1, :].any()
        assert not last[..., 0].any()


def test_no_candidate_is_given_what_the_one_before_it_has_read():
    found = candidates(SMALL["xsep_conv2d"], torch.float32, sets=3)
    of_layout = [candidate for name, candidate in found.items() if name.endswith("NCHW")]
    seen = []
    for candidate in of_layout:
        candidate.function = lambda x, *_: seen.append(x.data_ptr())
    copies, calls = of_layout[0].copies(), [candidate.forwards() for candidate in of_layout]
    for _ in range(2):
        for call in calls:
            call()
            copies()
    assert len(of_layout) == 5
    assert all(before != after for before, after in pairwise(seen))
    assert len(set(seen)) == 3


def test_compiled_candidates_take_turns_with_the_others():
    candidate = candidates(SMALL["xsep_conv2d"], torch.float32, sets=2)["pad+concat, NCHW"]
    assert compiled(candidate).turns is candidate.turns
