"""``forerun.optimize``: another program's captured graph, certified and faster, with the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from forerun.support.diagnostics import InvalidInput, Refuted

if TYPE_CHECKING:
    from forerun.external.optimized import OptimizedCall, OptimizedGraph, Rewritten
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.graph import Graph
    from forerun.passes.infra.pipeline import PipelineLike
    from forerun.passes.infra.summary import Summary
    from forerun.runtime.cuda.capture.code_maker import CodeMaker
    from forerun.runtime.cuda.capture.random_numbers import GeneratorAdvance
    from forerun.runtime.cuda.capture.session import LiveCapture

__all__ = ["CAPTURED_PIPELINE", "is_graph", "optimize"]

CAPTURED_PIPELINE = "infer-dependencies,reduce-edges,insert-pdl,hoist-loads{full_edges=false}"
"""The passes for captured graphs. Streams put nodes in a chain that touch different bytes: those may overlap.

No full dependencies are added for loads: on an H200 they cost a chain of captured kernels 20 %.
"""


@overload
def optimize(
    source: Callable[..., Any], *args: Any, pipeline: PipelineLike | None = ..., dump: str | Path | None = ...,
    limit_s: float = ..., fold_params: bool = ...,
) -> OptimizedCall: ...  # fmt: skip


@overload
def optimize(
    source: Any,
    *,
    pipeline: PipelineLike | None = ...,
    dump: str | Path | None = ...,
    limit_s: float = ...,
    fold_params: bool = ...,
) -> OptimizedGraph: ...


def optimize(
    source: Any,
    *args: Any,
    pipeline: PipelineLike | None = None,
    dump: str | Path | None = None,
    limit_s: float = 120.0,
    fold_params: bool = False,
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
            that the result is never slower than the program's own graph: both orders, and each function's wait, early
            loads and trigger are tried in turn on the GPU, in the program's memory, which is put back as it was. What
            is found is remembered.
        dump: A folder for the graph after each pass, the differences, the summary and a report.
        limit_s: For how many seconds, about, function by function is measured.
        fold_params: Leave out small copies from the host, such as those of launch parameters, and write what they bring
            once, before the first replay. You say that their sources stay as they are, and that nothing but this graph
            uses their destinations between replays; that nothing in the graph writes these is checked.
            :meth:`OptimizedGraph.changed_sources` tells of sources that changed, and ``refresh()`` takes them over.

    Returns:
        What has ``replay()``; of a callable also ``outputs``, which each replay stores into.

    Raises:
        InvalidInput: If it is not a graph or callable, or a callable wants gradients.
        Refuted: If the captured graph has a race.
        PassFailure: If a pass fails.
        Unsupported: If it has nodes that no clone may have, its kernels were not seen, or a clone could not draw the
            random numbers that torch's own replay draws.
        CudaError: If the driver fails.
    """
    from forerun.external.optimized import OptimizedCall, OptimizedGraph
    from forerun.runtime.cuda.capture.session import read_graph

    def again(captured: LiveCapture) -> Rewritten:
        return _rewrite(captured, pipeline, dump, limit_s, fold_params)

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


def _rewrite(
    captured: LiveCapture, pipeline: PipelineLike | None, dump: str | Path | None, limit_s: float, fold_params: bool
) -> Rewritten:
    """The captured graph after the passes, with its new code, ready to run."""
    from forerun.external.folded_copies import FoldedCopies, folded_copies
    from forerun.external.measured import STRONGEST, measured
    from forerun.external.optimized import Rewritten
    from forerun.runtime.cuda.capture.clone import make_clone

    fixed: dict[int, str] = {}
    while True:
        found = _rewritten(captured, STRONGEST if pipeline is None else pipeline, dump, fixed)
        code = found.maker.code(found.graph)
        if not code.unfit:
            break
        # Kernels whose new code is not fit keep theirs; what that means for edges is proved once more. It ends, since
        # each round adds functions.
        fixed.update(code.unfit)
    generators = _generators(captured, found.imported)
    made, search = found.graph, None
    if pipeline is None:
        open_ = {number for number, one in enumerate(captured.graph.functions) if one.text and number not in fixed}
        made, search = measured(captured, found.imported, found.maker, open_, limit_s)
        code = found.maker.code(made)
    folded = folded_copies(found.imported, captured.host_sources) if fold_params else FoldedCopies()
    clone = make_clone(captured, found.imported.graph, made, found.imported.names, code.made, folded.contents)
    clone.generators = generators
    unfit = {captured.graph.functions[number].name: reason for number, reason in fixed.items()}
    return Rewritten(found.imported, made, found.summary, code.made, unfit, search, clone, folded)


def _generators(captured: LiveCapture, imported: ImportedGraph) -> tuple[GeneratorAdvance, ...]:
    """What a replay does with torch's generators."""
    from forerun.external.written import written_memory
    from forerun.runtime.cuda.capture.clone import make_clone
    from forerun.runtime.cuda.capture.random_numbers import may_draw, random_numbers
    from forerun.runtime.cuda.capture.saved_memory import SavedMemory

    if not may_draw(captured):
        return ()
    plain = make_clone(captured, imported.graph, imported.graph, imported.names, {})
    try:
        with SavedMemory(captured.driver, written_memory(imported)) as memory:
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
    captured: LiveCapture, pipeline: PipelineLike, dump: str | Path | None, fixed: Mapping[int, str]
) -> _Round:
    from forerun.external.choices import with_bodies_of
    from forerun.external.measured import certified
    from forerun.frontends.captured import import_capture
    from forerun.ir.semantics import check
    from forerun.passes.infra.manager import PassManager
    from forerun.passes.instrument import default_instruments
    from forerun.report import reporting
    from forerun.runtime.cuda.capture.code_maker import CodeMaker

    imported = import_capture(captured.graph, fixed=fixed)
    # A pass that finds an order of its own would repair a race, and the result would not be the program's.
    verdict = check(imported.graph)
    if verdict.status == "refuted":
        raise Refuted("the captured graph is refuted", verdict.findings)
    with reporting(dump):
        result = PassManager(pipeline, default_instruments(dump)).run(imported.graph)
    maker = CodeMaker(captured, imported.graph, imported.names)
    graph = with_bodies_of(imported.graph, result.graph)
    if graph is not result.graph:
        certified(imported.graph, graph)
    return _Round(imported, graph, result.summary, maker)
