"""The graphs that wrong checkers and wrong passes are tried on, with the truth about them; and who does the trying."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, count, islice
from typing import Generic, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, EventWaitNode, KernelNode, ScalarLoad
from forerun.ir.semantics import races as races_module
from forerun.ir.types import DependencyKind
from forerun.ir.verify import verify
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.insert_pdl import can_overlap
from forerun.testing.explorer import explore
from tests.literal import conflicting, judge
from tests.passes.grouped_programs import grouped_program
from tests.passes.laws import applied, input_of, weakened
from tests.passes.placed_programs import placed_programs, streamed_programs
from tests.passes.repeated_programs import repeated_programs
from tests.passes.uploading_programs import uploading_programs
from tests.programs import Style, programs, races, undrained
from tests.random_graphs import boxes, in_launch_order, pair, plain, rich, rows, temporaries
from tests.three_kernels import BODIES, EDGES, graph_of
from tests.wrong.known import Known, known

__all__ = ["KILLERS", "Truth", "fresh", "inputs"]

# Kernels without waits of their own, which get them first, so that loads have something to move ahead of.
AFTER_EVENTS = programs(Style(chain=True, waits=False, opaque=False, most_nodes=5, events=True))


_Item = TypeVar("_Item")


class Kept(Generic[_Item]):
    """What an iterator gives: made when it is first asked for, and kept. Most wrong passes die of an early graph."""

    def __init__(self, source: Iterator[_Item]) -> None:
        self._source = source
        self._found: list[_Item] = []

    def __iter__(self) -> Iterator[_Item]:
        for number in count():  # several go over it by turns
            if number == len(self._found):
                self._found.extend(islice(self._source, 1))
            if number == len(self._found):
                return
            yield self._found[number]


def chains() -> Iterator[Graph]:
    """Programs in launch order: what passes are tried on."""
    chooser = random.Random(0)
    for _ in range(400):
        yield in_launch_order(plain(chooser, 2, 4))
    for _ in range(100):
        yield in_launch_order(rows(chooser))
    yield from drawn(programs(Style(chain=True, most_nodes=4)), 150)
    yield from map(_after_an_event, drawn(AFTER_EVENTS, 120))


def _after_an_event(chain: Graph) -> Graph:
    """The chain behind an event that is waited for."""
    event = EventWaitNode("outside", "e")
    edges = [Dependency(event.name, next(iter(chain.nodes))), *chain.dependencies]
    tables = chain.allocations.values(), chain.buffers.values(), chain.kernels.values()
    return Graph(chain.name, *tables, [event, *chain], edges)


def handed_on() -> Iterator[Graph]:
    """Programs in launch order that hand on temporaries: what there is to plan."""
    chooser = random.Random(0)
    return (temporaries(chooser) for _ in range(400))


def repeated() -> Iterator[Graph]:
    """Programs in launch order that compute much again: what there is to merge."""
    return (graph for graph in drawn(repeated_programs(), 400) if not verify(graph))


def uploading() -> Iterator[Graph]:
    """Programs in launch order that upload constants: what there is to fold."""
    return (graph for graph in drawn(uploading_programs(), 400) if not verify(graph))


def placed() -> Iterator[Graph]:
    """Programs in launch order with kernels and weights on the host: what there is to copy."""
    yield from (graph for graph in drawn(placed_programs("stream"), 300) if not verify(graph))
    yield from drawn(streamed_programs(), 50)


def grouped() -> Iterator[Graph]:
    """Launches over groups of the requests of a batch."""
    return (grouped_program(random.Random(number)) for number in range(60))


_OF_STAGES = {
    "plan-memory": handed_on,
    "merge-equal-nodes": repeated,
    "fold-params": uploading,
    "fuse-splits": placed,
    "fuse-persistent": grouped,
}
"""The programs that passes are tried on if others have nothing for them to do."""


def fresh(graph: Graph) -> Graph:
    """The same graph with nothing known of it: analyses are kept in a graph, and mutants must not find them."""
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    return Graph(graph.name, *tables, graph.nodes.values(), graph.dependencies)


def _settings(count: int) -> settings:
    quiet = list(HealthCheck)
    return settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=quiet
    )


def drawn(strategy: SearchStrategy[Graph], count: int) -> list[Graph]:
    """Examples of a strategy, the same ones every time."""
    found: list[Graph] = []

    @seed(0)
    @_settings(count)
    @given(strategy)
    def collect(graph: Graph) -> None:
        found.append(graph)

    collect()
    return found


@dataclass(frozen=True)
class Truth:
    """A graph and what a right checker may say of it.

    Attributes:
        statuses: The verdicts that are right.
        assumptions: Those under which the checker is asked.
    """

    graph: Graph
    statuses: frozenset[str]
    assumptions: frozenset[str] = frozenset()

    def is_contradicted(self) -> bool:
        """Whether the checker, as it is now, says anything else."""
        return races_module.check(fresh(self.graph), assumptions=self.assumptions).status not in self.statuses


_PROVED, _NOT = frozenset({"proved"}), frozenset({"refuted", "unsupported"})


@lru_cache
def inputs(stage: str) -> Kept[Graph]:
    """What the pass of that name may get: right graphs, from strictly ordered to as weakly ordered as possible."""
    orders = _orders(_OF_STAGES.get(stage, chains))
    return Kept(given for graph, *weak in orders for given in (input_of(stage, graph), *weak))


@lru_cache
def _orders(source: Callable[[], Iterator[Graph]]) -> Kept[tuple[Graph, Graph, Graph]]:
    """Each graph, as it is weakest, and that embroidered; once for all passes that get the same graphs."""

    def found() -> Iterator[tuple[Graph, Graph, Graph]]:
        chooser = random.Random(0)
        for graph in source():
            weak = weakened(applied(InferDependencies(), graph))
            yield graph, weak, _embroidered(chooser, weak)

    return Kept(found())


def _embroidered(chooser: random.Random, graph: Graph) -> Graph:
    """The graph with programmatic dependencies that no data demands, as far as it stays right with them."""
    for u, v in combinations(graph.nodes, 2):
        if (
            chooser.random() < 0.5
            and graph.dependency(u, v) is None
            and can_overlap(graph, u)
            and can_overlap(graph, v)
        ):
            edit = graph.edit()
            edit.set_dependency(Dependency(u, v, DependencyKind.PROGRAMMATIC))
            candidate = edit.commit()
            graph = graph if undrained(candidate) else candidate
    return graph


@lru_cache
def _three_kernels(assumption: str) -> list[Truth]:
    """What the explorer, which knows no order of events, says of three kernels on one buffer."""
    chooser = random.Random(0)
    assumptions = frozenset({assumption} - {""})
    found = []
    for _ in range(700):
        graph = graph_of(tuple(chooser.choices(range(len(BODIES)), k=3)), chooser.choice(EDGES))
        status = frozenset({"proved" if explore(graph, assumptions).proved else "refuted"})
        found.append(Truth(graph, status, assumptions))
    return found


@lru_cache
def _bodies() -> list[Truth]:
    """What the explorer says of kernels with several roles and barriers: two of them, or some on two arenas."""
    chooser = random.Random(0)
    graphs = [pair(chooser) for _ in range(600)]
    graphs += [_nearly_right(chooser, plain(chooser, 2, 3)) for _ in range(200)]
    return [Truth(graph, _PROVED if explore(graph).proved else frozenset({"refuted"})) for graph in graphs]


@lru_cache
def _programs() -> list[Truth]:
    """What an explicit graph of events and all pairs of accesses say of random programs."""
    graphs = drawn(programs(Style(most_nodes=5)), 120)
    return [Truth(graph, _NOT if races(graph) or undrained(graph) else _PROVED) for graph in graphs]


@lru_cache
def _single_bytes(name: str) -> list[Truth]:
    """What single bytes and all interleavings say of graphs with everything in them."""
    chooser = random.Random(0)
    draw, count = {"rich": (rich, 800), "rows": (rows, 400), "boxes": (boxes, 1200)}[name]
    return [_literal(_nearly_right(chooser, draw(chooser))) for _ in range(count)]


def _nearly_right(chooser: random.Random, graph: Graph) -> Graph:
    """Half of the graphs get edges for just those pairs that conflict, less one at times: there each fact counts."""
    if chooser.random() < 0.3:
        return graph
    edges = []
    for (u, v), late in conflicting(graph).items():
        both = isinstance(graph.nodes[u], KernelNode) and isinstance(graph.nodes[v], KernelNode)
        weak = both and (late or chooser.random() < 0.1) and chooser.random() < 0.7
        edges.append(Dependency(u, v, DependencyKind.PROGRAMMATIC if weak else DependencyKind.FULL))
    if edges and chooser.random() < 0.4:
        edges.remove(chooser.choice(edges))
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    return Graph(graph.name, *tables, graph.nodes.values(), edges)


def _literal(graph: Graph) -> Truth:
    """Where scalars cannot be compared, the checker may be stricter than the truth, but never more lenient."""
    found, vague = judge(graph), _is_vague(graph)
    if found.proved:
        return Truth(graph, _PROVED | _NOT if vague else _PROVED)
    if vague or found.undrained:
        return Truth(graph, _NOT)
    return Truth(graph, frozenset({"refuted" if found.certain else "unsupported"}))


def _is_vague(graph: Graph) -> bool:
    """Whether the ends of some range cannot be compared exactly; rows at one position that nobody writes can."""
    nested = [body for node in graph if isinstance(node, ConditionalNode) for body in node.bodies]
    nested += [node.body for node in graph if isinstance(node, ChildGraphNode)]
    nodes = [node for inner in (graph, *nested) for node in inner if isinstance(node, KernelNode)]
    arguments = [a for node in nodes for _, a in node.arguments]
    loads = {argument.buffer for argument in arguments if isinstance(argument, ScalarLoad)}
    return bool(loads) and not (graph.name == "rows" and len(loads) == 1 and len(graph.kernels) == len(graph))


KILLERS: dict[str, Callable[[], Sequence[Truth | Known]]] = {
    "explorer": lambda: _three_kernels(""),
    "explorer with H6": lambda: _three_kernels("H6"),
    "explorer on roles": _bodies,
    "event graph": _programs,
    "single bytes": lambda: _single_bytes("rich"),
    "single bytes of rows": lambda: _single_bytes("rows"),
    "single bytes of boxes": lambda: _single_bytes("boxes"),
    "known inputs": known,
}
"""Property tests in small: each compares the checker with an oracle that shares nothing of what it judges."""
