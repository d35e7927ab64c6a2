"""Files that are wrong in every way, a few of each kind: ``benchmarks/fuzz_files.py`` tries many more."""

from __future__ import annotations

import pytest

from benchmarks.fuzz_files import KINDS, Tally, fuzz

FILES = {"fir": 60, "gguf": 60, "summary": 30, "timeline": 60, "tuning": 150, "schedule": 150, "litmus": 60}


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_files_are_bad_input(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    tally = Tally()
    fuzz(kind, iter(range(FILES[kind])), tally)
    assert tally.findings == {}
    assert tally.counts[kind]["files"] == FILES[kind]
    refused = tally.counts[kind]["InvalidInput"] + tally.counts[kind]["status 2"]
    assert FILES[kind] // 3 < refused < FILES[kind]  # some are still good: what is changed is not just noise


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_wrong_files(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    tally = Tally()
    fuzz(kind, iter(range(10_000, 10_000 + 10 * FILES[kind])), tally)
    assert tally.findings == {}
