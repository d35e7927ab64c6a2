"""Messages of NVRTC and ptxas, as text."""

from __future__ import annotations

from forerun.runtime.toolchain.messages import nvrtc_diagnostics, ptxas_diagnostics
from forerun.support.diagnostics import Location, Severity

TEXTS = {"unit.cu": "int a;\n\tint b = what(1);\n", "device.cuh": "#pragma once\n"}

NVRTC_LOG = """\
device.cuh(1): warning #177-D: variable "q" was declared but never referenced
  #pragma once
          ^

Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"

unit.cu(2): error: identifier "what" is undefined
  \tint b = what(1);
  \t        ^
          detected during instantiation of "f<T>"

/cuda/include/cuda_fp16.hpp(812): error: #error directive: "no"
  #error
   ^

unit.cu(9): catastrophic error: cannot open source file "x.h"
2 errors detected in the compilation of "unit.cu".
"""


def test_nvrtc():
    warning, undefined, foreign, lost = nvrtc_diagnostics(NVRTC_LOG, TEXTS)
    assert (warning.code, warning.severity) == ("nvrtc-177", Severity.WARNING)
    assert warning.location == Location("text", "device.cuh", 1, 9, 4)
    assert undefined.location == Location("text", "unit.cu", 2, 10, 4)
    assert undefined.message == 'identifier "what" is undefined detected during instantiation of "f<T>"'
    assert foreign.location == Location("file", "/cuda/include/cuda_fp16.hpp:812")
    assert lost.location == Location("file", "unit.cu:9")
    assert lost.severity is Severity.ERROR


def test_nothing_to_say():
    assert nvrtc_diagnostics("", TEXTS) == ()
    assert ptxas_diagnostics("ptxas info    : 0 bytes gmem\n", "", "unit.cu", TEXTS) == ()


PTX = """\
.version 9.0
.visible .entry k()
{
\t.loc\t1 2 10
\tbogus.instr %rd1;
}
.visible .entry m()
{
\tbogus.instr %rd1;
}
\t.file\t1 "unit.cu"
"""


def test_ptxas():
    log = """\
ptxas warning : too many registers
ptxas /tmp/x/unit.ptx, line 5; error   : Unknown modifier '.instr'
ptxas /tmp/x/unit.ptx, line 9; error   : Unknown modifier '.instr'
ptxas fatal   : Ptx assembly aborted due to errors
"""
    texts = {**TEXTS, "unit.cu.ptx": PTX}
    warning, mapped, unmapped, fatal = ptxas_diagnostics(log, PTX, "unit.cu", texts)
    assert (warning.severity, warning.location) == (Severity.WARNING, Location("unit", "unit.cu"))
    assert mapped.location == Location("text", "unit.cu", 2, 10, 4)
    assert unmapped.location == Location("text", "unit.cu.ptx", 9, 1, 1)
    assert fatal.severity is Severity.ERROR
    assert len(ptxas_diagnostics(log, PTX, "unit.cu", texts, worst=Severity.ERROR)) == 3
