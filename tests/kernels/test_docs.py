"""docs/writing-kernels.md: its kernel runs on the reference target, and its CUDA C++ is compiled."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from forerun.ir.trust import trusting
from forerun.runtime.toolchain import missing_toolchain
from tests.documents import blocks, write_files

PAGE = Path(__file__).parents[2] / "docs" / "writing-kernels.md"


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(PAGE, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "scale_add", raising=False)
    *_, trying = (block for block in blocks(PAGE, "python") if not block.is_file and "scale_add" in block.code)
    names: dict[str, Any] = {}
    exec(compile(trying.code, str(PAGE), "exec"), names)
    sys.modules.pop("scale_add", None)
    if missing_toolchain() is None:
        with trusting("scale_add"):
            require_compiled(names["graph"])


def require_compiled(graph: Any) -> None:
    from forerun.runtime.cuda.codegen.specialise import units
    from forerun.runtime.toolchain import compile_unit

    (unit,), _ = units(graph)
    assert [i.opcode for i in compile_unit(unit.source).entries[unit.entry].instructions].count("LDG.E") == 3
