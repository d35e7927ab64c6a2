"""Listings of nvdisasm, as text."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from forerun.runtime.toolchain import ToolchainMissing
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
        return subprocess.CompletedProcess(line, 1, "", f"fatal: {line[-1]} is of a newer kind")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ToolchainMissing, match="the cubin is of a newer kind"):
        disassemble(b"", Path("nvdisasm"))
