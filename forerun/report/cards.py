"""What a picture shows, before it is drawn: cards, the wires between them, and which cards look alike."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.report.fold import Segment, fold, mask

__all__ = ["NO_MARKS", "Card", "Marks", "Wire", "changes", "make_cards"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What is drawn so that it stands out.

    Attributes:
        nodes: Nodes that a pass changed.
        pairs: Pairs of nodes whose dependency it changed.
        faults: Nodes that a finding is about.
        missing: Pairs of nodes whose dependency is none of the graph, but stands for an order that is missing.
    """

    nodes: frozenset[str] = frozenset()
    pairs: frozenset[tuple[str, str]] = frozenset()
    faults: frozenset[str] = frozenset()
    missing: frozenset[tuple[str, str]] = frozenset()


NO_MARKS = Marks()


@dataclass(slots=True)
class Wire:
    """Dependencies of one kind from one node of a card to the next card."""

    source: str
    kind: DependencyKind
    dependencies: list[Dependency] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Card:
    """A segment with the dependencies that touch it.

    Attributes:
        segment: The nodes.
        start: Launch index of the first of them.
        inner: Dependencies between them.
        tops: Wires from the card before.
        bottoms: Wires to the card after.
        outgoing: Dependencies to cards further on, by source.
        incoming: Dependencies from cards further back (or, in a broken graph, from anywhere), by target.
        look: Equal for cards that are drawn alike, but for the names.
    """

    segment: Segment
    start: int
    inner: list[Dependency] = field(default_factory=list)
    tops: list[Wire] = field(default_factory=list)
    bottoms: list[Wire] = field(default_factory=list)
    outgoing: dict[str, list[Dependency]] = field(default_factory=dict)
    incoming: dict[str, list[Dependency]] = field(default_factory=dict)
    look: Hashable = None

    def far(self) -> Iterator[tuple[str, Dependency, str]]:
        """Each dependency that is drawn as a stub: its node here, itself, and its other end."""
        for node, dependencies in self.outgoing.items():
            yield from ((node, d, d.target) for d in dependencies)
        for node, dependencies in self.incoming.items():
            yield from ((node, d, d.source) for d in dependencies)


def changes(before: Graph, after: Graph) -> tuple[Marks, Marks]:
    """What to mark in the picture of the graph before a pass, and in that of the graph after it."""
    kinds_before = {d.pair: d.kind for d in before.dependencies}
    kinds_after = {d.pair: d.kind for d in after.dependencies}
    return (
        Marks(_differing_nodes(before, after), _differing_pairs(kinds_before, kinds_after)),
        Marks(_differing_nodes(after, before), _differing_pairs(kinds_after, kinds_before)),
    )


def _differing_pairs(
    these: Mapping[tuple[str, str], DependencyKind], those: Mapping[tuple[str, str], DependencyKind]
) -> frozenset[tuple[str, str]]:
    return frozenset(pair for pair, kind in these.items() if those.get(pair) is not kind)


def _differing_nodes(these: Graph, those: Graph) -> frozenset[str]:
    kernels = {name for name, kernel in these.kernels.items() if those.kernels.get(name) != kernel}
    return frozenset(
        name
        for name, node in these.nodes.items()
        if those.nodes.get(name) != node or (isinstance(node, KernelNode) and node.kernel in kernels)
    )


def make_cards(graph: Graph, marks: Marks, segments: Sequence[Segment] | None = None) -> list[Card]:
    """The cards of a graph, from the first launched to the last; of other segments than those of folding."""
    cards: list[Card] = []
    home: dict[str, int] = {}
    for segment in fold(list(graph.nodes)) if segments is None else segments:
        home.update(dict.fromkeys(segment.nodes, len(cards)))
        cards.append(Card(segment, start=len(home) - len(segment.nodes)))
    place = {name: i for i, name in enumerate(graph.nodes)}
    for dependency in graph.dependencies:
        _attach(cards, home, place, dependency)
    for card in cards:
        card.bottoms.sort(key=lambda wire: (place[wire.source], wire.kind.value))
    for card in cards:
        card.look = _look(graph, marks, card, place)
    return cards


def _attach(cards: Sequence[Card], home: Mapping[str, int], place: Mapping[str, int], dependency: Dependency) -> None:
    source, target = home.get(dependency.source), home.get(dependency.target)
    forward = place.get(dependency.source, 0) < place.get(dependency.target, 0)
    if source is not None and source == target and forward:
        cards[source].inner.append(dependency)
    elif source is not None and target == source + 1:
        _attach_wire(cards[source], cards[target], dependency)
    else:
        if source is not None:
            cards[source].outgoing.setdefault(dependency.source, []).append(dependency)
        if target is not None:
            cards[target].incoming.setdefault(dependency.target, []).append(dependency)


def _attach_wire(upper: Card, lower: Card, dependency: Dependency) -> None:
    for wire in upper.bottoms:
        if wire.source == dependency.source and wire.kind is dependency.kind:
            wire.dependencies.append(dependency)
            return
    wire = Wire(dependency.source, dependency.kind, [dependency])
    upper.bottoms.append(wire)
    lower.tops = upper.bottoms


def _look(graph: Graph, marks: Marks, card: Card, place: Mapping[str, int]) -> Hashable:
    """Everything that the drawing of a card depends on, with nodes counted from the card's first."""

    def end(name: str) -> int:
        return place[name] - card.start

    def arrow(d: Dependency) -> Hashable:
        return end(d.target), d.kind, tuple(h.kind for h in d.hazards), d.pair in marks.pairs

    return (
        tuple(_node_look(graph, marks, card, name) for name in card.segment.nodes),
        tuple((end(d.source), arrow(d)) for d in card.inner),
        tuple((wire.kind, tuple(map(arrow, wire.dependencies))) for wire in card.tops),
        tuple((wire.kind, end(wire.source)) for wire in card.bottoms),
        tuple((end(node), d.kind, d.source == node, mask(other)) for node, d, other in card.far()),
    )


def _node_look(graph: Graph, marks: Marks, card: Card, name: str) -> Hashable:
    node = graph.nodes[name]
    launch = (node.kernel, node.launch) if isinstance(node, KernelNode) else None
    return type(node).__name__, mask(card.segment.label(name)), launch, name in marks.nodes, name in marks.faults
