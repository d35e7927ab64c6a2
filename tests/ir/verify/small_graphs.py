"""A small valid graph, and the ways to change it of which tests break invariants."""

from __future__ import annotations

from dataclasses import replace

from forerun.ir.affine import affine
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Wait,
)
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import (
    BufferArgument,
    ConditionalNode,
    ConstantArgument,
    KernelNode,
    Launch,
    Node,
    ScalarLoad,
)
from forerun.ir.region import region
from forerun.ir.text import parse_graph
from forerun.ir.types import HOST, BufferRole, DType

__all__ = [
    "ALLOCATIONS",
    "ARENA",
    "ARGUMENTS",
    "BUFFERS",
    "EDGE",
    "F32",
    "FIRST",
    "I32",
    "INPUT",
    "LOAD",
    "NAMED_ROW",
    "OUTPUT",
    "ROW",
    "SECOND",
    "STORE",
    "TEMP",
    "WEIGHT",
    "accepting",
    "aligned",
    "allocated_late",
    "clustered",
    "given_to_a_black_box",
    "graph",
    "holding",
    "holding_twice",
    "named",
    "with_arguments",
    "with_body",
    "with_buffer",
    "with_node",
    "with_roles",
    "with_steps",
    "written_pointers",
]

F32, I32 = DType.F32, DType.I32
TEMP, WEIGHT, OUTPUT, INPUT = BufferRole.TEMP, BufferRole.WEIGHT, BufferRole.OUTPUT, BufferRole.INPUT

ROW = Kernel(
    "row",
    (BufferParameter("x", F32, ("R", "C")), BufferParameter("y", F32, ("C",)), ScalarParameter("r", I32)),
    (
        Role(
            "main",
            (
                Phase("load", (Access("x", region(("r", affine("r") + 1))),), defines=("v",)),
                Phase("store", writes=(Access("y"),), uses=("v",)),
            ),
        ),
    ),
)
ALLOCATIONS = [Allocation("x", 64), Allocation("y", 16), Allocation("i", 4), Allocation("h", 16, HOST)]
BUFFERS = [
    Buffer("x", F32, (4, 4), INPUT, "x"),
    Buffer("y", F32, (4,), OUTPUT, "y"),
    Buffer("i", I32, (1,), INPUT, "i", bounds=(0, 3)),
    Buffer("h", F32, (4,), INPUT, "h"),
]
ARGUMENTS = (("x", BufferArgument("x")), ("y", BufferArgument("y")), ("r", ScalarLoad("i")))
FIRST = KernelNode("first", "row", ARGUMENTS)
SECOND = KernelNode("second", "row", ARGUMENTS)
EDGE = Dependency("first", "second")


def graph(
    *,
    allocations: list[Allocation] | None = None,
    buffers: list[Buffer] | None = None,
    kernel: Kernel = ROW,
    nodes: list[Node] | None = None,
    dependencies: list[Dependency] | None = None,
    name: str = "g",
) -> Graph:
    return Graph(
        name,
        ALLOCATIONS if allocations is None else allocations,
        BUFFERS if buffers is None else buffers,
        [kernel],
        [FIRST, SECOND] if nodes is None else nodes,
        [EDGE] if dependencies is None else dependencies,
    )


def with_buffer(**changes: object) -> Graph:
    return graph(buffers=[replace(BUFFERS[0], **changes), *BUFFERS[1:]])  # type: ignore[arg-type]


def with_steps(*steps: Phase | Wait | Barrier) -> Graph:
    return graph(kernel=replace(ROW, roles=(Role("main", steps),)))


def with_roles(*roles: Role) -> Graph:
    return graph(kernel=replace(ROW, roles=roles))


def with_node(node: Node) -> Graph:
    return graph(nodes=[FIRST, node], dependencies=[Dependency("first", node.name)])


def with_arguments(*arguments: tuple[str, BufferArgument | ConstantArgument | ScalarLoad]) -> Graph:
    return with_node(replace(SECOND, arguments=arguments))


def with_body(body: Graph, kind: str = "while", condition: str = "i") -> Graph:
    return with_node(ConditionalNode("loop", kind, condition, (body,)))


def aligned(align: int, offset: int = 0) -> Graph:
    """%x lies at an offset of an allocation, and the kernel needs an alignment."""
    kernel = replace(ROW, parameters=(replace(ROW.parameters[0], align=align), *ROW.parameters[1:]))
    buffers = [replace(BUFFERS[0], allocation="a", offset=offset), *BUFFERS[1:]]
    return graph(allocations=[*ALLOCATIONS, Allocation("a", 1024)], buffers=buffers, kernel=kernel)


def accepting(**spans: Span) -> Graph:
    return graph(kernel=replace(ROW, launches=Launches(**spans)))


def clustered(cluster: tuple[int, int, int]) -> Graph:
    kernel = replace(ROW, launches=Launches(cluster=Span(1, 8)))
    return graph(kernel=kernel, nodes=[FIRST, replace(SECOND, launch=Launch((2, 2, 1), cluster=cluster))])


LOAD, STORE = ROW.phases
ARENA = [*ALLOCATIONS, Allocation("a", 64)]


NAMED_ROW = (("x", BufferArgument("x")), ("y", BufferArgument("y")), ("r", ConstantArgument(1, "s")))


def named(first: str, second: str, other: str = "i32") -> Graph:
    """Two launches, the second one in a body, with constants of one name."""
    return parse_graph(f"""
        forerun 1 graph g
        buffer %y : f32[1] state
        kernel @a(y: f32[1], n: scalar i32) {{ role r {{ phase p writes y scalars n }} }}
        kernel @b(y: f32[1], n: scalar {other}) {{ role r {{ phase p writes y scalars n }} }}
        node #a = @a(y=%y, n={first} as s)
        node #child = child {{ graph inner node #b = @b(y=%y, n={second} as s) }} after #a full
    """)


def holding(**changes: object) -> Graph:
    """A graph with a buffer that holds a zero, but for some changes."""
    constant = replace(Buffer("c", I32, (1,), WEIGHT, "c", contents=bytes(4)), **changes)  # type: ignore[arg-type]
    return graph(allocations=[*ALLOCATIONS, Allocation("c", max(constant.size, 1))], buffers=[*BUFFERS, constant])


def holding_twice() -> Graph:
    constant = Buffer("c", I32, (1,), WEIGHT, "c", contents=bytes(4))
    buffers = [*BUFFERS, constant, replace(constant, name="d")]
    return graph(allocations=[*ALLOCATIONS, Allocation("c", 4)], buffers=buffers)


def given_to_a_black_box() -> Graph:
    return parse_graph("""
        forerun 1 graph g
        buffer %c : i32[1] weight holds [0]
        kernel @box(c: i32[1]) opaque
        node #box = @box(c=%c)
    """)


def written_pointers() -> Graph:
    return parse_graph("""
        forerun 1 graph g
        alloc $p : 8
        buffer %p : i32[2] input ascending at $p
        buffer %alias : i32[1] input at $p + 4
        node #clear = fill %alias with 0
    """)


def allocated_late() -> Graph:
    return parse_graph("""
forerun 1
graph g
alloc $m : 16
buffer %h : f32[4] temp at $m
buffer %y : f32[4] output
node #clear = fill %h with 0
node #late = alloc $m
  after #clear full
node #copy = copy %h -> %y
  after #late full
""")
