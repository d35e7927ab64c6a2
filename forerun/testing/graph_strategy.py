"""Random graphs that are valid, free of races, and run: what properties of passes are tried on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Literal, TypeAlias

from hypothesis import event
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.nodes import ChildGraphNode, ConditionalNode, HostCallbackNode
from forerun.ir.types import DependencyKind, DType
from forerun.passes.infra.pipeline import Pipeline
from forerun.testing.buffers import CHOICES, CONSTANT, DTYPES, FILLABLE, HOSTED, READABLE, TEMPORARIES, WRITABLE
from forerun.testing.kernel_strategy import WIDTH, KernelShape, pick, written_parameters
from forerun.testing.subject import Subject, applied, pipeline_of
from forerun.testing.valid_graphs import DRAWN_KINDS, DrawnNode, Manner, assembled

__all__ = ["Order", "graphs"]

Order: TypeAlias = Literal["stream", "dag"]

_ATTEMPTS = 3
"""How many graphs are drawn in search of one that the pass aimed at changes."""


def graphs(
    *,
    order: Order | None = None,
    kinds: Collection[DependencyKind] = tuple(DependencyKind),
    waits: bool = True,
    nodes: Collection[str] = DRAWN_KINDS,
    max_nodes: int = 5,
    kernel_shape: KernelShape | None = None,
    dtypes: Collection[DType] = DTYPES,
    after: Subject | None = None,
    must_match: Callable[[Graph], bool] | None = None,
    aimed_at: Subject | None = None,
) -> st.SearchStrategy[Graph]:
    """Graphs that passes may get: valid, free of races, drained, and runnable on the reference target.

    Nodes share bytes in every way: state that overlaps, temporaries, an output, a weight, an input, and an element
    that an input or a fill chooses. They are small by default, and shrink to fewer and simpler nodes. Kernels are
    generated (see :func:`kernels`), and what they and host calls compute is built in, so that the text of a graph
    replays alone. What occurs is an event, shown by ``pytest --hypothesis-show-statistics``.

    Args:
        order: ``stream``: every node depends on the one before, as captured from one stream; ``dag``: on those that
            the data demands, and a few more. By default either.
        kinds: Kinds of dependencies that may occur, where no race comes of it. ``full`` ones always may.
        waits: Whether kernels may hold waits and triggers (without them there are no programmatic dependencies that
            would order anything).
        nodes: What may occur: ``kernel``, ``copy``, ``fill``, ``empty``, ``event`` (one that is recorded), ``host`` (a
            call on host memory), ``child`` (a graph of up to three nodes), ``conditional`` (``if``, ``switch``, or a
            ``while`` that runs at most once), ``memory`` (a temporary's memory is allocated or freed). Bodies hold what
            else may occur, but no nodes of memory, and conditionals no events and calls.
        max_nodes: The most nodes, those of bodies apart.
        kernel_shape: What generated kernels may contain.
        dtypes: Element types; a graph has one of them: i32, f32 or i8. What is computed are whole numbers.
        after: Passes that are applied first, such as ``"infer-dependencies,insert-pdl"``: what comes before yours.
        must_match: Only graphs for which this holds. If that is rare, Hypothesis complains: prefer ``aimed_at``.
        aimed_at: Prefer graphs that these passes change. What they make of each graph is an event, shown by
            ``pytest --hypothesis-show-statistics``.

    Example:
        >>> from hypothesis import given, settings
        >>> from forerun.ir.semantics import check
        >>> @settings(max_examples=5, deadline=None, database=None)
        ... @given(graphs(aimed_at="insert-pdl", max_nodes=3))
        ... def test(graph):
        ...     assert len(graph) <= 3 and check(graph).proved
        >>> test()
    """
    unknown = set(nodes) - set(DRAWN_KINDS)
    if unknown or not nodes:
        raise ValueError(f"nodes: choose from {', '.join(DRAWN_KINDS)}, not {', '.join(sorted(unknown)) or 'nothing'}")
    shape = kernel_shape or KernelShape(waits=waits)
    node = _nodes(tuple(nodes), shape, tuple(kinds), 0)
    # Lists alone are mostly of one element. What ``kept`` is for: see assembly.
    sizes = [1, min(2, max_nodes), min(3, max_nodes)]
    drawn_nodes = st.one_of([st.lists(node, min_size=least, max_size=max_nodes) for least in sizes])
    orders = st.sampled_from(["stream", "dag"] if order is None else [order])
    manners = st.builds(Manner, orders, st.just(frozenset(kinds)), st.sampled_from(list(dtypes)))
    made = st.builds(assembled, drawn_nodes, manners).map(_noted)
    if after is not None:
        before = pipeline_of(after)
        made = made.map(lambda graph: applied(before, graph))
    if must_match is not None:
        made = made.filter(must_match)
    return made if aimed_at is None else _aimed(made, pipeline_of(aimed_at))


@st.composite
def _aimed(draw: st.DrawFn, made: st.SearchStrategy[Graph], subject: Pipeline) -> Graph:
    for _ in range(_ATTEMPTS):
        graph = draw(made)
        changed = _is_changed(subject, graph)
        if changed:
            break
    event(f"changed by {subject}: {changed}")
    return graph


def _is_changed(subject: Pipeline, graph: Graph) -> bool:
    try:
        return applied(subject, graph) != graph
    except (Exception, SystemExit):  # whatever the pass raises is for the properties to tell
        return True


def _noted(graph: Graph) -> Graph:
    """The graph; what it holds that not all graphs hold is an event."""
    for what in sorted(_rare_contents(graph)):
        event(f"graphs with {what}")
    return graph


def _rare_contents(graph: Graph) -> set[str]:
    found = {str(b.dtype) for b in graph.buffers.values() if b.name in (*READABLE, *WRITABLE)}
    for node in graph:
        if isinstance(node, ChildGraphNode):
            found |= {"child graph", *_rare_contents(node.body)}
        elif isinstance(node, ConditionalNode):
            found |= {node.kind}.union(*map(_rare_contents, node.bodies))
        elif isinstance(node, HostCallbackNode):
            found.add("host call")
    return found


@cache
@st.composite
def _nodes(
    draw: st.DrawFn, allowed: tuple[str, ...], shape: KernelShape, kinds: tuple[DependencyKind, ...], depth: int
) -> DrawnNode:
    """One node, drawn without regard to the others, so that each can be deleted alone."""
    kind = draw(_node_kinds(allowed))
    arguments: dict[str, Any] = {}
    kernel, bodies = None, 0
    if kind == "kernel":
        kernel = draw(shape.kernels())
        written = written_parameters(kernel)
        for parameter in kernel.buffer_parameters:
            arguments[parameter.name] = draw(_WRITABLE if parameter.name in written else _READABLE)
        if kernel.scalar_parameters:
            arguments["s"] = draw(_SCALARS)
    elif kind == "copy":
        arguments = draw(_COPIES if "host" in allowed else _DEVICE_COPIES)
    elif kind == "fill":
        arguments = {"y": draw(_FILLABLE), "value": draw(_VALUES)}
    elif kind == "host":
        arguments = draw(_CALLS)
    elif kind == "memory":
        arguments = draw(_MEMORY)
    elif kind == "child":
        bodies = 1
    elif kind == "conditional":
        arguments, bodies = draw(_CONDITIONALS)
    inside = tuple(tuple(draw(_bodies(kind, allowed, shape, kinds, depth))) for _ in range(bodies))
    return DrawnNode(kind, kernel, arguments, inside, *draw(_incoming(kinds)), kept=draw(_KEPT))


_KEPT = pick([False, *[True] * 9])
_READABLE, _WRITABLE = st.sampled_from(READABLE), st.sampled_from(WRITABLE)
_FILLABLE = st.sampled_from(FILLABLE)
_VALUES = st.integers(0, 2)
_SCALARS = st.sampled_from([*range(WIDTH), *CHOICES])
_DEVICE_COPIES = st.fixed_dictionaries({"a": _READABLE, "y": _WRITABLE})
_COPIES = st.fixed_dictionaries(
    {"a": st.sampled_from((*READABLE, CONSTANT, *HOSTED * 2)), "y": st.sampled_from((*WRITABLE, *HOSTED * 2))}
)
_CALLS = st.fixed_dictionaries(
    {
        "a": st.sampled_from([("h0",), ("h1",), HOSTED]),
        "y": st.sampled_from(HOSTED),
        "width": st.sampled_from([WIDTH, WIDTH // 2]),
        "pure": st.sampled_from([True, False]),
    }
)
_MEMORY = st.fixed_dictionaries({"a": st.sampled_from(TEMPORARIES)})
_CONDITIONALS = pick(
    [
        ({"kind": kind, "condition": condition}, bodies)
        for kind, bodies in (("if", 1), ("if", 2), ("switch", 2), ("while", 1))
        for condition in CHOICES
    ]
)


@cache
def _node_kinds(allowed: tuple[str, ...]) -> st.SearchStrategy[str]:
    kernels = ["kernel"] * 6 if "kernel" in allowed else []
    return st.sampled_from([*kernels, *(kind for kind in DRAWN_KINDS[1:] if kind in allowed)])


@cache
def _bodies(
    owner: str, allowed: tuple[str, ...], shape: KernelShape, kinds: tuple[DependencyKind, ...], depth: int
) -> st.SearchStrategy[list[DrawnNode]]:
    """The nodes of a body: at most three, and bodies in it hold no further bodies."""
    without = {"host", "event"} if owner == "conditional" else set()
    without |= {"memory", *(("child", "conditional") if depth else ())}
    inside = tuple(kind for kind in allowed if kind not in without) or ("empty",)
    return st.lists(_nodes(inside, shape, kinds, depth + 1), min_size=1, max_size=3)


@cache
def _incoming(kinds: tuple[DependencyKind, ...]) -> st.SearchStrategy[tuple[int, tuple[int, DependencyKind] | None]]:
    """Which incoming dependencies are weakened, and whether there is one more."""
    weakened = [0, 1, 3, 7] if DependencyKind.PROGRAMMATIC in kinds else [0]
    distant: list[tuple[int, DependencyKind] | None] = [(i, kind) for i in (1, 2, 3) for kind in kinds]
    extra = [*[None] * (len(distant) or 1), *distant]
    return pick([(bits, more) for more in extra for bits in weakened])
