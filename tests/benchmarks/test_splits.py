"""The benchmark of splits runs in all its parts: on the fake driver, with tiny shapes."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from benchmarks import splits
from forerun.runtime.native.build import compiler
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import on_fake


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    with on_fake(monkeypatch, FakeCuda()):
        yield
        gc.collect()


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_all_parts(api: Any) -> None:
    bench = splits.Bench("cuda", splits.SMALL, 1, seconds=0.2)
    parts = splits.borders, splits.two_sequences, splits.fetched, splits.dense_streamed, splits.processor_time
    for part in (splits.same_bits, *parts, splits.undone):
        part(bench)
    assert "bit-identical over graph, signals, plans, synchronous, measured: True" in bench.lines
    wanted = {"worst_ratio", "two_sequences_speedup", "link_share", "cpu_ratio", "sustained", "undo_ratio"}
    assert {f"splits.{name}" for name in wanted} <= set(bench.metrics)
    assert next(line for line in bench.lines if line.startswith("splits:")).count("host") == 1
