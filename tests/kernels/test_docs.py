"""docs/writing-kernels.md: its modules are written, its programs are run, its CUDA C++ is compiled."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from forerun.ir.trust import trusting
from forerun.runtime.toolchain import missing_toolchain

PAGE = Path(__file__).parents[2] / "docs" / "writing-kernels.md"


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```(?:python|cpp)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    for block in sorted(blocks, key=lambda block: " file: " not in block):
        file = re.match(r"(?:#|//) file: ([\w.]+)\n", block)
        if file is not None:
            (tmp_path / file[1]).write_text(block)
            monkeypatch.delitem(sys.modules, Path(file[1]).stem, raising=False)
        else:
            exec(compile(block, str(PAGE), "exec"), names)
    sys.modules.pop("scale_add", None)
    if missing_toolchain() is None:
        with trusting("scale_add"):
            require_compiled(names["graph"])


def require_compiled(graph: Any) -> None:
    from forerun.runtime.cuda.codegen.specialise import units
    from forerun.runtime.toolchain import compile_unit

    (unit,), _ = units(graph)
    assert [i.opcode for i in compile_unit(unit.source).entries[unit.entry].instructions].count("LDG.E") == 3
