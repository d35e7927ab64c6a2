"""The fake GPU of tests of plans."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.runtime.plans.fake import UpdatableCuda, fake_gpu


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[UpdatableCuda]:
    with fake_gpu(monkeypatch) as (api, driver):
        yield api
        gc.collect()
        assert (api.leaks(), driver.handles.live()) == ({}, ())
