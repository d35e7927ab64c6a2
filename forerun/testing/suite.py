"""The tests that ``pytest --forerun-pass`` runs: one for each property of each pass."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.trust import vouch
from forerun.passes.infra.pipeline import Pipeline
from forerun.support.diagnostics import ForerunError, InvalidInput
from forerun.testing.counterexample import Counterexample
from forerun.testing.files import load_strategy, load_trusted, read_counterexample, replay_command, save_counterexample
from forerun.testing.properties import PROPERTIES, Application
from forerun.testing.searching import SearchResult, search
from forerun.testing.subject import is_idempotent, pipeline_of
from forerun.testing.tally import PROPERTY

__all__ = ["pytest_generate_tests", "require_usable", "strategy_of", "test_fires", "test_property"]

pytestmark = pytest.mark.forerun_pass


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every property for every pass."""
    metafunc.parametrize("subject", metafunc.config.getoption("forerun_pass"))
    if "what" in metafunc.fixturenames:
        metafunc.parametrize("what", list(PROPERTIES))


def test_property(subject: str, what: str, request: pytest.FixtureRequest) -> None:
    """The pass has the property on random graphs, after the counterexample of an earlier run, if there is one."""
    pipeline = pipeline_of(subject)
    if what == "idempotent" and not is_idempotent(pipeline):
        pytest.skip("not demanded: several passes, or the class says idempotent = False")
    file = _file(request.config, subject, what)
    found = _known(pipeline, what, file) or _search(pipeline, subject, what, request).counterexample
    if found is None:
        return
    if file is not None:
        save_counterexample(file, found, pipeline)
        found.replay = replay_command(file, pipeline, found.before)
    pytest.fail(str(found), pytrace=False)


def test_fires(subject: str, request: pytest.FixtureRequest) -> None:
    """The pass changes at least one of the random graphs; else the other tests say nothing."""
    result = _search(pipeline_of(subject), subject, "fires", request)
    if result.fired:
        return
    message = (
        f"{subject} changed none of {result.examples} random graphs, so its properties were tested on nothing.\n"
        "Aim: write a strategy whose graphs it matches, such as\n\n"
        "    def my_graphs():\n"
        '        return forerun.testing.graphs(after="infer-dependencies,insert-pdl", must_match=has_my_pattern)\n\n'
        "and pass --forerun-graphs MODULE:my_graphs; --forerun-examples N tries more graphs."
    )
    pytest.fail(message, pytrace=False)


def _search(pipeline: Pipeline, subject: str, what: str, request: pytest.FixtureRequest) -> SearchResult:
    names = [what] if what in PROPERTIES else []
    examples = request.config.getoption("forerun_examples")
    result = search(pipeline, strategy_of(request.config), properties=names, examples=examples)
    found = subject, result.examples, result.fired, result.seconds
    request.node.user_properties.append((PROPERTY, found))
    return result


def require_usable(config: pytest.Config) -> None:
    """Load and check what the options name, before anything is collected.

    Raises:
        UsageError: If there is no such module, pass or strategy.
    """
    for name in config.getoption("forerun_load"):
        try:
            load_trusted(name)
        except ForerunError as error:
            raise pytest.UsageError(f"--forerun-load {name}: {error}") from error
    for subject in config.getoption("forerun_pass"):
        try:
            pipeline_of(subject)
        except ForerunError as error:
            raise pytest.UsageError(f"--forerun-pass {subject}: {error}") from error
        # Whoever names a module in an option vouches for it: the kernels that a pass introduces may call its functions.
        vouch(*(type(passed).__module__ for passed in pipeline_of(subject)))
    strategy_of(config)


def strategy_of(config: pytest.Config) -> st.SearchStrategy[Graph] | None:
    """The strategy of ``--forerun-graphs``; ``None`` for forerun's own.

    Raises:
        UsageError: If there is no such strategy.
    """
    path = config.getoption("forerun_graphs")
    try:
        return None if path is None else load_strategy(path)
    except ForerunError as error:
        raise pytest.UsageError(f"--forerun-graphs {path}: {error}") from error


def _file(config: pytest.Config, subject: str, what: str) -> Path | None:
    """Where the counterexample is kept from one run to the next; nowhere if pytest's cache is off."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if cache is None:
        return None
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{subject}-{what}")
    return cache.mkdir("forerun") / f"{stem}.fir"


def _known(pipeline: Pipeline, what: str, file: Path | None) -> Counterexample | None:
    """The counterexample of an earlier run, if it still is one; the file is written again if it is."""
    if file is None or not file.exists():
        return None
    text = file.read_text(encoding="utf-8")
    file.unlink()
    with suppress(InvalidInput):  # of another version: its text cannot be read any more
        saved = read_counterexample(str(file), text)
        try:
            PROPERTIES[what].check(Application.of(pipeline, saved.graph))
        except Counterexample as found:
            return found
    return None
