"""For all tests: Hypothesis profiles, and the skipping of tests that need a GPU."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# dev: new examples at every run. ci: the same examples at every run, so that a red run is red for a reason that the
# change brought. deep: for a night, or for a change of the rules themselves: pytest --hypothesis-profile=deep
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
settings.register_profile("deep", deadline=None, max_examples=5000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--bless``."""
    parser.addoption("--bless", action="store_true", help="rewrite the expected outputs in tests/cases")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``gpu`` where there is none, with the reason."""
    if item.get_closest_marker("gpu") is None:
        return
    from forerun.runtime.gpu import no_gpu_reason

    reason = no_gpu_reason()
    if reason is not None:
        pytest.skip(f"no GPU: {reason}")
