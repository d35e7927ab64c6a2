"""Many threads dump at once: each run has a folder of its own, and one folder never holds half a file."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from forerun.cli.files import new_run_folder
from forerun.ir.text import parse_graph
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.instrument import Dump
from tests.cli.conftest import build

THREADS = 8


def together(work) -> None:
    """Runs it in many threads; what one of them raises is raised."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_each_run_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    made: list[Path] = []
    together(lambda number: made.extend(new_run_folder("model") for _ in range(2)))
    assert len(set(made)) == 2 * THREADS


def test_runs_that_share_a_folder_leave_whole_files(tmp_path: Path) -> None:
    graph = build("shared")

    def work(number: int) -> None:
        PassManager(Pipeline.parse("insert-pdl"), [Dump(tmp_path)]).run(graph)

    together(work)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "ok"
    for path in tmp_path.glob("*.fir"):
        assert parse_graph(path.read_text()).name == "shared"
    assert not list(tmp_path.glob(".forerun-*"))
