"""The page on the reference runtime: its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from forerun.runtime.reference import ReferenceTarget
from forerun.runtime.reference.strategies import STRATEGIES
from forerun.support.options import specs

PAGE = (Path(__file__).parents[2] / "docs" / "reference-runtime.md").read_text(encoding="utf-8")


def test_tables_are_complete() -> None:
    assert re.findall(r"^\| (\d) \| `(\w+)`", PAGE, re.MULTILINE) == [
        (str(i), name) for i, name in enumerate(STRATEGIES)
    ]
    for spec in specs(ReferenceTarget):
        assert f"| `{spec.key}` |" in PAGE
