"""Wrong passes that weaken dependencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import conflicts
from forerun.ir.types import DependencyKind
from forerun.passes.infra.base import PassContext
from forerun.passes.insert_pdl import InsertPdl, can_overlap, with_waits
from tests.wrong.wrong_pass import weakened_where, wrong_pass

__all__: list[str] = []


@wrong_pass("race", "one warp waits for all")
def first_role_waits(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: (_with_wait(roles[0], 0), *roles[1:]))


@wrong_pass("race", "the wait comes last")
def waits_at_the_end(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(role, len(role.steps)) for role in roles))


@wrong_pass("race", "the wait guards the loads, and stores before it are forgotten")
def waits_before_the_first_read(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(r, _first(r, lambda p: p.reads)) for r in roles))


@wrong_pass("race", "the wait guards the stores, and loads before it are forgotten")
def waits_before_the_first_write(graph: Graph) -> Graph:
    return _programmatic(graph, lambda roles: tuple(_with_wait(r, _first(r, lambda p: p.writes)) for r in roles))


@wrong_pass("race", "the wait is given to the source of the edge")
def waits_at_the_wrong_end(graph: Graph) -> Graph:
    return _programmatic(graph, with_waits, end="source")


@wrong_pass("valid", "copies and fills get programmatic edges as well")
def programmatic_everywhere(graph: Graph) -> Graph:
    return weakened_where(graph, DependencyKind.PROGRAMMATIC, lambda graph, d: True)


@wrong_pass("valid", "kernels that wait get a second wait")
def waits_twice(graph: Graph) -> Graph:
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and graph.kernels[node.kernel].roles:
            kernel = graph.kernels[node.kernel]
            edit.replace_node(
                replace(node, kernel=edit.kernel_variant(kernel, with_waits(kernel.roles or ()), "pdl").name)
            )
    return edit.commit()


@wrong_pass("race", "a write after a read gets a programmatic edge without a wait")
def trusts_war(graph: Graph) -> Graph:
    kinds: dict[tuple[str, str], set[str]] = {}
    for c in conflicts(graph):
        kinds.setdefault((c.earlier.node, c.later.node), set()).add(c.kind)
    return _programmatic(graph, lambda roles: roles, lambda graph, d: kinds.get(d.pair) == {"WAR"})


@wrong_pass("body", "adds a role that only waits at every run")
def adds_a_role_each_time(graph: Graph) -> Graph:
    right = InsertPdl().apply(graph, PassContext(InsertPdl()))
    edit = right.edit()
    for node in right:
        if isinstance(node, KernelNode) and right.kernels[node.kernel].roles and not _has_barrier(right, node):
            kernel = right.kernels[node.kernel]
            roles = (*(kernel.roles or ()), Role(f"w{len(kernel.roles or ())}", (Wait(),)))
            edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, roles, "more").name))
    edit.drop_unused_kernels()
    return edit.commit()


def _programmatic(
    graph: Graph,
    body: Callable[[tuple[Role, ...]], tuple[Role, ...]],
    where: Callable[[Graph, Dependency], bool] = lambda graph, d: True,
    end: str = "target",
) -> Graph:
    """Programmatic dependencies between kernels with bodies, and another body for each target without a wait."""
    edit = graph.edit()
    changed: set[str] = set()
    early = {c.later.node for c in conflicts(graph) if c.later.early and _waits(graph, c.later.node)}
    for d in graph.dependencies:
        if all(can_overlap(graph, name) for name in d.pair) and where(graph, d) and d.target not in early:
            edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
            changed.add(d.target if end == "target" else d.source)
    for name in changed:
        node = graph.nodes[name]
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        if not kernel.has(Wait) and kernel.roles:
            variant = edit.kernel_variant(kernel, body(kernel.roles), "pdl")
            edit.replace_node(replace(node, kernel=variant.name))
    return edit.commit()


def _waits(graph: Graph, name: str) -> bool:
    node = graph.nodes[name]
    return isinstance(node, KernelNode) and graph.kernels[node.kernel].has(Wait)


def _with_wait(role: Role, at: int) -> Role:
    return replace(role, steps=(*role.steps[:at], Wait(), *role.steps[at:]))


def _first(role: Role, test: Callable[[Phase], object]) -> int:
    found = (i for i, step in enumerate(role.steps) if isinstance(step, Phase) and test(step))
    return next(found, len(role.steps))


def _has_barrier(graph: Graph, node: KernelNode) -> bool:
    return graph.kernels[node.kernel].has(Barrier)


@wrong_pass("race", "makes dependencies programmatic and forgets the waits")
def never_waits(graph: Graph) -> Graph:
    edit = graph.edit()
    for d in graph.dependencies:
        if all(can_overlap(graph, name) for name in d.pair):
            edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
    return edit.commit()


@wrong_pass("race", "a kernel that waits somewhere is taken to wait early enough")
def trusts_present_waits(graph: Graph) -> Graph:
    edit = graph.edit()
    for d in graph.dependencies:
        target = graph.nodes[d.target]
        if all(can_overlap(graph, name) for name in d.pair) and isinstance(target, KernelNode):
            edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
            kernel = graph.kernels[target.kernel]
            if not kernel.has(Wait) and kernel.roles:
                variant = edit.kernel_variant(kernel, with_waits(kernel.roles), "pdl")
                edit.replace_node(replace(target, kernel=variant.name))
    return edit.commit()


@wrong_pass("race", "keeps one full dependency, from the oldest source, for the accesses before a present wait")
def keeps_the_oldest(graph: Graph) -> Graph:
    edit = graph.edit()
    for node in graph:
        if isinstance(node, KernelNode) and can_overlap(graph, node.name):
            kernel = graph.kernels[node.kernel]
            if not kernel.has(Wait):
                edit.replace_node(replace(node, kernel=edit.kernel_variant(kernel, _waiting(kernel), "pdl").name))
            spared = sorted(graph.incoming(node.name), key=lambda d: list(graph.nodes).index(d.source))
            for d in spared[1:] if kernel.has(Wait) else spared:
                if can_overlap(graph, d.source):
                    edit.set_dependency(replace(d, kind=DependencyKind.PROGRAMMATIC))
    edit.drop_unused_kernels()
    return edit.commit()


def _waiting(kernel: Kernel) -> tuple[Role, ...]:
    return with_waits(kernel.roles or ())
