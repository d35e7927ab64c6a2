"""For tests that compile: they are skipped, with the reason, where the tools are missing."""

from __future__ import annotations

import pytest

from forerun.runtime.toolchain import Cache, missing_toolchain


@pytest.fixture
def toolchain():
    """Skips the test where CUDA C++ cannot be compiled and inspected."""
    reason = missing_toolchain()
    if reason is not None:
        pytest.skip(f"no toolchain: {reason}")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")
