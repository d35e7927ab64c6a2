"""For all tests: Hypothesis profiles, the quick selection, and the skipping of tests that need a GPU."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

# dev: new examples at every run. ci: the same examples at every run, so that a red run is red for a reason that the
# change brought. deep: for a night, or for a change of the rules themselves: pytest --hypothesis-profile=deep
# quick: what pytest --quick uses
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True, print_blob=True, database=None)
settings.register_profile("deep", deadline=None, max_examples=5000)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=10)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--bless`` and ``--quick``."""
    parser.addoption("--bless", action="store_true", help="rewrite the expected outputs in tests/cases")
    parser.addoption("--quick", action="store_true", help="leave out what is marked slow, and draw few examples")


def pytest_configure(config: pytest.Config) -> None:
    """With ``--quick``, few examples a test."""
    if config.getoption("quick"):
        settings.load_profile("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With ``-n``, a process that is done takes tests from one that is not: those of a file differ much in length."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--quick``, leave out what is marked ``slow``."""
    if not config.getoption("quick"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(autouse=True, scope="module")
def frozen() -> None:
    """Collections of garbage, which some tests ask for hundreds of times, look at what the tests of a module make."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``gpu`` where there is none, with the reason."""
    if item.get_closest_marker("gpu") is None:
        return
    from forerun.runtime.gpu import no_gpu_reason

    reason = no_gpu_reason()
    if reason is not None:
        pytest.skip(f"no GPU: {reason}")
