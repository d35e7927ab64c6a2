"""Fixtures of tests of the CUDA target."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import on_fake


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A fake driver, which has to get back all that a test allocates."""
    api = FakeCuda()
    with on_fake(monkeypatch, api) as driver:
        yield api
        gc.collect()
        assert (api.leaks(), driver.handles.live()) == ({}, ())
