"""What the rules say of a test, derived by the checker: never, never under some assumptions, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations

from forerun.ir.graph import Graph
from forerun.ir.semantics import ASSUMPTIONS, Race, accesses, check
from forerun.runtime.litmus.notation import LitmusTest, Observation, graph_of, observations
from forerun.support.diagnostics import InternalError

__all__ = ["needed_assumptions"]

_SETS = tuple(map(frozenset, chain.from_iterable(combinations(ASSUMPTIONS, n) for n in range(len(ASSUMPTIONS) + 1))))
"""All sets of assumptions, the smallest first."""


@cache
def needed_assumptions(test: LitmusTest) -> frozenset[str] | None:
    """The smallest set of assumptions under which the rules forbid what the test looks for; ``None`` if none does.

    The empty set stands for the strict rules: what they forbid must never be seen.

    Raises:
        InternalError: If the rules say different things of the things that one test looks at.

    Example:
        >>> from forerun.runtime.litmus.catalogue import TESTS
        >>> [needed_assumptions(TESTS[name]) for name in ("L1", "L5", "L1b")]
        [frozenset(), frozenset({'H6'}), None]
    """
    graph = graph_of(test)
    said = {next((a for a in _SETS if _forbids(graph, observation, a)), None) for observation in observations(test)}
    if len(said) != 1:
        raise InternalError(f"litmus test {test.name} looks at things of which the rules say different things")
    return said.pop()


def _forbids(graph: Graph, observation: Observation, assumptions: frozenset[str]) -> bool:
    """Whether nothing that the checker finds concerns what is observed."""
    verdict = check(graph, assumptions)
    if any(_concerns(race, observation) for race in verdict.races):
        return False
    return bool(observation.node) or not set(verdict.undrained) & set(_writers(graph, observation.variable))


def _concerns(race: Race, observation: Observation) -> bool:
    """Whether a race can change what a node loads, or, for the host, what a variable holds at the end."""
    ends = (race.earlier, race.later)
    if not observation.node:
        return all(access.write and access.buffer == observation.variable for access in ends)
    load = observation.node, observation.variable, False
    return any((access.node, access.buffer, access.write) == load for access in ends)


def _writers(graph: Graph, variable: str) -> Iterator[str]:
    for node, found in accesses(graph).items():
        if any(access.write and access.buffer == variable for access in found):
            yield node
