"""Random graphs from a seed, quickly: for runs over very many of them, where Hypothesis would be too slow.

``plain`` graphs hold what an explorer needs to be tried on: kernels with roles, waits, triggers and barriers in any
order, fills, and dependencies of every kind, on views of two arenas. ``rich`` graphs hold in addition all that decides
what a node touches: boxes, scalars from memory that the graph may write, copies, page tables, black boxes, bodies.
``rows`` graphs touch rows of one buffer at positions from memory, and little else;
``temporaries`` graphs hand on temporaries, some of which are views of each other.
``looped`` graphs are ``rows`` and ``plain`` ones between whose nodes one is a loop, a branch or a child graph around
some more. ``boxes`` graphs touch one box each of one matrix, so that accesses cover each other in part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from random import Random

from forerun.ir.affine import affine
from forerun.ir.buffer import Allocation, Buffer, Paged
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.nodes import (
    Argument,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    KernelNode,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import WHOLE, BufferView, Region, region
from forerun.ir.types import BufferRole, DependencyKind, DType

__all__ = ["boxes", "in_launch_order", "looped", "pair", "plain", "rich", "rows", "temporaries"]

_ALLOCATIONS = [Allocation("a", 36), Allocation("b", 32), Allocation("i", 40)]
_STATE = BufferRole.STATE
_POSITIONS = [
    Buffer("pos", DType.I32, (4,), _STATE, "i", 0, bounds=(0, 2)),
    Buffer("other", DType.I32, (4,), _STATE, "i", 4, bounds=(0, 2)),
]
_TABLE = Buffer("table", DType.I32, (4,), _STATE, "i", 24, bounds=(0, 1))
_PAGED = Buffer("paged", DType.I32, (4, 1), _STATE, "b", 8, Paged("table", 1))
_MATRIX = Buffer("matrix", DType.I32, (4, 2), _STATE, "a", 4)
_KINDS = (DependencyKind.FULL, DependencyKind.PROGRAMMATIC, DependencyKind.PROGRAMMATIC, DependencyKind.LAUNCH_ORDER)


def plain(chooser: Random, least: int, most: int) -> Graph:
    """A graph of that many nodes with constant regions only."""
    buffers = _views(chooser)
    kernels: list[Kernel] = []
    found: list[Node] = []
    for i in range(chooser.randint(least, most)):
        if chooser.random() < 0.1:
            found.append(MemsetNode(f"n{i}", BufferView(chooser.choice(buffers).name)))
        else:
            kernels.append(Kernel(f"k{i}", _parameters(2), _roles(chooser, 2, scalar=False)))
            bound = tuple((f"p{j}", BufferArgument(chooser.choice(buffers).name)) for j in range(2))
            found.append(KernelNode(f"n{i}", f"k{i}", bound))
    return Graph("plain", _ALLOCATIONS, buffers, kernels, found, _dependencies(chooser, found))


def pair(chooser: Random) -> Graph:
    """Two kernels with several roles on one buffer, and one programmatic dependency: all depends on their bodies."""
    buffer = Buffer("v0", DType.I32, (4,), _STATE, "a")
    kernels = [Kernel(f"k{i}", _parameters(1), _roles(chooser, 1, scalar=False)) for i in range(2)]
    nodes = [KernelNode(f"n{i}", f"k{i}", (("p0", BufferArgument("v0")),)) for i in range(2)]
    edge = Dependency("n0", "n1", DependencyKind.PROGRAMMATIC)
    return Graph("pair", _ALLOCATIONS, [buffer], kernels, nodes, [edge])


def in_launch_order(graph: Graph) -> Graph:
    """The same nodes in a chain of full dependencies: what passes begin with."""
    tables = graph.allocations.values(), graph.buffers.values(), graph.kernels.values()
    edges = [Dependency(u, v) for u, v in pairwise(graph.nodes)]
    return Graph("chain", *tables, graph.nodes.values(), edges)


def rich(chooser: Random) -> Graph:
    """A graph of two to four nodes of any kind."""
    buffers = [*_views(chooser), _MATRIX, _PAGED, _TABLE, *_POSITIONS]
    kernels: list[Kernel] = []
    count = chooser.randint(2, 4)
    found = [_node(chooser, f"n{i}", buffers, kernels, nested=True) for i in range(count)]
    return Graph("rich", _ALLOCATIONS, buffers, kernels, found, _dependencies(chooser, found))


def rows(chooser: Random) -> Graph:
    """A graph of two to four kernels that share one buffer; at times a fill writes the position in between."""
    kernels, found = [], list[Node]()
    exact = chooser.random() < 0.5
    for i in range(chooser.randint(2, 4)):
        if not exact and chooser.random() < 0.2:
            found.append(MemsetNode(f"n{i}", BufferView("pos", region((0, 1)))))
            continue
        shift = chooser.randint(0, 1)
        part = region((affine("s") + shift, affine("s") + shift + 1)) if chooser.random() < 0.7 else region((0, "s"))
        access = (Access("p0", part),)
        steps: list[Step] = [Phase("p", access) if chooser.random() < 0.4 else Phase("p", (), access)]
        if chooser.random() < 0.5:
            steps.insert(chooser.randint(0, 1), Wait())
        parameters = (BufferParameter("p0", DType.I32), ScalarParameter("s", DType.I32))
        kernels.append(Kernel(f"k{i}", parameters, (Role("main", tuple(steps)),)))
        source = "pos" if exact else chooser.choice(["pos", "other"])
        load = ScalarLoad(source, 0, 0 if shift else chooser.randint(0, 1))
        found.append(KernelNode(f"n{i}", f"k{i}", (("p0", BufferArgument("v0")), ("s", load))))
    buffer = Buffer("v0", DType.I32, (6,), _STATE, "a")
    return Graph("rows", _ALLOCATIONS, [buffer, *_POSITIONS], kernels, found, _dependencies(chooser, found))


def looped(chooser: Random) -> Graph:
    """Two chains, the one around the other: a body of two to five nodes, at times with a body in it."""
    outer = plain(chooser, 1, 2)
    inner = _renamed(rows(chooser) if chooser.random() < 0.4 else plain(chooser, 2, 5), "in_", outer)
    found = [*outer]
    found.insert(chooser.randint(0, len(found)), _owner(chooser, "owner", list(inner)))
    if chooser.random() < 0.2:
        found = [_owner(chooser, "around", found)]
    buffers = {b.name: b for b in (*_POSITIONS, *outer.buffers.values(), *inner.buffers.values())}
    kernels = [*outer.kernels.values(), *inner.kernels.values()]
    return Graph("looped", _ALLOCATIONS, buffers.values(), kernels, found, _chain(found))


def _owner(chooser: Random, name: str, nodes: list[Node]) -> Node:
    """A node whose body is a chain."""
    body = Graph("body", nodes=nodes, dependencies=_chain(nodes))
    kind = chooser.choice(["while", "while", "if", "child"])
    return ChildGraphNode(name, body) if kind == "child" else ConditionalNode(name, kind, "other", (body,))


def _chain(nodes: list[Node]) -> list[Dependency]:
    return [Dependency(u.name, v.name) for u, v in pairwise(nodes)]


def _renamed(graph: Graph, prefix: str, other: Graph) -> Graph:
    """The graph, its kernels and buffers under other names than those of another graph."""
    new = {name: prefix + name for name in graph.buffers if name in other.buffers}
    views = [replace(b, name=new.get(b.name, b.name)) for b in graph.buffers.values()]
    kernels = [replace(kernel, name=prefix + kernel.name) for kernel in graph.kernels.values()]

    def bound(argument: Argument) -> Argument:
        return BufferArgument(new[argument.buffer]) if getattr(argument, "buffer", "") in new else argument

    nodes: list[Node] = []
    for node in graph:
        if isinstance(node, KernelNode):
            arguments = tuple((name, bound(argument)) for name, argument in node.arguments)
            node = replace(node, kernel=prefix + node.kernel, arguments=arguments)
        elif isinstance(node, MemsetNode):
            view = node.destination
            node = replace(node, destination=BufferView(new.get(view.buffer, view.buffer), view.region))
        nodes.append(node)
    return Graph(graph.name, graph.allocations.values(), views, kernels, nodes, graph.dependencies)


def temporaries(chooser: Random) -> Graph:
    """A chain of three to eight nodes on temporaries; most are written whole before they are read."""
    allocations, views = list[Allocation](), list[Buffer]()
    kernels, found, filled = list[Kernel](), list[Node](), list[Buffer]()
    for i in range(chooser.randint(3, 8)):
        if not filled or chooser.random() < 0.6:
            if not allocations or chooser.random() < 0.8:
                allocations.append(Allocation(f"a{i}", 32))
            size, start = chooser.choice([(8, 0), (4, 0), (4, 4)])
            home = chooser.choice(allocations[-2:]).name if chooser.random() < 0.3 else allocations[-1].name
            views.append(Buffer(f"t{i}", DType.I32, (size,), BufferRole.TEMP, home, 4 * start))
            target = views[-1]
        else:
            target = chooser.choice(filled)
        if chooser.random() < 0.1:
            found.append(MemsetNode(f"n{i}", BufferView(target.name)))
        else:
            read = chooser.sample(filled, min(len(filled), chooser.randint(0, 2)))
            part = WHOLE if chooser.random() < 0.9 else region((0, 2))
            kernels.append(_handing_on(chooser, f"k{i}", len(read), part))
            bound = tuple((f"p{j}", BufferArgument(view.name)) for j, view in enumerate([*read, target]))
            found.append(KernelNode(f"n{i}", f"k{i}", bound))
        filled.append(target)
    return Graph("temporaries", allocations, views, kernels, found, _chain(found))


def _handing_on(chooser: Random, name: str, reads: int, part: Region) -> Kernel:
    """A kernel that reads its first parameters, each in a phase of its own at times, and then writes the last."""
    loaded = [Access(f"p{j}") for j in range(reads)]
    steps: list[Step] = [Phase(f"load{j}", (access,)) for j, access in enumerate(loaded)]
    if chooser.random() < 0.5:
        steps = [Phase("work", tuple(loaded), (Access(f"p{reads}", part),))]
    else:
        steps.append(Phase("store", (), (Access(f"p{reads}", part),)))
    for step, likely in ((Wait(), 0.5), (Trigger(), 0.5)):
        if chooser.random() < likely:
            steps.insert(chooser.randint(0, len(steps)), step)
    return Kernel(name, _parameters(reads + 1), (Role("main", tuple(steps)),))


def boxes(chooser: Random) -> Graph:
    """A graph of three kernels that access a box each of a matrix or of a flat or paged view of its bytes."""
    matrix = Buffer("m", DType.I32, (3, 2), _STATE, "a")
    flat = Buffer("f", DType.I32, (6,), _STATE, "a")
    paged = Buffer("p", DType.I32, (6,), _STATE, "a", 0, Paged("table", 1))
    kernels, found = [], list[Node]()
    for i in range(3):
        view = chooser.choice([matrix, matrix, flat, paged])
        access = (Access("p0", _box(chooser, view)),)
        steps: list[Step] = [Phase("p", access) if chooser.random() < 0.3 else Phase("p", (), access)]
        kernels.append(Kernel(f"k{i}", _parameters(1), (Role("main", tuple(steps)),)))
        found.append(KernelNode(f"n{i}", f"k{i}", (("p0", BufferArgument(view.name)),)))
    return Graph("boxes", _ALLOCATIONS, [matrix, flat, paged, _TABLE], kernels, found, _dependencies(chooser, found))


def _box(chooser: Random, view: Buffer) -> Region:
    bounds = []
    for extent in view.shape:
        start = chooser.randint(0, extent - 1)
        bounds.append(None if chooser.random() < 0.2 else (start, chooser.randint(start + 1, extent)))
    return region(*bounds)


def _views(chooser: Random) -> list[Buffer]:
    views = []
    for i in range(chooser.randint(1, 3)):
        start = chooser.randint(0, 4)
        size = chooser.randint(4, 8 - start)
        views.append(Buffer(f"v{i}", DType.I32, (size,), _STATE, chooser.choice("ab"), 4 * start))
    return views


def _parameters(count: int) -> tuple[BufferParameter, ...]:
    return tuple(BufferParameter(f"p{i}", DType.I32) for i in range(count))


def _roles(chooser: Random, parameters: int, *, scalar: bool) -> tuple[Role, ...]:
    roles = []
    barrier = chooser.random() < 0.4
    waits = chooser.choice([0.0, 0.6, 1.0])
    for i in range(chooser.choice([1, 1, 2])):
        steps: list[Step] = []
        for j in range(chooser.randint(1, 2)):
            accesses = [Access(f"p{chooser.randrange(parameters)}", _region(chooser, scalar)) for _ in range(2)]
            reads = tuple(accesses[: chooser.randint(0, 1)])
            writes = tuple(accesses[1:][: chooser.randint(0, 1)])
            scalars = ("s",) if scalar and chooser.random() < 0.1 else ()
            steps.append(Phase(f"r{i}p{j}", reads, writes, scalars=scalars))
        for step, likely in ((Wait(), waits), (Trigger(), 0.5), (Barrier(), 1.0 if barrier else 0.0)):
            if chooser.random() < likely:
                steps.insert(chooser.randint(0, len(steps)), step)
        roles.append(Role(f"r{i}", tuple(steps)))
    return tuple(roles)


def _region(chooser: Random, scalar: bool) -> Region:
    """Within the first four elements, or rows, of anything."""
    start = chooser.randint(0, 2)
    found = [WHOLE, region((start, start + 1)), region((start, 3))]
    if scalar:
        found += [region(("s", affine("s") + 1)), region((0, "s"))]
    return chooser.choice(found)


def _one(view: Buffer) -> Region:
    return region(*[(0, 1)] * len(view.shape))


def _node(chooser: Random, name: str, buffers: list[Buffer], kernels: list[Kernel], *, nested: bool) -> Node:
    pick = chooser.random()
    if pick < 0.08:
        return MemsetNode(name, BufferView(chooser.choice(buffers).name))
    if pick < 0.16:
        source, target = (BufferView(view.name, _one(view)) for view in chooser.choices(buffers, k=2))
        return MemcpyNode(name, source, target)
    if pick < 0.26 and nested:
        inner = [_node(chooser, f"{name}.{i}", buffers, kernels, nested=False) for i in range(chooser.randint(1, 2))]
        body = Graph("body", nodes=inner, dependencies=_dependencies(chooser, inner))
        return ConditionalNode(name, "if", "pos", (body,)) if chooser.random() < 0.7 else ChildGraphNode(name, body)
    parameters = (*_parameters(2), ScalarParameter("s", DType.I32))
    opaque = chooser.random() < 0.08
    bound = [BufferArgument(chooser.choice(buffers).name) for _ in range(2)]
    roles = None if opaque else _roles(chooser, 2, scalar=True)
    if roles is not None and chooser.random() < 0.4:
        bound[0] = BufferArgument("matrix")
        roles = tuple(_with_columns(chooser, role) for role in roles)
    kernels.append(Kernel(f"{name}.k", parameters, roles))
    scalar: Argument = ConstantArgument(chooser.randint(0, 2))
    if chooser.random() < 0.6:
        scalar = ScalarLoad(chooser.choice(["pos", "pos", "other"]), 0, chooser.randint(0, 1))
    return KernelNode(name, f"{name}.k", (("p0", bound[0]), ("p1", bound[1]), ("s", scalar)))


def _with_columns(chooser: Random, role: Role) -> Role:
    """The role with accesses to the matrix, its first parameter, cut down to one column at times."""

    def cut(access: Access) -> Access:
        if access.parameter != "p0" or chooser.random() < 0.4:
            return access
        column = chooser.randint(0, 1)
        rows = access.region.slices[0] if access.region.slices else None
        return Access("p0", Region((rows, *region((column, column + 1)).slices)))

    steps: list[Step] = []
    for step in role.steps:
        if isinstance(step, Phase):
            step = Phase(step.name, tuple(map(cut, step.reads)), tuple(map(cut, step.writes)), scalars=step.scalars)
        steps.append(step)
    return Role(role.name, tuple(steps))


def _dependencies(chooser: Random, nodes: list[Node]) -> Iterator[Dependency]:
    for u, v in combinations(nodes, 2):
        if chooser.random() < 0.5:
            both = isinstance(u, KernelNode) and isinstance(v, KernelNode)
            yield Dependency(u.name, v.name, chooser.choice(_KINDS) if both else DependencyKind.FULL)
