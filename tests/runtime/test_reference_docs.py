"""The page on the reference runtime: its Python runs, and its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forerun.runtime.reference import ReferenceTarget
from forerun.runtime.reference.strategies import STRATEGIES
from forerun.support.options import specs

PAGE = (Path(__file__).parents[2] / "docs" / "reference-runtime.md").read_text(encoding="utf-8")


def test_python_blocks_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        exec(compile(block, "reference-runtime.md", "exec"), namespace)
    assert "add_i32.0: phase load" in capsys.readouterr().out
    assert (tmp_path / "schedule.json").exists()


def test_tables_are_complete() -> None:
    assert re.findall(r"^\| (\d) \| `(\w+)`", PAGE, re.MULTILINE) == [
        (str(i), name) for i, name in enumerate(STRATEGIES)
    ]
    for spec in specs(ReferenceTarget):
        assert f"| `{spec.key}` |" in PAGE
