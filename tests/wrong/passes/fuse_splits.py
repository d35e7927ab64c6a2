"""Wrong passes that fuse splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from forerun.ir.graph import Graph
from forerun.ir.semantics import NodeAccess
from forerun.ir.types import Place
from forerun.passes.fuse_splits import _fewest, _rebuilt
from forerun.passes.splits.copies import Walk, planned_copies
from forerun.passes.splits.order import fewest_splits, place_of
from forerun.passes.splits.versions import Unit, far_uses, settled
from tests.wrong.wrong_pass import wrong_pass

__all__: list[str] = []


def _fused(graph: Graph, walk_of: type[Walk], slots: int = 1, order: Sequence[str] | None = None) -> Graph:
    graph = settled(graph)
    order = _fewest(graph) if order is None else order
    far: Mapping[str, Mapping[str, Place]] = far_uses(graph)
    if order == list(graph.nodes) and not far:
        return graph
    return _rebuilt(graph, planned_copies(graph, order, far, slots, walk_of))


class _Once(Walk):
    def step(self, position: int, name: str) -> None:
        fresh = [set(unit.fresh) for unit in self.units]
        super().step(position, name)
        for unit, before in zip(self.units, fresh, strict=True):
            unit.fresh |= before


@wrong_pass("proved", "what was copied once need not be copied again")
def copies_once(graph: Graph) -> Graph:
    return _fused(graph, _Once)


class _Keeps(Walk):
    def return_all(self, position: int) -> None:
        pass


@wrong_pass("proved", "what the host writes is for the host")
def returns_nothing(graph: Graph) -> Graph:
    return _fused(graph, _Keeps)


class _Covers(Walk):
    def is_covered(self, unit: Unit, writes: Sequence[NodeAccess]) -> bool:
        return bool(writes)


@wrong_pass("proved", "who writes a buffer writes all of it")
def forgets_the_rest_of_a_buffer(graph: Graph) -> Graph:
    return _fused(graph, _Covers)


class _AtEvents(Walk):
    def return_all(self, position: int) -> None:
        if position == len(self._graph.nodes):
            super().return_all(position)

    def seen_by_others(self, position: int) -> None:
        pass


@wrong_pass("proved", "others look at the end of a replay only")
def forgets_events(graph: Graph) -> Graph:
    return _fused(graph, _AtEvents)


class _InSlots(Walk):
    def take_slot(self, number: int, place: Place) -> Iterator[tuple[int, int]]:
        return iter(())


@wrong_pass("proved", "a slot is free whenever somebody asks for it")
def takes_slots_in_use(graph: Graph) -> Graph:
    return _fused(graph, _InSlots)


@wrong_pass("proved", "nodes may change places unless one reads what the other writes")
def forgets_what_is_overwritten(graph: Graph) -> Graph:
    from forerun.passes.infer_dependencies import hazard_dependencies

    places = {name: place_of(graph, node) for name, node in graph.nodes.items()}
    sources: dict[str, list[str]] = {}
    for (source, target), dependency in hazard_dependencies(graph).items():
        if not dependency.hazards or any(hazard.kind == "RAW" for hazard in dependency.hazards):
            sources.setdefault(target, []).append(source)
    return _fused(graph, Walk, order=fewest_splits(list(graph.nodes), sources, places))
