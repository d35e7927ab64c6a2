"""The opt-in rules H6 and H8: checker and explorer agree exactly, and an assumption only ever orders more."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, Barrier, Phase, Step, Trigger
from forerun.ir.semantics import ASSUMPTIONS, check, conflicts, order_under
from forerun.ir.types import DependencyKind
from forerun.support.diagnostics import InvalidInput
from forerun.testing.explorer import enumerate_orders, explore
from tests.programs import Style, programs
from tests.three_kernels import BODIES, EDGES, FENCED_BODIES, Body, graph_of_bodies

SETS = [frozenset(), frozenset({"H6"}), frozenset({"H8"}), frozenset({"H6", "H8"})]
ALL_BODIES: list[Body] = [*((body,) for body in BODIES), *FENCED_BODIES]
FULL, PROGRAMMATIC = DependencyKind.FULL, DependencyKind.PROGRAMMATIC
READ: tuple[Step, ...] = (Phase("p", reads=(Access("b"),)),)
WRITE: tuple[Step, ...] = (Phase("p", writes=(Access("b"),)),)


def agree(graph: Graph, assumptions: frozenset[str]) -> None:
    """The checker's races are those direct conflicts that the explorer finds open together."""
    found, verdict = explore(graph, assumptions), check(graph, assumptions)
    assert found.proved == verdict.proved
    direct = {(c.earlier, c.later) for c in conflicts(graph)}
    assert {(r.earlier, r.later) for r in verdict.races} == found.races & direct
    assert set(verdict.undrained) == found.undrained


@pytest.mark.parametrize("assumptions", SETS, ids=lambda s: "+".join(sorted(s)) or "strict")
def test_checker_and_explorer_agree_on_three_kernels(assumptions: frozenset[str]) -> None:
    chooser = random.Random(1)
    for _ in range(1500):
        graph = graph_of_bodies(tuple(chooser.choices(ALL_BODIES, k=3)), chooser.choice(EDGES))
        agree(graph, assumptions)


@given(programs(Style(most_nodes=4, fences=True)), st.sampled_from(SETS))
def test_checker_and_explorer_agree_on_random_programs(graph: Graph, assumptions: frozenset[str]) -> None:
    event(check(graph, assumptions).status)
    agree(graph, assumptions)


@given(programs(Style(fences=True)))
def test_a_assumption_orders_more(graph: Graph) -> None:
    strict = check(graph)
    for assumptions in SETS:
        races = set(check(graph, assumptions).races)
        assert {(r.earlier, r.later) for r in races} <= {(r.earlier, r.later) for r in strict.races}
        event(f"{sorted(assumptions)} proves more: {len(races) < len(strict.races)}")


def test_explorer_and_enumerator_agree_on_two_fenced_kernels() -> None:
    chooser = random.Random(2)
    small = [body for body in ALL_BODIES if sum(map(len, body)) <= 4]
    for _ in range(60):
        bodies = tuple(chooser.choices(small, k=2))
        for kind in (DependencyKind.FULL, DependencyKind.PROGRAMMATIC):
            graph = graph_of_bodies(bodies, (kind,))
            for assumptions in SETS:
                assert explore(graph, assumptions).races == enumerate_orders(graph, assumptions)


def test_h6_orders_the_starts_of_dependents_after_triggers() -> None:
    """L5: A full B, B triggers early, C reads A's data and never waits."""
    graph = graph_of_bodies(((WRITE,), ((Trigger(),),), (READ,)), (FULL, None, PROGRAMMATIC))
    assert [race.missing for race in check(graph).races] == ["C_n0 -> S_n2"]
    assert check(graph, {"H8"}).races
    assert not check(graph, {"H6"}).races


@pytest.mark.parametrize(
    ("primary", "proved"),
    [
        ("wbf", True),
        ("wf", False),
        ("wbt", False),
        ("bwf", False),
        ("twbf", False),
        ("fwbf", False),
        ("wb bf", True),
        ("wb fb", False),
        ("wbf bt", False),
    ],
)
def test_h8_releases_what_a_barrier_puts_before_the_fence(primary: str, proved: bool) -> None:
    letters: dict[str, tuple[Step, ...]] = {
        "w": WRITE,
        "b": (Barrier(),),
        "f": (Trigger(fenced=True),),
        "t": (Trigger(),),
    }
    body: Body = tuple(tuple(step for letter in role for step in letters[letter]) for role in primary.split())
    graph = graph_of_bodies((body, (READ,)), (PROGRAMMATIC,))
    assert bool(check(graph, {"H8"}).races) != proved
    assert check(graph).races


def test_what_the_copy_engine_reads_early_stays_open() -> None:
    (phase,) = READ
    assert isinstance(phase, Phase)
    copy: Body = ((replace(phase, asynchronous=True),),)
    graph = graph_of_bodies((((*WRITE, Barrier(), Trigger(fenced=True)),), copy), (PROGRAMMATIC,))
    verdict = check(graph, {"H8"})
    assert [race.certain for race in verdict.races] == [False]
    assert check(graph).races[0].certain


def test_an_unknown_assumption_names_the_closest() -> None:
    graph = graph_of_bodies(((WRITE,),), ())
    for call in (check, explore, order_under):
        with pytest.raises(InvalidInput, match="unknown assumption 'H88'") as caught:
            call(graph, {"H88"})
        assert "H8" in caught.value.hint
    assert list(ASSUMPTIONS) == ["H6", "H8"]
