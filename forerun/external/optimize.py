"""``forerun.optimize``: another program's captured graph, certified and faster, with the same bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forerun.captured import MemoryRange
    from forerun.external.choices import Choices
    from forerun.external.search import Search
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.graph import Graph
    from forerun.passes.infra.pipeline import PipelineLike
    from forerun.passes.infra.summary import Summary
    from forerun.runtime.cuda.capture.assembled import MadeCode
    from forerun.runtime.cuda.capture.clone import Clone, CodeMaker, CodeOfNodes
    from forerun.runtime.cuda.capture.session import LiveCapture
    from forerun.runtime.cuda.codegen.foreign import Early

__all__ = ["CAPTURED_PIPELINE", "OptimizedGraph", "optimize"]

CAPTURED_PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"
"""The passes for captured graphs. Their order is their author's, so dependencies stay, and get other kinds.

No full dependencies are added: on an H200 they cost a chain of captured kernels 20 %.
"""

_STRONGEST = "insert-pdl{trigger=none},hoist-loads{full_edges=false}"


class OptimizedGraph:
    """A graph that takes the place of the program's own: the same buffers, the same results. Made by :func:`optimize`.

    Attributes:
        imported: The captured graph, and its meaning.
        graph: What runs: the graph after the passes.
        summary: What the passes did.
        made: The new code, by the kernel's name in :attr:`graph`.
        unfit: Why kernels kept their code, by their names in the image.
        search: What was measured; ``None`` if nothing was.
    """

    def __init__(
        self, round_: _Round, graph: Graph, code: CodeOfNodes, unfit: Mapping[str, str], search: Search | None,
        clone: Clone,
    ) -> None:  # fmt: skip
        self.imported = round_.imported
        self.graph = graph
        self.summary = round_.summary
        self.made: Mapping[str, MadeCode] = code.made
        self.unfit = unfit
        self.search = search
        self._clone = clone

    def replay(self, stream: Any = None) -> None:
        """Launch it; see :meth:`forerun.runtime.cuda.capture.clone.Clone.replay`."""
        self._clone.replay(stream)

    def close(self) -> None:
        """Give back what it holds. Closing twice is fine."""
        self._clone.close()

    def __enter__(self) -> OptimizedGraph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        before, after = (one.count_dependencies() for one in (self.imported.graph, self.graph))
        kinds = ", ".join(f"{after[kind]} {kind} (was {before[kind]})" for kind in after if before[kind] or after[kind])
        return f"{len(self.graph)} nodes, {len(self.made)} kernels with new code; dependencies: {kinds}"


@dataclass(frozen=True)
class _Round:
    imported: ImportedGraph
    graph: Graph
    summary: Summary
    maker: CodeMaker


def optimize(
    graph: Any,
    pipeline: PipelineLike | None = None,
    dump: str | Path | None = None,
    *,
    early: Early = "move",
) -> OptimizedGraph:
    """Make a captured graph faster without changing a bit of what it computes.

    Kernels whose PTX is known get waits and triggers, and load ahead of their wait what no other node writes; edges
    become programmatic where the check proves that the order of all conflicting accesses stays.

    Args:
        graph: A graph of torch, CuPy or cuda.core, or a handle, whose kernels were loaded within
            :func:`forerun.capture`; or what :meth:`CaptureSession.graph` returned.
        pipeline: Passes, such as :data:`CAPTURED_PIPELINE`, which decide alone. By default what pays is measured, so
            that the result is never slower than the program's own graph: each function's wait, early loads and trigger
            are tried in turn on the GPU, in the program's memory, which is put back as it was. That takes a minute or
            two the first time, and is remembered.
        dump: A folder for the graph after each pass, the differences, the summary and a report.
        early: What becomes of loads that may stand before the wait: they ``move`` there, what they load is
            ``fetch``-ed into L2 there, or ``none``.

    Raises:
        InvalidInput: If it is not a graph.
        PassFailure: If the captured graph has a race, or a pass fails.
        Unsupported: If it has nodes that no clone may have, or its kernels were not seen.
        CudaError: If the driver fails.
    """
    from forerun.runtime.cuda.capture.clone import make_clone
    from forerun.runtime.cuda.capture.session import read_graph

    captured = read_graph(graph)
    fixed: dict[int, str] = {}
    while True:
        found = _rewritten(captured, _STRONGEST if pipeline is None else pipeline, dump, fixed, early)
        code = found.maker.code(found.graph)
        if not code.unfit:
            break
        # Kernels whose new code is not fit keep theirs; what that means for edges is proved once more. It ends, since
        # each round adds functions.
        fixed.update(code.unfit)
    made, search = found.graph, None
    if pipeline is None:
        made, search = _measured(captured, found, fixed)
        code = found.maker.code(made)
    clone = make_clone(captured, found.imported.graph, made, found.imported.names, code.made)
    unfit = {captured.graph.functions[number].name: reason for number, reason in fixed.items()}
    return OptimizedGraph(found, made, code, unfit, search, clone)


def _rewritten(
    captured: LiveCapture, pipeline: PipelineLike, dump: str | Path | None, fixed: Mapping[int, str], early: Early
) -> _Round:
    from forerun.frontends.captured import import_capture
    from forerun.passes.infra.manager import PassManager
    from forerun.passes.instrument import default_instruments
    from forerun.report import reporting
    from forerun.runtime.cuda.capture.clone import CodeMaker

    imported = import_capture(captured.graph, fixed=fixed)
    with reporting(dump):
        result = PassManager(pipeline, default_instruments(dump)).run(imported.graph)
    maker = CodeMaker(captured, imported.graph, imported.names, early)
    return _Round(imported, _with_bodies_of(imported.graph, result.graph), result.summary, maker)


def _with_bodies_of(before: Graph, after: Graph) -> Graph:
    """What passes made, with child graphs as they were captured: their nodes cannot be found in a clone."""
    from forerun.ir.walk import bodies_in

    changed = [node for node in before if bodies_in(node) and after.nodes[node.name] != node]
    if not changed:
        return after
    edit = after.edit()
    for node in changed:
        edit.replace_node(node)
    return _certified(before, edit.commit())


def _measured(captured: LiveCapture, found: _Round, fixed: Collection[int]) -> tuple[Graph, Search]:
    """The graph of the best choices, certified."""
    from forerun.external.choices import TARGETS, TRIGGERS, Choice, chosen_graph, functions_of
    from forerun.external.known_choices import KnownChoices
    from forerun.external.search import search
    from forerun.ir.refinement.certificate import certify
    from forerun.runtime.cuda.capture.clone import make_clone
    from forerun.runtime.cuda.capture.timing import Timing

    before, names = found.imported.graph, found.imported.names
    functions = functions_of(captured.graph, names)
    open_ = {number for number, one in enumerate(captured.graph.functions) if one.text and number not in fixed}
    opened = Counter(number for number in functions.values() if number in open_)

    def graph_of(choices: Choices) -> Graph:
        return chosen_graph(before, found.graph, functions, choices)

    known = KnownChoices.of(captured.graph)
    remembered = known.read(opened)
    if remembered is not None:
        return _certified(before, graph_of(remembered.choices)), remembered
    every = (Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS)
    found.maker.prepare(graph_of(dict.fromkeys(opened, choice)) for choice in every)
    with Timing(captured.driver, _written(found.imported)) as timing:

        def seconds(choices: Choices) -> float:
            graph = graph_of(choices)
            code = found.maker.code(graph)
            if code.unfit or not certify(before, graph).proved:
                return float("inf")
            clone = make_clone(captured, before, graph, names, code.made)
            try:
                return timing.seconds(clone.executable)
            finally:
                clone.close()

        result = search(opened, seconds)
    known.write(result)
    return _certified(before, graph_of(result.choices)), result


def _certified(before: Graph, graph: Graph) -> Graph:
    from forerun.ir.refinement.certificate import certify
    from forerun.support.diagnostics import InternalError

    verdict = certify(before, graph)
    if not verdict.proved:
        raise InternalError(f"a choice among certified rewrites is not certified: {verdict.findings[:1]}")
    return graph


def _written(imported: ImportedGraph) -> Iterator[MemoryRange]:
    """The memory that the graph may write."""
    from forerun.ir.semantics import accesses

    buffers = imported.graph.buffers
    written = {access.buffer for found in accesses(imported.graph).values() for access in found if access.write}
    spans = [(buffers[name].offset, buffers[name].stop) for name in written]
    base = imported.captured.memory[0].address if imported.captured.memory else 0
    for memory in imported.captured.memory:
        begin, end = memory.address - base, memory.stop - base
        if memory.kind == "device" and any(start < end and begin < stop for start, stop in spans):
            yield memory
