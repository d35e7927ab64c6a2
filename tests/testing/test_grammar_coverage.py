"""Whatever the text form can say, the generators draw, and every pass is tried on it.

Fault after fault lay where no generator drew anything: asynchronous writes, bytes that a page table chooses beside a
fusion, memory that is freed, strides of 65,536 rows. What there is to draw is read from the grammar in
docs/text-format.md, so that a new construct is asked for from the day on which the page has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import (
    AllocNode,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
)
from forerun.ir.semantics import accesses
from forerun.ir.text import print_graph
from forerun.ir.types import BufferRole, DependencyKind
from forerun.passes.infra import registry
from forerun.support.options import specs
from forerun.testing import assert_refines, assert_roundtrip, assert_valid, graphs, rare_graphs
from forerun.testing.subject import applied, pipeline_of
from tests import strategies
from tests.testing.grammar import Construct, grammar_of_page

pytestmark = pytest.mark.slow

GRAMMAR = grammar_of_page()

PASSES = [
    name
    for name, cls in registry.available().items()
    if cls.__module__.startswith("forerun.") and not any(s.is_file for s in specs(cls))
]
"""forerun's own passes that need no file; other tests register wrong ones."""

BROKEN = {
    # A word that stands in the place of a kind, which the verifier does not know.
    *(construct for construct in GRAMMAR.constructs if construct.what == "STRING"),
    Construct("nested", '"conditional"'),
    # A dependency of a node that is not there.
    *(construct for construct in GRAMMAR.constructs if "dangling" in (construct.rule, construct.what)),
    # A view that begins before its memory.
    Construct("view", '"-"'),
}
"""What only graphs that are not valid have."""


def drawn(strategy: st.SearchStrategy[Graph], count: int) -> list[Graph]:
    """The first graphs of a strategy, the same in each run."""
    found: list[Graph] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(graph: Graph) -> None:
        found.append(graph)

    run()
    return found


@cache
def valid_graphs() -> list[Graph]:
    """Of all kinds; some with launch-order dependencies, which few pairs of kernels leave room for.

    Of the first ones one in 25 copies constants, and which are drawn depends on the modules that are loaded. So some
    are drawn that have copies more often.
    """
    loose = graphs(nodes=["kernel"], kinds=[DependencyKind.LAUNCH_ORDER])
    copies = graphs(nodes=["copy", "host"])
    return [*drawn(graphs(), 200), *drawn(rare_graphs(), 140), *drawn(loose, 80), *drawn(copies, 100)]


@cache
def uses() -> list[set[Construct]]:
    """What each valid graph uses."""
    return [GRAMMAR.used_by(print_graph(graph)) for graph in valid_graphs()]


def test_the_grammar_is_read_to_its_end() -> None:
    assert {"graph", "buffer", "kernel", "phase", "clause", "node", "simple", "hazard"} <= set(GRAMMAR.rules)
    assert Construct("clause", '"async"') in GRAMMAR.constructs
    assert Construct("dim", "WORD") in GRAMMAR.constructs
    assert len(GRAMMAR.constructs) > 150


def test_what_the_grammar_does_not_allow_is_told() -> None:
    with pytest.raises(AssertionError, match="does not allow"):
        GRAMMAR.used_by("forerun 2 graph g")
    with pytest.raises(AssertionError, match="ends at"):
        GRAMMAR.used_by("forerun 1 graph g node #n = nothing")


def test_valid_graphs_use_every_construct() -> None:
    seen = set[Construct]().union(*uses())
    missing = [str(c) for c in GRAMMAR.constructs if c not in seen and c not in BROKEN]
    assert not missing, f"graphs() and rare_graphs() never draw {'; '.join(missing)}"
    assert not seen & BROKEN, "what is listed as broken occurs in valid graphs"


def test_any_graphs_use_what_is_broken() -> None:
    seen: set[Construct] = set()
    for graph in (*drawn(strategies.graphs(0), 60), *drawn(strategies.graphs(), 200)):
        seen |= GRAMMAR.used_by(print_graph(graph))
    missing = sorted(map(str, BROKEN - seen))
    assert not missing, f"tests.strategies.graphs() never draws {'; '.join(missing)}"


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_runs_on_every_construct(name: str) -> None:
    """On what a pass has seen often enough it does not run again; what it makes of the rest is proved."""
    pipeline, seen = pipeline_of(name), Counter[Construct]()
    for graph, used in zip(valid_graphs(), uses(), strict=True):
        if min(seen[construct] for construct in used) >= 4:
            continue
        after = applied(pipeline, graph)
        assert_refines(graph, after)
        assert_roundtrip(after)
        seen.update(used)
    missing = [str(c) for c in GRAMMAR.constructs if not seen[c] and c not in BROKEN]
    assert not missing, f"{name} runs on no graph with {'; '.join(missing)}"


# What the faults were about: no word of the grammar, but several together


def writes_asynchronously(graph: Graph) -> bool:
    return any(phase.asynchronous and phase.writes for kernel in graph.kernels.values() for phase in kernel.phases)


def writes_beside_a_fusion(graph: Graph, index: str) -> bool:
    """Whether bytes of a temporary are written that an index chooses, in a graph in which a rule applies."""
    chosen = {b.name for b in graph.buffers.values() if b.role is BufferRole.TEMP and type(b.index).__name__ == index}
    found = (a for accessed in accesses(graph).values() for a in accessed if a.write and a.buffer in chosen)
    return any(found) and applied(pipeline_of("fuse-kernels"), graph) is not graph


def uses_managed_memory(graph: Graph) -> bool:
    begun = {node.allocation for node in graph if isinstance(node, AllocNode)}
    ended = {node.allocation for node in graph if isinstance(node, FreeNode)}
    by_data = (
        found for name, found in accesses(graph).items() if not isinstance(graph.nodes[name], AllocNode | FreeNode)
    )
    return bool(begun & ended & {access.allocation for found in by_data for access in found})


def has_columns_of_many_rows(graph: Graph) -> bool:
    """Whether all rows of some columns are accessed, and there are very many."""
    launches = [(node, graph.kernels[node.kernel]) for node in graph if isinstance(node, KernelNode)]
    for node, kernel in launches:
        for access in (a for phase in kernel.phases for a in (*phase.reads, *phase.writes)):
            argument, slices = node.argument(access.parameter), access.region.slices
            assert isinstance(argument, BufferArgument)
            many = graph.buffers[argument.buffer].shape[:1] >= (65_536,)
            if many and len(slices) == 2 and slices[0] is None and slices[1] is not None:
                return True
    return False


def has_bodies_with_launches(graph: Graph) -> bool:
    return any(
        isinstance(inner, KernelNode)
        for node in graph
        if isinstance(node, ConditionalNode | ChildGraphNode)
        for body in (node.bodies if isinstance(node, ConditionalNode) else (node.body,))
        for inner in body
    )


def calls(graph: Graph, *, pure: bool, declared: bool) -> bool:
    found = (node for node in graph if isinstance(node, HostCallbackNode))
    return any(node.pure is pure and bool(node.reads or node.writes) is declared for node in found)


SHAPES: dict[str, Callable[[Graph], bool]] = {
    "a phase writes asynchronously": writes_asynchronously,
    "a fusion beside a paged write": lambda graph: writes_beside_a_fusion(graph, "Paged"),
    "a fusion beside a ragged write": lambda graph: writes_beside_a_fusion(graph, "Ragged"),
    "memory is allocated, used and freed": uses_managed_memory,
    "columns of 65,536 rows and more": has_columns_of_many_rows,
    "launches in bodies": has_bodies_with_launches,
    "a host call that declares nothing": lambda graph: calls(graph, pure=False, declared=False),
    "a pure host call with accesses": lambda graph: calls(graph, pure=True, declared=True),
    "a fusion beside a free": lambda graph: (
        uses_managed_memory(graph) and applied(pipeline_of("fuse-kernels"), graph) is not graph
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shapes_of_faults_are_drawn(shape: str) -> None:
    assert any(map(SHAPES[shape], valid_graphs())), f"graphs() and rare_graphs() never draw: {shape}"


def test_valid_graphs_are_valid() -> None:
    for graph in valid_graphs():
        assert_valid(graph)


def clauses(graph: Graph) -> Iterator[frozenset[str]]:
    """The clauses of each phase, by the words of the grammar."""
    for kernel in graph.kernels.values():
        for phase in kernel.phases:
            present = {
                "reads": phase.reads,
                "writes": phase.writes,
                "uses": phase.uses,
                "defines": phase.defines,
                "scalars": phase.scalars,
                "async": phase.asynchronous,
                "ref": phase.reference,
            }
            yield frozenset(word for word, value in present.items() if value)


def test_every_two_clauses_meet_in_a_phase() -> None:
    words = [c.what.strip('"') for c in GRAMMAR.constructs if c.rule == "clause" and c.what.strip('"').isalpha()]
    found = {pair for graph in valid_graphs() for phase in clauses(graph) for pair in pairs(sorted(phase))}
    missing = [f"{first} with {second}" for first, second in pairs(sorted(words)) if (first, second) not in found]
    assert not missing, f"no phase has {'; '.join(missing)}"


def pairs(words: list[str]) -> list[tuple[str, str]]:
    return [(first, second) for i, first in enumerate(words) for second in words[i + 1 :]]
