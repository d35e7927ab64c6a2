"""Listings of nvdisasm, as text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from forerun.runtime.toolchain import Source, ToolchainMissing, compile_unit
from forerun.runtime.toolchain.locate import require_disassembler
from forerun.runtime.toolchain.sass import disassemble, parse_listing

LISTING = """\
\t.target\tsm_90
//--------------------- .text.first              --------------------------
\t.section\t.text.first,"ax",@progbits
.text.first:
\t//## File "/some/where/lib/a.cuh", line 4 inlined at "/some/where/b.cu", line 5
\t//## File "/some/where/b.cu", line 5 inlined at "/some/where/b.cu", line 13
\t//## File "/some/where/b.cu", line 13
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/               @!P0 LDG.E.64 R2,  desc[UR4][R2.64] ;
\t//## File "/usr/include/c.h", line 7
\t//## File "/some/where/b.cu", line 14
.L_x_1:
.L_x_2:
        /*0020*/              @P0  BRA `(.L_x_2) ;
        /*0030*/                   BRA `(.L_gone) ;
$first$_Z3farf:
        /*0040*/                   CALL.REL.NOINC `($first$_Z3farf) ;
        /*0050*/                   BRX R2 -0xa0 (*"BRANCH_TARGETS .L_x_1,.L_x_3"*) ;
.L_x_3:
        /*0060*/                   RET.REL.NODEC R8 `(first) ;
.text.second:
        /*0000*/                   EXIT ;
"""


def test_a_listing():
    first = parse_listing(LISTING, ["lib/a.cuh", "b.cu"])["first"]
    chain = (("lib/a.cuh", 4), ("b.cu", 5), ("b.cu", 13))
    assert [(i.offset, i.opcode, i.text) for i in first[:2]] == [
        (0, "LDC", "LDC R1, c[0x0][0x28]"),
        (16, "LDG.E.64", "@!P0 LDG.E.64 R2, desc[UR4][R2.64]"),
    ]
    assert [i.source for i in first[:2]] == [chain, chain]
    assert [i.predicated for i in first[:4]] == [False, True, True, False]


def test_lines_without_inlining_do_not_add_up():
    assert parse_listing(LISTING, ["b.cu"])["first"][2].source == (("b.cu", 14),)


def test_names_that_are_not_known_stay_paths():
    assert parse_listing(LISTING)["first"][0].source[0] == ("/some/where/lib/a.cuh", 4)


def test_targets():
    first = parse_listing(LISTING)["first"]
    assert [i.targets for i in first] == [(), (), (32,), (), (64,), (32, 96), ()]


def test_every_section_begins_without_lines():
    (exit_,) = parse_listing(LISTING)["second"]
    assert (exit_.source, exit_.kind) == ((), "exit")


def test_a_tool_that_cannot_be_run(tmp_path):
    with pytest.raises(ToolchainMissing, match="cannot run"):
        disassemble(b"", tmp_path / "nothing")


def test_a_tool_that_refuses(monkeypatch):
    def run(line, **options):
        return subprocess.CompletedProcess(line, 1, "", f"fatal: {line[3]} is of a newer kind")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ToolchainMissing, match="the cubin is of a newer kind"):
        disassemble(b"", Path("nvdisasm"))


SWITCH = """
extern "C" __global__ void choose(int* y, int which) {
  switch (which) {
    case 0: y[0] = y[3]; break;
    case 1: y[1] *= y[4]; break;
    case 2: __syncthreads(); y[2] = 5; break;
    case 3: atomicAdd(y, 7); break;
    case 4: y[5] = y[6] / y[7]; break;
    case 5: __threadfence(); y[8] = 1; break;
  }
}
extern "C" __global__ void store(int* y) { if (threadIdx.x) y[threadIdx.x] = 1; }
"""


@pytest.mark.toolchain
@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("arch", ["sm_90", "sm_120"])
def test_the_analysis_of_nvdisasm_is_of_use_for_indirect_branches_alone(arch, cache, tmp_path):
    code = compile_unit(Source("switch.cu", SWITCH), arch, cache=cache).code
    tool = require_disassembler().path
    found = parse_listing(disassemble(code, tool))
    assert any(len(i.targets) > 2 and i.opcode.startswith("BRX") for i in found["choose"])
    (tmp_path / "switch.cubin").write_bytes(code)
    line = [tool, "--print-code", "--print-line-info-inline", tmp_path / "switch.cubin"]
    assert parse_listing(subprocess.run(line, capture_output=True, text=True, check=True).stdout) == found
