"""Random graphs that are valid, free of races, and run: what properties of passes are tried on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any, Literal, TypeAlias

from hypothesis import event
from hypothesis import strategies as st

from forerun.ir.graph import Graph
from forerun.ir.types import DependencyKind
from forerun.passes.pipeline import Pipeline
from forerun.testing.assembly import DRAWN_KINDS, READABLE, WRITABLE, DrawnNode, assembled
from forerun.testing.kernel_strategy import WIDTH, KernelShape, pick, written_parameters
from forerun.testing.subject import Subject, applied, pipeline_of

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
    after: Subject | None = None,
    must_match: Callable[[Graph], bool] | None = None,
    aimed_at: Subject | None = None,
) -> st.SearchStrategy[Graph]:
    """Graphs that passes may get: valid, free of races, drained, and runnable on the reference target.

    Nodes share bytes in every way: state that overlaps, temporaries, an output, a weight, an input, and an element
    that another input chooses. They are small by default, and shrink to fewer and simpler nodes. Kernels are generated
    (see :func:`kernels`), and what they compute is built in, so that the text of a graph replays alone.

    Args:
        order: ``stream``: every node depends on the one before, as captured from one stream; ``dag``: on those that
            the data demands, and a few more. By default either.
        kinds: Kinds of dependencies that may occur, where no race comes of it. ``full`` ones always may.
        waits: Whether kernels may hold waits and triggers (without them there are no programmatic dependencies that
            would order anything).
        nodes: What may occur: ``kernel``, ``copy``, ``fill``, ``empty``, ``event`` (one that is recorded).
        max_nodes: The most nodes.
        kernel_shape: What generated kernels may contain.
        after: Passes that are applied first, such as ``"infer-dependencies,insert-pdl"``: what comes before yours.
        must_match: Only graphs for which this holds. If that is rare, Hypothesis complains: prefer ``aimed_at``.
        aimed_at: Prefer graphs that these passes change. What they make of each graph is an event, shown by
            ``pytest --hypothesis-show-statistics``.

    Example:
        >>> from hypothesis import find
        >>> graph = find(graphs(aimed_at="insert-pdl"), lambda graph: len(graph) > 1)
        >>> len(graph)
        2
    """
    unknown = set(nodes) - set(DRAWN_KINDS)
    if unknown or not nodes:
        raise ValueError(f"nodes: choose from {', '.join(DRAWN_KINDS)}, not {', '.join(sorted(unknown)) or 'nothing'}")
    shape = kernel_shape or KernelShape(waits=waits)
    node = _nodes(tuple(nodes), shape, tuple(kinds))
    # Lists alone are mostly of one element. What ``kept`` is for: see assembly.
    sizes = [1, min(2, max_nodes), min(3, max_nodes)]
    drawn_nodes = st.one_of([st.lists(node, min_size=least, max_size=max_nodes) for least in sizes])
    orders = st.sampled_from(["stream", "dag"] if order is None else [order])
    made = st.builds(assembled, drawn_nodes, orders, st.just(frozenset(kinds)))
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
    except Exception:  # whatever the pass raises is for the properties to tell
        return True


@st.composite
def _nodes(
    draw: st.DrawFn, allowed: tuple[str, ...], shape: KernelShape, kinds: tuple[DependencyKind, ...]
) -> DrawnNode:
    """One node, drawn without regard to the others, so that each can be deleted alone."""
    kind = draw(_node_kinds(allowed))
    arguments: dict[str, Any] = {}
    kernel = None
    if kind == "kernel":
        kernel = draw(shape.kernels())
        written = written_parameters(kernel)
        for parameter in kernel.buffer_parameters:
            arguments[parameter.name] = draw(_WRITABLE if parameter.name in written else _READABLE)
        if kernel.scalar_parameters:
            arguments["s"] = draw(_SCALARS)
    elif kind == "copy":
        arguments = {"a": draw(_READABLE), "y": draw(_WRITABLE)}
    elif kind == "fill":
        arguments = {"y": draw(_WRITABLE), "value": draw(_VALUES)}
    return DrawnNode(kind, kernel, arguments, *draw(_incoming(kinds)), kept=draw(_KEPT))


_KEPT = pick([False, *[True] * 9])
_READABLE, _WRITABLE = st.sampled_from(READABLE), st.sampled_from(WRITABLE)
_VALUES = st.integers(0, 2)
_SCALARS = st.sampled_from([(i, False) for i in range(WIDTH)] + [(0, True)] * 2)


@cache
def _node_kinds(allowed: tuple[str, ...]) -> st.SearchStrategy[str]:
    kernels = ["kernel"] * 4 if "kernel" in allowed else []
    return st.sampled_from([*kernels, *(kind for kind in DRAWN_KINDS[1:] if kind in allowed)])


@cache
def _incoming(kinds: tuple[DependencyKind, ...]) -> st.SearchStrategy[tuple[int, tuple[int, DependencyKind] | None]]:
    """Which incoming dependencies are weakened, and whether there is one more."""
    weakened = [0, 1, 3, 7] if DependencyKind.PROGRAMMATIC in kinds else [0]
    distant: list[tuple[int, DependencyKind] | None] = [(i, kind) for i in (1, 2, 3) for kind in kinds]
    extra = [*[None] * (len(distant) or 1), *distant]
    return pick([(bits, more) for more in extra for bits in weakened])
