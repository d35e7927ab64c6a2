"""Random rewrites of the bodies of kernels, and kernels that stand for several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Access, Barrier, Kernel, Parameter, Phase, Role, ScalarParameter, Step, Trigger, Wait
from forerun.ir.nodes import (
    Argument,
    BufferArgument,
    KernelNode,
)
from forerun.ir.region import WHOLE, Region, region
from forerun.ir.types import BufferRole, DependencyKind
from tests.oracle.parts import Rewritten, rebuilt, with_node

__all__ = ["change_barrier", "change_events", "change_phase", "fuse", "move_step", "swap_phases"]


# Bodies of kernels


def _body(chooser: Random, graph: Graph, change: Callable[[list[list[Step]]], bool]) -> Graph | None:
    """A node with a changed body, under the kernel's old name or under a new one."""
    found = [n for n in graph if isinstance(n, KernelNode) and graph.kernels[n.kernel].roles]
    if not found:
        return None
    node = chooser.choice(found)
    kernel = graph.kernels[node.kernel]
    assert isinstance(node, KernelNode)
    assert kernel.roles is not None
    steps = [list(role.steps) for role in kernel.roles]
    if not change(steps):
        return None
    roles = tuple(replace(role, steps=tuple(s)) for role, s in zip(kernel.roles, steps, strict=True))
    kernels = {k.name: k for k in graph.kernels.values()}
    name = kernel.name if chooser.random() < 0.5 else f"{kernel.name}_new"
    kernels[name] = replace(kernel, name=name, roles=roles)
    return with_node(graph, replace(node, kernel=name), kernels.values())


def move_step(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        if len(steps) < 2:
            return False
        steps.insert(chooser.randint(0, len(steps) - 1), steps.pop(chooser.randint(0, len(steps) - 1)))
        return True

    return _body(chooser, graph, change)


def swap_phases(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        places = [i for i, step in enumerate(steps) if isinstance(step, Phase)]
        if len(places) < 2:
            return False
        k = chooser.randint(0, len(places) - 2)
        i, j = places[k], places[k + 1]
        steps[i], steps[j] = steps[j], steps[i]
        return True

    return _body(chooser, graph, change)


def change_events(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        kind = chooser.choice([Wait, Trigger])
        present = [i for i, step in enumerate(steps) if isinstance(step, kind)]
        if present:
            steps.pop(chooser.choice(present))
        if not present or chooser.random() < 0.3:
            steps.insert(chooser.randint(0, len(steps)), kind())
        return True

    return _body(chooser, graph, change)


def change_barrier(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        if chooser.random() < 0.4 and any(isinstance(step, Barrier) for step in roles[0]):
            for steps in roles:
                steps[:] = [step for step in steps if not isinstance(step, Barrier)]
        else:
            for steps in roles:
                steps.insert(chooser.randint(0, len(steps)), Barrier())
        return True

    return _body(chooser, graph, change)


def change_phase(chooser: Random, graph: Graph) -> Graph | None:
    def change(roles: list[list[Step]]) -> bool:
        steps = chooser.choice(roles)
        places = [i for i, step in enumerate(steps) if isinstance(step, Phase)]
        if not places:
            return False
        i = chooser.choice(places)
        phase = steps[i]
        assert isinstance(phase, Phase)
        kind = chooser.random()
        if kind < 0.4:
            steps[i] = replace(phase, asynchronous=not phase.asynchronous)
        elif kind < 0.6 and phase.writes:
            steps[i] = replace(phase, writes=tuple(_other_part(chooser, a) for a in phase.writes))
        elif kind < 0.8 and phase.reads:
            steps[i] = replace(phase, reads=tuple(_other_part(chooser, a) for a in phase.reads))
        else:
            steps[i] = replace(phase, reference="m:f0")
        return True

    return _body(chooser, graph, change)


def _other_part(chooser: Random, access: Access) -> Access:
    parts: list[Region] = [WHOLE, region((0, 2)), region((1, 3)), region((0, 1))]
    return replace(access, region=chooser.choice(parts))


# Fusion


def fuse(chooser: Random, graph: Graph) -> Rewritten | None:
    """One kernel for two or three in a row, with all of their phases, or without some accesses."""
    names = [n.name for n in graph if isinstance(n, KernelNode) and graph.kernels[n.kernel].roles]
    if len(names) < 2:
        return None
    count = min(len(names), chooser.choice([2, 2, 2, 3]))
    at = chooser.randint(0, len(names) - count)
    parts = names[at : at + count] if chooser.random() < 0.8 else sorted(chooser.sample(names, count), key=names.index)
    parameters: list[Parameter] = []
    bound: list[tuple[str, Argument]] = []
    steps: list[Step] = []
    for number, part in enumerate(parts):
        node = graph.nodes[part]
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        own = f"_{number}"
        parameters += [replace(p, name=p.name + own) for p in kernel.parameters]
        bound += [(name + own, argument) for name, argument in node.arguments]
        scalars = {p.name for p in kernel.parameters if isinstance(p, ScalarParameter)}
        steps += [_renamed(phase, own, scalars) for phase in _in_epochs(kernel)]
    steps = _read_in_time(steps, [_pruned(chooser, graph, step, dict(bound), parts) for step in steps], dict(bound))
    if chooser.random() < 0.3:
        steps.insert(0, Wait())
    kernel = Kernel("fusedk", tuple(parameters), (Role("main", tuple(steps)),))
    node = KernelNode("fused", "fusedk", tuple(bound))
    nodes = [n for n in graph if n.name not in parts]
    where = chooser.choice([parts[0], parts[-1], parts[-1]])
    later = list(graph.nodes)[list(graph.nodes).index(where) + 1 :]
    index = next((i for i, n in enumerate(nodes) if n.name in later), len(nodes))
    nodes.insert(index, node)
    edges = []
    for d in graph.dependencies:
        ends = ["fused" if end in parts else end for end in d.pair]
        if ends[0] != ends[1]:
            edges.append(Dependency(*ends, d.kind if "fused" not in ends else DependencyKind.FULL))
    if chooser.random() < 0.7:
        order = [n.name for n in nodes]
        at = order.index("fused")
        edges += [Dependency(u, "fused") for u in order[:at]] + [Dependency("fused", v) for v in order[at + 1 :]]
    kernels = [*graph.kernels.values(), kernel]
    return Rewritten(rebuilt(graph, nodes, edges, kernels), {"fused": tuple(parts)})


def _read_in_time(whole: Sequence[Step], pruned: Sequence[Step], bound: Mapping[str, Argument]) -> list[Step]:
    """The pruned phases, with the reads of what only later ones still read.

    A kernel cannot store what it has not read yet: that what it computes is right is what a fusion rule states.
    """
    found: list[Step] = []
    for at, (old, new) in enumerate(zip(whole, pruned, strict=True)):
        if isinstance(old, Phase) and isinstance(new, Phase):
            later = {bound.get(a.parameter) for step in pruned[at + 1 :] if isinstance(step, Phase) for a in step.reads}
            lost = (a for a in old.reads if a not in new.reads and bound.get(a.parameter) in later)
            new = replace(new, reads=(*new.reads, *lost))
        found.append(new)
    return found


def _in_epochs(kernel: Kernel) -> list[Phase]:
    """The phases of all roles in an order that they may have."""
    found: list[tuple[int, int, int, Phase]] = []
    for number, role in enumerate(kernel.roles or ()):
        epoch = 0
        for at, step in enumerate(role.steps):
            epoch += isinstance(step, Barrier)
            if isinstance(step, Phase):
                found.append((epoch, number, at, step))
    return [phase for *_, phase in sorted(found, key=lambda entry: entry[:3])]


def _renamed(phase: Phase, own: str, scalars: set[str]) -> Phase:
    symbols = {s: s + own for s in scalars}

    def access(found: Access) -> Access:
        return Access(found.parameter + own, found.region.substitute(symbols))

    return Phase(
        phase.name + own,
        tuple(map(access, phase.reads)),
        tuple(map(access, phase.writes)),
        tuple(t + own for t in phase.uses),
        tuple(g + own for g in phase.defines),
        tuple(s + own for s in phase.scalars),
        phase.asynchronous,
    )


def _pruned(chooser: Random, graph: Graph, step: Step, bound: dict[str, Argument], parts: Sequence[str]) -> Step:
    """A phase without accesses of temporaries, which a fused kernel keeps to itself; or without others, wrongly."""
    assert isinstance(step, Phase)

    def stays(access: Access, likely: float) -> bool:
        argument = bound[access.parameter]
        assert isinstance(argument, BufferArgument)
        temporary = graph.buffers[argument.buffer].role is BufferRole.TEMP
        return chooser.random() < (likely if temporary else 0.97)

    reads = tuple(a for a in step.reads if stays(a, 0.5))
    writes = tuple(a for a in step.writes if stays(a, 0.6))
    # What floats no longer is over before its own writes: a fused kernel does not store what it has not read.
    return replace(step, reads=reads, writes=writes, asynchronous=step.asynchronous and bool(writes or not step.writes))
