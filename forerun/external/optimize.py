"""``forerun.optimize``: another program's captured graph, certified and faster, with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.external.decisions import Decider, Rewritten
    from forerun.external.optimized import OptimizedCall, OptimizedGraph
    from forerun.passes.infra.pipeline import PipelineLike
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
    from forerun.external.decisions import Decider
    from forerun.external.optimized import OptimizedCall, OptimizedGraph
    from forerun.runtime.cuda.capture.session import read_graph

    decider = Decider(pipeline, dump, limit_s, fold_params)
    if is_graph(source):
        if args:
            hint = "name what else is meant: optimize(graph, pipeline=...)"
            raise InvalidInput(f"a graph takes no arguments, and {len(args)} are given", hint=hint)
        return OptimizedGraph(_rewrite(read_graph(source), decider), decider)
    from forerun.external.torch_capture import capture_callable
    from forerun.runtime.cuda.capture.session import latest_session

    session = latest_session()
    found = capture_callable(source, args, {})
    return OptimizedCall(OptimizedGraph(_rewrite(session.graph(found.graph), decider), decider), found)


def is_graph(source: Any) -> bool:
    """Whether it is to be read as a graph: whatever cannot be called, or is torch's graph."""
    return not callable(source) or hasattr(source, "raw_cuda_graph")


def _rewrite(captured: LiveCapture, decider: Decider) -> Rewritten:
    """The captured graph after the passes, with its new code, ready to run."""
    from forerun.external.decisions import Rewritten

    decision = decider.decide(captured)
    return Rewritten(decision, decision.clone(captured))
