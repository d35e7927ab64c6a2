"""On a GPU: what copies from the host bring is known as it was when they were captured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forerun.runtime.cuda.capture.cupti import find_cupti
from tests.runtime.cuda.capture.copying import data_of

pytestmark = pytest.mark.gpu
CHANGED = "its source does not hold any more what it held when it was captured"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What a program's session knew, in a process of its own."""
    if find_cupti() is None:
        pytest.skip("there is no CUPTI")
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.cuda.capture.copying"],
        capture_output=True, text=True, check=False, timeout=300, cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("part", "name"),
    [("pinned", "overwritten"), ("pinned", "unified"), ("pageable", "unmapped"), ("by hand", "added")],
)
def test_sources_that_change_or_go_after_the_capture(told: dict[str, Any], part: str, name: str) -> None:
    if isinstance(told[part], str):
        pytest.skip(told[part])
    assert told[part]["remarks"] == []
    assert told[part]["copies"][name] == [data_of(name).decode(), True, CHANGED]


def test_other_sources(told: dict[str, Any]) -> None:
    """What the driver keeps of a small allocation that was freed is not ours to say."""
    copies = told["pinned"]["copies"]
    assert copies["kept"][:2] == [data_of("kept").decode(), False]
    assert copies["kept"][2] != CHANGED
    assert copies["freed"][0] == data_of("freed").decode()
