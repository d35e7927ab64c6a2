"""Whether a match may be replaced: what it computes on the way is nobody else's, and nothing is in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from forerun.ir.fusion import FusionRule, Match, Pattern, Replacement
from forerun.ir.nodes import BufferArgument
from forerun.ir.semantics import NodeAccess, accesses
from forerun.ir.semantics.access import is_event
from forerun.ir.types import BufferRole, DependencyKind
from forerun.passes.fusion.def_use import DefUse, read_parameters, written_parameters

__all__ = ["Candidate", "obstacle"]


@dataclass(frozen=True)
class Candidate:
    """A match with its replacement.

    Attributes:
        replacement: What shall take the place of the last node.
        place: The position of each node of the graph in launch order.
    """

    rule: FusionRule
    pattern: Pattern
    match: Match
    replacement: Replacement
    place: Mapping[str, int]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The nodes, in launch order."""
        names = {node.name for node in self.match.nodes.values()}
        return tuple(sorted(names, key=self.place.__getitem__))

    @cached_property
    def recomputed(self) -> set[str]:
        """The nodes that may stay: what they write is computed here as well, and not written."""
        parts = (self.match.nodes[part.name].name for part in self.pattern if part.recomputed)
        return {name for name in parts if not any(access.write for access in self.accesses(name, kept=True))}

    def accesses(self, node: str, *, kept: bool) -> list[NodeAccess]:
        """The accesses of a node that the replacement has, or those that it has not: of what is handed on inside it."""
        return [access for access in accesses(self.match.graph)[node] if self._is_kept(access) == kept]

    def dropped_writes(self, node: str) -> set[str]:
        """The buffers that a node writes, and that the replacement does not."""
        return {access.buffer for access in self.accesses(node, kept=False) if access.write}

    def _is_kept(self, access: NodeAccess) -> bool:
        variables = self._variables[access.node].get(access.buffer)
        if variables is None:
            return True
        return bool(variables & (self._written if access.write else self._read))

    @cached_property
    def _variables(self) -> dict[str, dict[str, set[str]]]:
        """For each node, the variables that its buffers are bound to."""
        found: dict[str, dict[str, set[str]]] = {}
        for part in self.pattern:
            own = found.setdefault(self.match.nodes[part.name].name, {})
            for parameter, argument in self.match.nodes[part.name].arguments:
                if isinstance(argument, BufferArgument):
                    own.setdefault(argument.buffer, set()).add(part.variables[parameter])
        return found

    @cached_property
    def _read(self) -> set[str]:
        return self._bound_to(read_parameters(self.replacement.kernel))

    @cached_property
    def _written(self) -> set[str]:
        return self._bound_to(written_parameters(self.replacement.kernel))

    def _bound_to(self, parameters: set[str]) -> set[str]:
        return {v for name, v in self.replacement.variables.items() if isinstance(v, str) and name in parameters}


def obstacle(candidate: Candidate, def_use: DefUse) -> str:
    """Why a match may not be replaced; empty if it may."""
    for test in _TESTS:
        reason = next(test(candidate, def_use), "")
        if reason:
            return reason
    return ""


def _nodes(candidate: Candidate, def_use: DefUse) -> Iterator[str]:
    match, graph = candidate.match, candidate.match.graph
    if len(set(candidate.names)) < len(candidate.pattern):
        yield "one node would be two parts"
    if len({node.place for node in match.nodes.values()}) > 1:
        yield "the nodes are on different devices"
    if any(node.launch.cooperative for node in match.nodes.values()):
        yield "a cooperative launch stays what it is"
    for name in candidate.names:
        around = [*graph.incoming(name), *graph.outgoing(name)]
        if any(dependency.kind is not DependencyKind.FULL for dependency in around):
            yield f"'{name}' has dependencies that are not full; fuse before insert-pdl"
        for access in accesses(graph)[name]:
            if not access.definite:
                yield f"which bytes of %{access.buffer} '{name}' accesses is not known exactly"
    yield from _unaligned(candidate)
    kernel = candidate.replacement.kernel
    if graph.kernels.get(kernel.name, kernel) != kernel:
        yield f"the graph has another kernel named '{kernel.name}'"


def _unaligned(candidate: Candidate) -> Iterator[str]:
    """The new kernel may need more alignment than those that it replaces."""
    match, new = candidate.match, candidate.replacement
    for parameter in new.kernel.buffer_parameters:
        value = new.variables.get(parameter.name)
        argument = match.arguments.get(value) if isinstance(value, str) else value
        if isinstance(argument, BufferArgument) and argument.buffer in match.graph.buffers:
            offset = match.graph.buffers[argument.buffer].offset
            if offset % parameter.alignment:
                yield f"%{argument.buffer} begins at byte {offset}, not at a multiple of {parameter.alignment}"


def _temporaries(candidate: Candidate, def_use: DefUse) -> Iterator[str]:
    """What is computed on the way is seen by nobody else."""
    for name in candidate.names:
        if name in candidate.recomputed:
            continue
        for write in candidate.accesses(name, kept=False):
            if not write.write:
                continue
            if candidate.match.graph.buffers[write.buffer].role is not BufferRole.TEMP:
                yield f"'{name}' writes %{write.buffer}, which is seen outside the replay"
            readers = def_use.readers.get((name, write.buffer), set()) - set(candidate.names)
            for reader in sorted(readers, key=def_use.place.__getitem__):
                yield f"'{reader}' reads %{write.buffer} too, which '{name}' writes"


def _reads(candidate: Candidate, def_use: DefUse) -> Iterator[str]:
    """What is not read from memory any more is all given by the nodes themselves, and all else by others."""
    for name in candidate.names:
        for read in candidate.accesses(name, kept=False):
            sources = set() if read.write else def_use.sources.get((name, read.buffer), set())
            whole = [w for w in sources if w.node in candidate.names and w.bytes.covers(read.bytes)]
            last = max((def_use.place[w.node] for w in whole), default=-1)
            others = [w.node for w in sources if w.node not in candidate.names and def_use.place[w.node] > last]
            if not read.write and (not whole or others):
                who = f"'{others[0]}' writes a part of it" if others else "the nodes do not write all of it"
                yield f"'{name}' reads %{read.buffer}, which the replacement does not, and {who}"
        for read in candidate.accesses(name, kept=True):
            sources = set() if read.write else def_use.sources.get((name, read.buffer), set())
            own = [w.node for w in sources if w.node in candidate.names]
            if own:
                yield f"'{name}' reads %{read.buffer} for two purposes, and '{own[0]}' writes it"


def _reuse(candidate: Candidate, def_use: DefUse) -> Iterator[str]:
    """No memory is used twice: within a kernel nobody has finished, and a rule says what is handed on, not where."""
    found = [access for name in candidate.names for access in accesses(candidate.match.graph)[name]]
    for i, write in enumerate(found):
        for j, other in enumerate(found if write.write else ()):
            handed_on = not other.write and def_use.place[other.node] > def_use.place[write.node]
            twice = other.write and j <= i
            if not handed_on and not twice and write.conflicts(other):
                yield f"'{write.node}' writes %{write.buffer}, which '{other.node}' {other.verb} as %{other.buffer}"


def _between(candidate: Candidate, def_use: DefUse) -> Iterator[str]:
    """Every node moves to the place of the last one."""
    graph, names = candidate.match.graph, candidate.names
    order = list(graph.nodes)
    first, last = def_use.place[names[0]], def_use.place[names[-1]]
    for other in order[first + 1 : last]:
        if other in names:
            continue
        if is_event(graph.nodes[other]):
            yield f"event node '{other}' comes in between"
        for name in names:
            moves = def_use.place[name] < def_use.place[other]
            for access in candidate.accesses(name, kept=True) if moves else ():
                if any(map(access.conflicts, accesses(graph)[other])):
                    yield f"'{other}', which comes in between, accesses %{access.buffer} too"


_Test = Callable[[Candidate, DefUse], Iterator[str]]

_TESTS: tuple[_Test, ...] = (_nodes, _temporaries, _reads, _reuse, _between)
