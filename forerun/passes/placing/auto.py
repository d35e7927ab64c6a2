"""Which nodes run on the host, so that the rest fits the device and the step is as fast as can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from networkx.utils import UnionFind

from forerun.ir.graph import Graph
from forerun.ir.semantics import accesses
from forerun.ir.types import DEVICE0, HOST, BufferRole, Place
from forerun.passes.placing.model import Step

__all__ = ["Group", "Limits", "chosen_places", "groups_of"]

_KEPT = {BufferRole.WEIGHT, BufferRole.STATE}
_MOST_ROUNDS = 40
_MOST_PAIRS = 4096
_FEW_GROUPS = 7
"""Up to how many groups all choices are compared."""


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that go to one place together, since they share weights or state.

    Attributes:
        nodes: In launch order.
        bytes: Of the weights and the state that they use.
    """

    nodes: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of memory that there are; ``None`` for as many as are needed."""

    device: int | None = None
    host: int | None = None

    def overflow(self, device: int, host: int) -> int:
        """How many bytes do not fit."""
        over = 0 if self.device is None else max(0, device - self.device)
        return over + (0 if self.host is None else max(0, host - self.host))


def groups_of(graph: Graph, movable: Collection[str]) -> list[Group]:
    """What moves together among some nodes, by the first node; what uses weights or state of other nodes stays."""
    sets, users = UnionFind(graph.nodes), dict[str, str]()
    kept: dict[str, set[str]] = {}
    for name, found in accesses(graph).items():
        for access in found:
            buffer = graph.buffers.get(access.buffer)
            if buffer is not None and buffer.role in _KEPT:
                sets.union(name, users.setdefault(buffer.allocation, name))
                kept.setdefault(name, set()).add(buffer.allocation)
    members: dict[str, list[str]] = {}
    for name in graph.nodes:
        members.setdefault(sets[name], []).append(name)
    found_groups = [names for names in members.values() if all(name in movable for name in names)]
    return [Group(tuple(names), _bytes_of(graph, names, kept)) for names in found_groups]


def _bytes_of(graph: Graph, names: Iterable[str], kept: Mapping[str, Iterable[str]]) -> int:
    return sum(graph.allocations[used].size for used in {used for name in names for used in kept.get(name, ())})


def chosen_places(
    step: Step, groups: Sequence[Group], fixed: Mapping[str, Place], limits: Limits, rest: int = 0
) -> tuple[dict[str, Place], int]:
    """The places of all nodes: what fits, and then what is fast.

    Of a few groups all choices are compared. Else it begins with all groups on the device, and with all on the host,
    and takes the best of what changes of a few groups lead to: one changes its place, or several neighbours do, or two
    change with each other.

    Args:
        step: What tells the time.
        groups: What can move.
        fixed: The places of the nodes that cannot.
        limits: The memory that there is.
        rest: Bytes that the device holds besides.

    Returns:
        The places, and how many bytes do not fit.
    """
    every = 1 << len(groups)

    def cost(on_host: int) -> _Cost:
        moved = sum(group.bytes for i, group in enumerate(groups) if on_host >> i & 1)
        device = rest + sum(group.bytes for group in groups) - moved
        return limits.overflow(device, moved), step.seconds(_places(groups, fixed, on_host))

    if len(groups) <= _FEW_GROUPS:
        (over, _), chosen = min((cost(on_host), on_host) for on_host in range(every))
    else:
        (over, _), chosen = min(_climbed(cost, len(groups), start) for start in (0, every - 1))
    return _places(groups, fixed, chosen), over


_Cost = tuple[int, float]


def _climbed(cost: Callable[[int], _Cost], groups: int, start: int) -> tuple[_Cost, int]:
    """The best set of groups on the host that small changes lead to, as a bit set, with its cost."""
    least, on_host = cost(start), start
    for _ in range(_MOST_ROUNDS):
        before = least
        for change in _changes(groups):
            found = cost(on_host ^ change)
            if found < least:
                least, on_host = found, on_host ^ change
        if least == before:
            break
    return least, on_host


def _changes(count: int) -> Iterator[int]:
    """Neighbours that change their place together, and any two, as bit sets."""
    length = 1
    while length <= count:
        for first in range(count - length + 1):
            yield ((1 << length) - 1) << first
        length = length + 1 if length < 4 else length * 2
    if count * count <= _MOST_PAIRS:
        yield from (1 << first | 1 << second for first in range(count) for second in range(first - 1))


def _places(groups: Sequence[Group], fixed: Mapping[str, Place], on_host: int) -> dict[str, Place]:
    places = dict(fixed)
    for i, group in enumerate(groups):
        places.update(dict.fromkeys(group.nodes, HOST if on_host >> i & 1 else DEVICE0))
    return places
