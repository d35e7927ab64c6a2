"""Hypothesis strategies for graphs of any shape: every kind of node, odd names, nested bodies, and broken ones.

These graphs are for what must work on *any* graph (printing, parsing, comparing, verifying without a crash). Programs
that mean something come from ``programs.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from forerun.ir.affine import Affine
from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.graph import Dependency, Graph, Hazard
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Trigger,
    Wait,
)
from forerun.ir.launches import Launches, Span
from forerun.ir.nodes import (
    AllocNode,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import BufferView, Region, Slice
from forerun.ir.types import DEVICE0, HOST, BufferRole, DependencyKind, DType, Place

__all__ = ["every_nonsense", "graphs", "graphs_of_nonsense", "names", "numbers", "portion", "tidy_graphs"]


def portion(percent: int) -> settings:
    """Settings for tests whose examples take long: a part of the examples that the profile asks for."""
    return settings(max_examples=max(settings.default.max_examples * percent // 100, 1))


_PLAIN = ["a", "b", "x", "y", "tmp", "blk.0.attn_q.weight", "n_1"]
_ODD = ["0", "w-1", "a/b", "_", "inf", "nan", "load", "node", "on", "reads", "two words", "", 'q"uote', "back\\slash"]
_ODDER = ["line\nfeed", "nul\0", "\u00e9t\u00e9", "\u2028", "\ud800", "\U0001f600", "x->y", "//", "%x", "a.", "-", "{"]

names = st.one_of(st.sampled_from(_PLAIN), st.sampled_from(_ODD + _ODDER), st.text(max_size=4))
"""Names, most of them plain, some of which need quotes and escapes."""

integers = st.one_of(st.integers(-2, 9), st.integers(), st.sampled_from([2**64, -(2**64), 2**3000]))
numbers = st.one_of(integers, st.floats(), st.just(-0.0), st.just(0.0))
"""Values of constants, NaNs of any sign and payload included."""

_places = st.one_of(st.sampled_from([DEVICE0, HOST, Place("device", 1)]), st.builds(Place, names, integers))
_dtypes = st.sampled_from(DType)


def _tuples(items: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=most).map(tuple)


def _affine(constant: int, terms: dict[str, int]) -> Affine:
    return Affine(constant, tuple(sorted(terms.items())))


_affines = st.builds(_affine, integers, st.dictionaries(names, integers.filter(bool), max_size=2))
_slices = st.one_of(st.none(), st.builds(Slice, _affines, _affines))
_regions = st.builds(Region, _tuples(_slices))

_parameters = st.one_of(
    st.builds(ScalarParameter, names, _dtypes),
    st.builds(
        BufferParameter,
        names,
        _dtypes,
        st.none() | _tuples(st.one_of(st.none(), names, integers)),
        st.none() | st.sampled_from([1, 4, 16, 256]) | integers,
    ),
)
_accesses = _tuples(st.builds(Access, names, _regions), 2)
_phases = st.builds(
    Phase,
    names,
    _accesses,
    _accesses,
    _tuples(names, 2),
    _tuples(names, 2),
    _tuples(names, 2),
    st.booleans(),
    st.none() | names,
)
_barriers = st.builds(Barrier, st.sampled_from(["cta", "grid"]) | names)
_steps = st.one_of(_barriers, st.sampled_from([Wait(), Trigger(), Trigger(fenced=True)]), _phases)
_roles = st.builds(Role, names, _tuples(_steps, 4), st.none() | integers)
_implementations = st.builds(Implementation, st.sampled_from(["cuda", "ptx", "cubin"]) | names, names, names)
_spans = st.none() | st.builds(Span, integers, integers, st.just(1) | integers)
_accepted = st.one_of(st.none(), st.just(Launches()), st.builds(Launches, _spans, _spans, _spans, _spans))
_dims = st.tuples(integers, integers, integers) | st.sampled_from([(1, 1, 1), (72, 1, 1), (8, 2, 1)])
_launches = st.builds(Launch, _dims, _dims, integers, st.none() | _dims, st.booleans()) | st.just(Launch())


@dataclass
class _Names:
    """What the nodes of a graph may name."""

    buffers: st.SearchStrategy[str]
    allocations: st.SearchStrategy[str]
    kernels: st.SearchStrategy[str]
    nodes: st.SearchStrategy[str]


_ANY = _Names(names, names, names, names)


def _kernels(name: str) -> st.SearchStrategy[Kernel]:
    roles = _tuples(_roles, 2) | st.none()
    return st.builds(Kernel, st.just(name), _tuples(_parameters), roles, _tuples(_implementations, 2), _accepted)


def _nodes(name: str, known: _Names, depth: int) -> st.SearchStrategy[Node]:
    this, views = st.just(name), st.builds(BufferView, known.buffers, _regions)
    arguments = st.one_of(
        st.builds(BufferArgument, known.buffers, st.booleans()),
        st.builds(ConstantArgument, numbers, st.just("") | names),
        st.builds(ScalarLoad, known.buffers, integers, integers),
    )
    bound = _tuples(st.tuples(names, arguments), 4)
    kinds: list[st.SearchStrategy[Node]] = [
        st.builds(KernelNode, this, known.kernels, bound, _launches, _places, _tuples(names, 2)),
        st.builds(MemcpyNode, this, views, views, _places),
        st.builds(MemsetNode, this, views, integers, _places),
        st.builds(HostCallbackNode, this, names, _tuples(views, 2), _tuples(views, 2), _places, st.booleans()),
        st.builds(EmptyNode, this, _places),
        st.builds(AllocNode, this, known.allocations, _places),
        st.builds(FreeNode, this, known.allocations, _places),
        st.builds(EventRecordNode, this, names, _places),
        st.builds(EventWaitNode, this, names, _places),
    ]
    if depth:
        bodies = _graphs(known, depth - 1, tables=False)
        kind = st.sampled_from(["if", "while", "switch"]) | names
        kinds += [
            st.builds(ChildGraphNode, this, bodies, _places),
            st.builds(ConditionalNode, this, kind, known.buffers, _tuples(bodies, 3), _places),
        ]
    return st.one_of(kinds)


def _buffers(name: str, known: _Names) -> st.SearchStrategy[Buffer]:
    return st.builds(
        Buffer,
        st.just(name),
        _dtypes,
        _tuples(integers),
        st.sampled_from(BufferRole),
        known.allocations | st.just(name),
        st.just(0) | integers,
        st.one_of(st.none(), st.builds(Paged, known.buffers, integers), st.builds(Ragged, known.buffers)),
        st.none() | st.tuples(integers, integers),
        st.none() | st.sampled_from((b"", b"\x00\xff" * 4, b"\x00\x00\x80\x3f" * 4)),
    )


@st.composite
def _graphs(draw: st.DrawFn, known: _Names, depth: int, *, tables: bool = True) -> Graph:
    buffers = [draw(_buffers(name, known)) for name in draw(_distinct(2))] if tables else []
    private = [Allocation(b.name, b.size, draw(_places)) for b in buffers if draw(st.booleans())]
    taken = {allocation.name for allocation in private}
    others = [Allocation(n, draw(integers), draw(_places)) for n in draw(_distinct(2)) if n not in taken]
    kernels = [draw(_kernels(name)) for name in draw(_distinct(1))] if tables else []
    own = draw(_distinct(4))
    nodes = [draw(_nodes(name, known, depth)) for name in own]
    ends = st.sampled_from(own) | known.nodes if own else known.nodes
    dependencies = draw(_dependencies(st.tuples(ends, ends), known.buffers))
    return Graph(draw(names), others + private if tables else [], buffers, kernels, nodes, dependencies)


def _distinct(most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(names, max_size=most, unique=True)


@st.composite
def _dependencies(
    draw: st.DrawFn, ends: st.SearchStrategy[tuple[str, str]], buffers: st.SearchStrategy[str]
) -> list[Dependency]:
    hazards = _tuples(st.builds(Hazard, st.sampled_from(["RAW", "WAR", "WAW"]) | names, buffers), 2)
    pairs = draw(st.lists(ends, max_size=4, unique=True))
    return [Dependency(*pair, draw(st.sampled_from(DependencyKind)), draw(hazards)) for pair in pairs]


def graphs(depth: int = 1) -> st.SearchStrategy[Graph]:
    """Graphs whose fields have the right types, and in which nothing else need be right.

    Names dangle, shapes and regions are arbitrary, dependencies run in cycles and to nodes that are not there.

    Args:
        depth: How deep bodies are nested at most.
    """
    return _graphs(_ANY, depth)


@st.composite
def tidy_graphs(draw: st.DrawFn, depth: int = 1) -> Graph:
    """Graphs whose names all refer to something, and whose dependencies follow the launch order."""
    graph = draw(_graphs(_ANY, 0))
    known = _Names(_of(graph.buffers), _of(graph.allocations), _of(graph.kernels), st.nothing())
    wanted = draw(_distinct(4)) if graph.buffers and graph.allocations and graph.kernels else []
    nodes = [draw(_nodes(name, known, 0)) for name in wanted]
    if nodes and depth:
        body = Graph("body", nodes=nodes, dependencies=draw(_forward(wanted, known.buffers)))
        nodes = [*nodes, ChildGraphNode("child", body)] if "child" not in wanted else nodes
    buffers = [replace(b, allocation=b.name, index=None) for b in graph.buffers.values()]
    allocations = {b.name: Allocation(b.name, b.size) for b in buffers}
    dependencies = draw(_forward([node.name for node in nodes], known.buffers))
    all_allocations = {**graph.allocations, **allocations}.values()
    return Graph(graph.name, all_allocations, buffers, graph.kernels.values(), nodes, dependencies)


def _forward(own: Sequence[str], buffers: st.SearchStrategy[str]) -> st.SearchStrategy[list[Dependency]]:
    pairs = [(source, target) for i, target in enumerate(own) for source in own[:i]]
    return _dependencies(st.sampled_from(pairs), buffers) if pairs else st.just([])


def _of(table: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(table)) if table else st.nothing()


# Nonsense


class _Evil:
    """Raises whenever it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


_JUNK = [None, True, 3, 2.5, "junk", (), [], [1], {}, (None,), b"x", object(), _Evil(), DType.F32, Slice, ("a", 1)]


@st.composite
def graphs_of_nonsense(draw: st.DrawFn) -> Graph:
    """Graphs in which some field of one buffer, kernel, node or dependency holds a value of a wrong type."""
    graph = draw(graphs())
    tables = [list(table.values()) for table in (graph.allocations, graph.buffers, graph.kernels, graph.nodes)]
    tables.append(list(graph.dependencies))
    candidates = [(i, j) for i, table in enumerate(tables) for j in range(len(table))]
    if candidates:
        i, j = draw(st.sampled_from(candidates))
        tables[i][j] = draw(_with_junk(tables[i][j]))
    return Graph(graph.name, *tables)


def every_nonsense(element: Any) -> Iterator[Any]:
    """A buffer, kernel, node or dependency with junk in each of its fields, and in each field of what it is made of."""
    for name in _replaceable(element):
        for odd in _junk_for(getattr(element, name)):
            yield replace(element, **{name: odd})


def _junk_for(value: Any) -> Iterator[Any]:
    yield from _JUNK
    if is_dataclass(value):
        for field in fields(value):
            for odd in _junk_for(getattr(value, field.name)):
                yield replace(value, **{field.name: odd})
    if isinstance(value, tuple):
        yield list(value)
        yield (*value, None)
        for odd in _junk_for(value[0]) if value else ():
            yield (odd, *value[1:])


def _replaceable(element: Any) -> list[str]:
    """The fields that junk may stand in: a graph holds its elements by name."""
    keys = ("source", "target") if isinstance(element, Dependency) else ("name",)
    return [field.name for field in fields(element) if field.name not in keys]


@st.composite
def _with_junk(draw: st.DrawFn, element: Any) -> Any:
    """The element with junk in one field, or in a field of something that it is made of."""
    if not _replaceable(element):
        return element
    name = draw(st.sampled_from(_replaceable(element)))
    value = getattr(element, name)
    if is_dataclass(value) and draw(st.booleans()):
        return replace(element, **{name: draw(_with_junk(value))})
    if isinstance(value, tuple) and value and is_dataclass(value[0]) and draw(st.booleans()):
        return replace(element, **{name: (draw(_with_junk(value[0])), *value[1:])})
    if isinstance(value, tuple) and draw(st.booleans()):
        return replace(element, **{name: draw(st.sampled_from([list(value), (*value, *_JUNK[:1])]))})
    return replace(element, **{name: draw(st.sampled_from(_JUNK))})
