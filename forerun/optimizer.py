"""``forerun.optimize``: another program's captured graph, certified and faster, with the same bits."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.frontends.captured import ImportedGraph, import_capture
from forerun.ir.graph import Graph
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.pipeline import PipelineLike
from forerun.passes.infra.summary import Summary
from forerun.passes.instrument import default_instruments
from forerun.report import reporting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from forerun.runtime.cuda.capture.assembled import MadeCode
    from forerun.runtime.cuda.capture.clone import Clone
    from forerun.runtime.cuda.capture.session import LiveCapture
    from forerun.runtime.cuda.codegen.foreign import Early

__all__ = ["CAPTURED_PIPELINE", "OptimizedGraph", "optimize"]

CAPTURED_PIPELINE = "insert-pdl,hoist-loads{full_edges=false}"
"""Of captured graphs: their order is their author's, so dependencies stay, and get other kinds.

No full dependencies are added: on an H200 they cost a chain of captured kernels 20 %.
"""

_ROUNDS = 4


class OptimizedGraph:
    """A graph that takes the place of the program's own: the same buffers, the same results. Made by :func:`optimize`.

    Attributes:
        imported: The captured graph, and its meaning.
        graph: What runs: the graph after the passes.
        summary: What the passes did.
        made: The new code, by the kernel's name in :attr:`graph`.
        unfit: Why kernels kept their code, by their names in the image.
    """

    def __init__(
        self,
        imported: ImportedGraph,
        graph: Graph,
        summary: Summary,
        made: Mapping[str, MadeCode],
        unfit: Mapping[str, str],
        clone: Clone,
    ) -> None:
        self.imported = imported
        self.graph = graph
        self.summary = summary
        self.made = made
        self.unfit = unfit
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


def optimize(
    captured: LiveCapture,
    pipeline: PipelineLike = CAPTURED_PIPELINE,
    dump: str | Path | None = None,
    *,
    early: Early = "move",
) -> OptimizedGraph:
    """Make a captured graph faster without changing a bit of what it computes.

    Kernels whose PTX is known get waits and triggers, and fetch ahead of their wait what no other node writes; edges
    become programmatic where the check proves that the order of all conflicting accesses stays.

    Args:
        captured: What :meth:`CaptureSession.graph` returned.
        pipeline: The passes, as :func:`forerun.compile` takes them.
        dump: A folder for the graph after each pass, the differences, the summary and a report.
        early: What becomes of loads that may stand before the wait: they ``move`` there, what they load is
            ``fetch``-ed into L2 there, or ``none``.

    Raises:
        Refuted: If the captured graph has a race.
        Unsupported: If it has nodes that no clone may have.
        CudaError: If the driver fails.
    """
    from forerun.runtime.cuda.capture.clone import code_of_nodes, make_clone

    fixed: dict[int, str] = {}
    for _ in range(_ROUNDS):
        found = _rewritten(captured, pipeline, dump, fixed)
        code = code_of_nodes(captured, found.imported.graph, found.graph, found.imported.names, early)
        if not code.unfit:
            break
        # Kernels whose new code is not fit keep theirs; what that means for edges is proved once more.
        fixed.update(code.unfit)
    clone = make_clone(captured, found.imported.graph, found.graph, found.imported.names, code.made)
    unfit = {captured.graph.functions[number].name: reason for number, reason in fixed.items()}
    return OptimizedGraph(found.imported, found.graph, found.summary, code.made, unfit, clone)


def _rewritten(
    captured: LiveCapture, pipeline: PipelineLike, dump: str | Path | None, fixed: Mapping[int, str]
) -> _Round:
    imported = import_capture(captured.graph, fixed=fixed)
    with reporting(dump):
        result = PassManager(pipeline, default_instruments(dump)).run(imported.graph)
    return _Round(imported, result.graph, result.summary)
