"""The search behind the plugin and ``forerun fuzz``: wrong passes are caught, by a small graph, the same each time."""

from __future__ import annotations

import pytest

from forerun.passes.infra.base import Pass
from forerun.testing import PROPERTIES, Counterexample, assert_properties, search
from forerun.testing.subject import pipeline_of
from tests.testing.aims import ChangesFills, Dishonest, Forgetful, Nothing, Raises, aimed
from tests.wrong.passes import WRONG_PASSES

pytestmark = pytest.mark.slow

SUBJECTS = {wrong.name: wrong.subject for wrong in WRONG_PASSES}
MOST_NODES = {
    "ignores-war": 2,
    "never-waits": 2,
    "trusts-present-waits": 2,
    "hoists-everything": 3,
    "ignores-own-writes": 2,
    "keeps-the-oldest": 3,
    "adds-no-full-edge": 3,
    "adds-full-edge-from-the-first": 3,
    "crosses-events": 4,
    "reduces-as-if-full": 4,
}
"""What two hundred steps of shrinking come to at most, with any of several seeds."""


@pytest.mark.parametrize("name", MOST_NODES)
def test_wrong_passes_are_caught_by_small_graphs(name: str) -> None:
    twin = SUBJECTS[name]
    result = search(twin, aimed(twin), properties=["valid", "refines"], examples=1500, seed=0, shrinks=200)
    found = result.counterexample
    assert found is not None
    assert len(found.before) <= MOST_NODES[name]
    assert result.fired
    with pytest.raises(Counterexample):
        assert_properties(pipeline_of(twin), found.before)


@pytest.mark.parametrize("name", ["infer-dependencies", "insert-pdl{trigger=end}", "hoist-loads", "exact"])
def test_right_passes_are_not(name: str) -> None:
    result = search(name, examples=15, seed=0)
    assert str(result.counterexample) == "None"
    assert result.examples == 15
    assert result.fired


@pytest.mark.parametrize(
    ("subject", "broken"),
    [(Raises, "valid"), (Dishonest, "honest"), (ChangesFills, "refines"), (Nothing, None)],
)
def test_each_property_catches_its_fault(subject: type[Pass], broken: str | None) -> None:
    found = search(
        subject, aimed(subject()) if subject is not ChangesFills else None, examples=60, seed=0, shrinks=60
    ).counterexample
    assert (found and found.property) == broken
    if subject is Raises:
        assert found is not None
        assert "ValueError: two nodes are too many" in str(found)
        assert len(found.before) == 2


def test_idempotence_is_demanded_unless_the_class_says_no() -> None:
    only = {"properties": ["idempotent"], "examples": 40, "seed": 0, "shrinks": 20}
    assert search(ChangesFills, **only).counterexample is not None
    assert search(Forgetful, **only).counterexample is None
    assert search("insert-pdl,infer-dependencies", **only).counterexample is None


def test_equal_seeds_find_the_same() -> None:
    first, second = (search(ChangesFills, examples=60, seed=3, shrinks=30) for _ in range(2))
    assert str(first.counterexample) == str(second.counterexample)
    assert (first.examples, first.fired, first.shrinks) == (second.examples, second.fired, second.shrinks)


def test_progress_is_told() -> None:
    told: list[int] = []
    search("reduce-edges", examples=5, seed=0, on_progress=lambda result: told.append(result.examples))
    assert told == [1, 2, 3, 4, 5]
    assert set(PROPERTIES) == {"valid", "honest", "refines", "same-outputs", "roundtrip", "idempotent"}
