"""``forerun.optimize``: another program's captured graph, certified and faster, with the same bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.captured import MemoryRange
    from forerun.external.choices import Choices
    from forerun.external.optimized import OptimizedCall, OptimizedGraph, Rewritten
    from forerun.external.search import Search
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.graph import Graph
    from forerun.passes.infra.pipeline import PipelineLike
    from forerun.passes.infra.summary import Summary
    from forerun.runtime.cuda.capture.clone import CodeMaker
    from forerun.runtime.cuda.capture.random_numbers import GeneratorAdvance
    from forerun.runtime.cuda.capture.session import LiveCapture
    from forerun.runtime.cuda.codegen.foreign import Early

__all__ = ["CAPTURED_PIPELINE", "is_graph", "optimize"]

CAPTURED_PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"
"""The passes for captured graphs. Their order is their author's, so dependencies stay, and get other kinds.

No full dependencies are added: on an H200 they cost a chain of captured kernels 20 %.
"""

_STRONGEST = "insert-pdl{trigger=none},hoist-loads{full_edges=false}"


@overload
def optimize(
    source: Callable[..., Any], *args: Any, pipeline: PipelineLike | None = ..., dump: str | Path | None = ...,
    early: Early = ...,
) -> OptimizedCall: ...  # fmt: skip


@overload
def optimize(
    source: Any, *, pipeline: PipelineLike | None = ..., dump: str | Path | None = ..., early: Early = ...
) -> OptimizedGraph: ...


def optimize(
    source: Any,
    *args: Any,
    pipeline: PipelineLike | None = None,
    dump: str | Path | None = None,
    early: Early = "move",
    limit_s: float = 120.0,
) -> OptimizedGraph:
    """Make a captured graph, or a callable, faster without changing a bit of what it computes.

    Kernels whose PTX is known get waits and triggers, and load ahead of their wait what no other node writes; edges
    become programmatic where the check proves that the order of all conflicting accesses stays.

    Args:
        source: A graph of torch, CuPy or cuda.core, or a handle, whose kernels were loaded within
            :func:`forerun.capture`; or what :meth:`CaptureSession.graph` returned; or a callable of torch's, which is
            captured here: it runs three times on a stream of its own, then it is captured.
        args: What the callable is called with. Its tensors are the graph's inputs: fill them before a replay. Bind
            arguments with names by ``functools.partial``.
        pipeline: Passes, such as :data:`CAPTURED_PIPELINE`, which decide alone. By default what pays is measured, so
            that the result is never slower than the program's own graph: each function's wait, early loads and trigger
            are tried in turn on the GPU, in the program's memory, which is put back as it was. What is found is
            remembered.
        dump: A folder for the graph after each pass, the differences, the summary and a report.
        early: What becomes of loads that may stand before the wait, where passes decide: they ``move`` there; the
            memory that they load from is ``fetch``-ed into L2 there besides; or ``none``.
        limit_s: For how many seconds, about, function by function is measured.

    Returns:
        What has ``replay()``; of a callable also ``outputs``, which each replay stores into.

    Raises:
        InvalidInput: If it is not a graph or callable, or a callable wants gradients.
        PassFailure: If the captured graph has a race, or a pass fails.
        Unsupported: If it has nodes that no clone may have, its kernels were not seen, or a clone could not draw the
            random numbers that torch's own replay draws.
        CudaError: If the driver fails.
    """
    from forerun.external.optimized import OptimizedCall, OptimizedGraph
    from forerun.runtime.cuda.capture.session import read_graph

    def again(captured: LiveCapture) -> Rewritten:
        return _rewrite(captured, pipeline, dump, early)

    if is_graph(source):
        if args:
            hint = "name what else is meant: optimize(graph, pipeline=...)"
            raise InvalidInput(f"a graph takes no arguments, and {len(args)} are given", hint=hint)
        return OptimizedGraph(again(read_graph(source)), again)
    from forerun.external.torch_capture import capture_callable
    from forerun.runtime.cuda.capture.session import latest_session

    session = latest_session()
    found = capture_callable(source, args, {})
    return OptimizedCall(OptimizedGraph(again(session.graph(found.graph)), again), found)


def is_graph(source: Any) -> bool:
    """Whether it is to be read as a graph: whatever cannot be called, or is torch's graph."""
    return not callable(source) or hasattr(source, "raw_cuda_graph")


def _rewrite(captured: LiveCapture, pipeline: PipelineLike | None, dump: str | Path | None, early: Early) -> Rewritten:
    """The captured graph after the passes, with its new code, ready to run."""
    from forerun.external.optimized import Rewritten
    from forerun.runtime.cuda.capture.clone import make_clone

    fixed: dict[int, str] = {}
    while True:
        found = _rewritten(captured, _STRONGEST if pipeline is None else pipeline, dump, fixed, early)
        code = found.maker.code(found.graph)
        if not code.unfit:
            break
        # Kernels whose new code is not fit keep theirs; what that means for edges is proved once more. It ends, since
        # each round adds functions.
        fixed.update(code.unfit)
    generators = _generators(captured, found.imported)
    made, search = found.graph, None
    if pipeline is None:
        from forerun.external.choices import early_of

        made, search = _measured(captured, found, fixed, limit_s)
        code = found.maker.code(made, early_of(search.choices))
    clone = make_clone(captured, found.imported.graph, made, found.imported.names, code.made)
    clone.generators = generators
    unfit = {captured.graph.functions[number].name: reason for number, reason in fixed.items()}
    return Rewritten(found.imported, made, found.summary, code.made, unfit, search, clone)


def _generators(captured: LiveCapture, imported: ImportedGraph) -> tuple[GeneratorAdvance, ...]:
    """What a replay does with torch's generators."""
    from forerun.runtime.cuda.capture.clone import make_clone
    from forerun.runtime.cuda.capture.random_numbers import may_draw, random_numbers
    from forerun.runtime.cuda.capture.saved_memory import SavedMemory

    if not may_draw(captured):
        return ()
    plain = make_clone(captured, imported.graph, imported.graph, imported.names, {})
    try:
        with SavedMemory(captured.driver, _written(imported)) as memory:
            return random_numbers(captured, memory, plain.executable)
    finally:
        plain.close()


@dataclass(frozen=True)
class _Round:
    imported: ImportedGraph
    graph: Graph
    summary: Summary
    maker: CodeMaker


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
    return _Round(imported, result.graph, result.summary, maker)


def _measured(captured: LiveCapture, found: _Round, fixed: Collection[int], limit_s: float) -> tuple[Graph, Search]:
    """The graph of the best choices, certified."""
    from forerun.external.choices import chosen_graph, early_of, functions_of
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
    options = _options(found.maker, opened, graph_of)
    with Timing(captured.driver, _written(found.imported)) as timing:

        def seconds(choices: Choices) -> float:
            graph = graph_of(choices)
            code = found.maker.code(graph, early_of(choices))
            if code.unfit or not certify(before, graph).proved:
                return float("inf")
            clone = make_clone(captured, before, graph, names, code.made)
            try:
                return timing.seconds(clone.executable)
            finally:
                clone.close()

        result = search(opened, options, seconds, limit_s=limit_s)
    known.write(result)
    return _certified(before, graph_of(result.choices)), result


def _options(
    maker: CodeMaker, functions: Collection[int], graph_of: Callable[[Choices], Graph]
) -> Mapping[int, list[Choice]]:
    """What each function can get: the choices for which there is fit code."""
    from forerun.external.choices import TARGETS, TRIGGERS, Choice, early_of

    every = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
    graphs = [(graph_of(choices), early_of(choices)) for choices in (dict.fromkeys(functions, one) for one in every)]
    maker.prepare(graphs)
    unfit = [maker.code(*one).unfit for one in graphs]
    return {
        number: [choice for choice, without in zip(every, unfit, strict=True) if number not in without]
        for number in functions
    }


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
