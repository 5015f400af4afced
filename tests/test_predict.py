"""benchmarks.predict: the machine code is read right, and plans and limits are counted as they should be."""

import subprocess

import pytest
import torch

import evenconv_cuda
from benchmarks import predict
from benchmarks.disassembly import find_nvdisasm, functions
from benchmarks.h200 import Gpu, blocks_per_sm
from benchmarks.predict import Call, arithmetic, own_elements, traffic
from benchmarks.resources import FLAGS, ROOT, find_nvcc
from benchmarks.sass import blocks_of, components, hot_turn

# As nvdisasm prints it: a loop of a copy, a store that is 16 bytes wide or four times 4, a detour that stores nothing,
# and a loop inside.
LOOP = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
.L_x_0:
        /*0020*/              @!PT LDS RZ, [RZ] ;
        /*0030*/                   LDGSTS.E.BYPASS.128.ZFILL [R11], desc[UR6][R12.64] ;
        /*0040*/                   LDS.128 R4, [R2] ;
.L_x_1:
        /*0050*/                   FFMA R8, R4, R5, R8 ;
        /*0060*/              @P1 BRA `(.L_x_1) ;
        /*0070*/              @P2 BRA `(.L_x_4) ;
        /*0080*/              @P3 BRA `(.L_x_2) ;
        /*0090*/                   STG.E desc[UR6][R12.64], R8 ;
        /*00a0*/                   STG.E desc[UR6][R12.64+0x4], R8 ;
        /*00b0*/                   STG.E desc[UR6][R12.64+0x8], R8 ;
        /*00c0*/                   STG.E desc[UR6][R12.64+0xc], R8 ;
        /*00d0*/                   BRA `(.L_x_4) ;
.L_x_2:
        /*00e0*/                   F2FP.BF16.F32.PACK_AB R8, R9, R8 ;
        /*00f0*/                   STG.E.128 desc[UR6][R12.64], R8 ;
.L_x_4:
        /*0100*/                   FADD R3, R3, R8 ;
        /*0110*/                   ISETP.NE.AND P0, PT, R3, RZ, PT ;
        /*0120*/              @P0 BRA `(.L_x_0) ;
        /*0130*/                   EXIT ;
.L_x_5:
        /*0140*/                   BRA `(.L_x_5) ;
"""


def test_the_way_through_the_hot_loop():
    turn = hot_turn(LOOP, stored=16, math=5)
    assert turn.accesses == {("copy", 16): 1, ("shared", 16): 1, ("store", 16): 1}
    # The inner loop turns four times, so that there are five of the arithmetic instructions.
    assert turn.classes["math"] == 5
    assert turn.classes["control"] == 1 + 4 + 2 + 1  # the load that is off, and the branches
    assert turn.classes["convert"] == turn.classes["select"] == 1
    assert turn.instructions == 18
    assert turn.shared_wavefronts == 4 + 4


def test_no_way_that_stores_so_much():
    with pytest.raises(ValueError, match="no way through the hot loop stores 8 bytes"):
        hot_turn(LOOP, stored=8)


def test_branches():
    blocks = blocks_of(LOOP)
    loops = [c for c in components(set(range(len(blocks))), lambda i: blocks[i].next) if len(c) > 1]
    assert len(loops) == 1
    assert sum(len(block.instructions) for block in blocks) == LOOP.count("/*")
    exits = [block for block in blocks if block.instructions and block.instructions[-1].op == "EXIT"]
    assert [block.next for block in exits] == [[]]


@pytest.mark.parametrize(
    ("threads", "registers", "shared_bytes", "blocks"),
    [
        (128, 32, 0, 16),  # threads: 2048
        (32, 32, 0, 32),  # blocks
        (128, 128, 0, 4),  # registers: 16 warps of 4096
        (128, 120, 0, 4),  # 3840 a warp: 4 for each of the four schedulers
        (256, 255, 0, 1),  # 8192 a warp: 2 for each scheduler
        (100, 32, 100 << 10, 2),  # shared memory
    ],
)
def test_blocks_per_sm(threads, registers, shared_bytes, blocks):
    assert blocks_per_sm(Gpu(), threads, registers, shared_bytes) == blocks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_traffic_is_what_the_emulator_counts(on_host, dtype, channels_last):
    """The prediction leaves out the weights, which are much where there are few rows."""
    N, C, H, K = 2, 8, 112, 3
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(N, C, H, H).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    weights = [torch.randn(C, 1, *size).to(dtype).requires_grad_() for size in ((2, 2), (1, K), (K, 1))]
    with on_host.count() as forward:
        y = evenconv_cuda.functional.xsep_conv2d(x, *weights)
    with on_host.count() as backward:
        torch.autograd.grad(y, [x, *weights], torch.randn_like(y))
    for is_backward, counters in ((False, forward), (True, backward)):
        found = counters["bytes_read"] + counters["bytes_written"]
        call = Call(is_backward, str(dtype).removeprefix("torch."), channels_last, (N, C, H), K)
        assert traffic(call, call.plan) == pytest.approx(found / call.bytes, rel=0.25)


@pytest.mark.skipif(not (find_nvcc() and find_nvdisasm()), reason="needs nvcc and nvdisasm")
def test_arithmetic_of_a_compiled_kernel(tmp_path):
    """What is counted in the machine code is what the kernel needs by hand."""
    call = Call(False, "float32", False, (128, 128, 56), 3)
    plan = call.plan
    name = call.kernel_name(plan)
    source, cubin = tmp_path / "one.cu", tmp_path / "one.cubin"
    source.write_text(f'#include "{ROOT}/csrc/cuda/chain_forward.h"\nauto* one = evenconv::cuda::{name};\n')
    subprocess.run([find_nvcc(), *FLAGS, "-arch=sm_90", "-cubin", "-o", str(cubin), str(source)], check=True)
    own = own_elements(plan)
    turn = hot_turn(functions(cubin)[name], plan["step_rows"] * plan["unit_bytes"])
    assert turn.classes["math"] == pytest.approx(own * arithmetic(call, plan["columns"]), rel=0.05)
    assert turn.accesses["copy", 16] == turn.accesses["store", 16] == plan["step_rows"]


@pytest.mark.parametrize("tool", ["nvcc", "nvdisasm"])
def test_says_what_it_needs(tool, monkeypatch):
    monkeypatch.setattr(predict, "find_nvcc", lambda: None if tool == "nvcc" else "nvcc")
    monkeypatch.setattr(predict, "find_nvdisasm", lambda: None if tool == "nvdisasm" else "nvdisasm")
    with pytest.raises(SystemExit, match=f"benchmarks.predict needs {tool}: install"):
        predict.main([])
