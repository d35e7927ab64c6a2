"""Faults that are planted into optimized graphs of other programs, to see whether a debug run would show them.

Each is one that the certificate refutes: a wait or an edge is gone that orders a result before its use, or a load
stands ahead of the wait for the node that stores what it reads. A read-only load (``.nc``) of such memory is planted,
too: no certificate sees it, since it is in the text alone, and whether it does harm is up to the assembler.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from forerun.external.subject import Subject
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Role, Step, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DependencyKind
from forerun.ptx import Instruction, parse_module, print_module, summarise
from forerun.ptx.cfg import control_flow
from forerun.ptx.opcodes import is_wait
from forerun.runtime.cuda.codegen.body import CannotGenerate
from forerun.runtime.cuda.codegen.foreign import follow_body

__all__ = ["KINDS", "Fault", "FaultKind", "plant", "with_nc", "without_waits"]

FaultKind: TypeAlias = Literal["wait removed", "edge removed", "load too early", "nc put back"]

_ORDERED = frozenset({"volatile", "relaxed", "acquire"})

KINDS: tuple[FaultKind, ...] = ("wait removed", "edge removed", "load too early", "nc put back")


@dataclass(frozen=True)
class Fault:
    """A wrong graph.

    Attributes:
        kind: What was done.
        source: The node whose results are no longer waited for.
        target: The node that uses them.
        graph: The graph with the fault.
        text: The PTX that the target runs; ``None`` for its own.
    """

    kind: FaultKind
    source: str
    target: str
    graph: Graph
    text: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.source} -> {self.target}"


def plant(subject: Subject, count: int, seed: int = 0, kinds: Sequence[FaultKind] = KINDS) -> list[Fault]:
    """Wrong graphs: all kinds by turns, each at other edges, whose order a seed chooses.

    Args:
        subject: An optimized graph. Faults can be seen where sources trigger early, so its kernels should.
        count: How many at the most.
        seed: Of the choice.
        kinds: The kinds.
    """
    edges = list(_flows(subject))
    random.Random(seed).shuffle(edges)
    planter = _Planter(subject)
    places = (
        (kind, *edges[(turn + number * len(edges) // len(kinds)) % len(edges)])
        for turn in range(len(edges))
        for number, kind in enumerate(kinds)
    )
    found: list[Fault] = []
    for kind, edge, parameters in places:
        if len(found) == count:
            break
        fault = planter.planted(kind, edge, sorted(parameters))
        found += [] if fault is None else [fault]
    return found


def _flows(subject: Subject) -> Iterator[tuple[Dependency, frozenset[int]]]:
    """Programmatic edges over which data flows, and by which parameters (their numbers) the target loads it.

    Pointers count that are equal: that two of a block overlap is not certain.
    """
    texts, graph = subject.texts.texts, subject.graph
    numbers = {name: number for number, name in enumerate(subject.imported.names)}
    accessed: dict[tuple[str, str], tuple[frozenset[int], frozenset[int]]] = {}

    def values(node: str, written: bool) -> Mapping[int, bytes]:
        own = texts[node]
        if (own.entry, own.text) not in accessed:
            accessed[own.entry, own.text] = _parameters(own.text, own.entry)
        found = accessed[own.entry, own.text][written]
        captured = subject.live.graph.nodes[numbers[node]]
        return {number: captured.parameters[number] for number in found}

    for edge in graph.dependencies:
        is_early = edge.kind is DependencyKind.PROGRAMMATIC and _kernel(graph, edge.source).has(Trigger)
        if is_early and edge.source in texts and edge.target in texts and len(graph.incoming(edge.target)) == 1:
            stored = set(values(edge.source, True).values())
            loads = frozenset(number for number, value in values(edge.target, False).items() if value in stored)
            if loads:
                yield edge, loads


def _parameters(text: str, entry: str) -> tuple[frozenset[int], frozenset[int]]:
    """The numbers of the parameters through which a kernel loads, and of those through which it stores."""
    function = parse_module(text).entry(entry)
    names = {one.name: number for number, one in enumerate(function.parameters or ())}
    accesses = [one for one in summarise(function).global_accesses if one.parameter and not one.parameter_offset]
    loads, stores = (
        frozenset(names[one.parameter or ""] for one in accesses if one.kind in kinds)
        for kinds in (("read", "update"), ("write", "update"))
    )
    return loads, stores


def _kernel(graph: Graph, node: str) -> Kernel:
    found = graph.nodes[node]
    assert isinstance(found, KernelNode)
    return graph.kernels[found.kernel]


class _Planter:
    """Makes faults. What is made of a text is made once, however many nodes run it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._texts: dict[tuple[object, ...], str | None] = {}

    def planted(self, kind: FaultKind, edge: Dependency, parameters: Sequence[int]) -> Fault | None:
        """The fault at one place; ``None`` if it cannot be made there."""
        graph, kernel = self.subject.graph, _kernel(self.subject.graph, edge.target)
        own = self.subject.texts.texts[edge.target]
        if kind == "edge removed":
            edit = graph.edit()
            edit.remove_dependency(*edge.pair)
            return Fault(kind, *edge.pair, edit.commit())
        if kind == "nc put back":
            key = kind, own.text, own.entry, tuple(parameters)
            text = self._once(key, lambda: with_nc(own.text, own.entry, parameters))
            return None if text == own.text else Fault(kind, *edge.pair, graph, text)
        if not kernel.has(Wait) or not kernel.roles:
            return None
        if kind == "wait removed":
            steps = tuple(step for step in kernel.roles[0].steps if not isinstance(step, Wait))
            text = self._once((kind, own.text, own.entry), lambda: without_waits(own.text, own.entry))
            return Fault(kind, *edge.pair, _with_steps(graph, edge.target, kernel.roles[0], steps), text)
        return self._with_early_load(edge, kernel, kernel.roles[0], parameters)

    def _once(self, key: tuple[object, ...], make: Callable[[], str | None]) -> str | None:
        if key not in self._texts:
            self._texts[key] = make()
        return self._texts[key]

    def _with_early_load(self, edge: Dependency, kernel: Kernel, role: Role, parameters: Sequence[int]) -> Fault | None:
        """A load ahead of the wait of what the source stores, if there is one that can move there."""
        at = next(i for i, step in enumerate(role.steps) if isinstance(step, Wait))
        wrong = {f"p{number}" for number in parameters}
        late = [
            phase
            for phase in Role("late", role.steps[at:]).phases
            if not phase.writes and wrong & {access.parameter for access in phase.reads}
        ]
        if not late:
            return None
        steps = (*late, *(step for step in role.steps if step not in late))
        live, own = self.subject.live.graph, self.subject.texts.texts[edge.target]
        function = live.function_of(live.nodes[own.number])
        changed = replace(kernel, roles=(replace(role, steps=steps),))
        key = function.text, own.entry, changed.roles, tuple(parameters)
        text = self._once(key, lambda: _early(live.texts[function.text].text, changed, own.entry, parameters))
        if text is None:
            return None
        return Fault("load too early", *edge.pair, _with_steps(self.subject.graph, edge.target, role, steps), text)


def _early(text: str, kernel: Kernel, entry: str, parameters: Sequence[int]) -> str | None:
    """A text that follows a body, if it loads through one of the parameters before it waits."""
    try:
        made = follow_body(text, kernel, entry)
    except CannotGenerate:
        return None
    function = parse_module(made.text).entry(entry)
    names = [(function.parameters or ())[number].name for number in parameters]
    is_early = any(one.parameter in names and not one.after_wait for one in summarise(function).global_accesses)
    return made.text if is_early else None


def _with_steps(graph: Graph, node: str, role: Role, steps: tuple[Step, ...]) -> Graph:
    edit = graph.edit()
    found = graph.nodes[node]
    assert isinstance(found, KernelNode)
    changed = edit.kernel_variant(graph.kernels[found.kernel], (replace(role, steps=steps),), "fault")
    edit.replace_node(replace(found, kernel=changed.name))
    return edit.commit()


def without_waits(text: str, entry: str) -> str:
    """A text whose kernel no longer waits."""
    module = parse_module(text)
    function = module.entry(entry)
    body = tuple(one for one in function.body or () if not (isinstance(one, Instruction) and is_wait(one)))
    return print_module(module.with_function(replace(function, body=body)))


def with_nc(text: str, entry: str, parameters: Sequence[int]) -> str:
    """A text whose plain loads through some parameters go through the read-only path."""
    module = parse_module(text)
    function = module.entry(entry)
    names = {(function.parameters or ())[number].name for number in parameters}
    flow = control_flow(function)
    body = list(function.body or ())
    for access in summarise(function, flow).global_accesses:
        position = flow.positions[access.index]
        one = body[position]
        assert isinstance(one, Instruction)
        is_plain = one.parts[:2] == ("ld", "global") and not access.is_nc and not _ORDERED & set(access.cache)
        if access.parameter in names and is_plain:
            body[position] = replace(one, opcode=one.opcode.replace("ld.global", "ld.global.nc", 1))
    return print_module(module.with_function(replace(function, body=tuple(body))))
