"""``forerun.make_persistent``: attention of a captured graph, done by one persistent kernel a layer over a schedule.

That captured kernels compute attention cannot be read off their machine code. Their author says so, by naming them and
the arrays that they use; forerun finds the launches, checks that one node may take their place, and compares on the GPU
what both leave in each layer's results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from forerun.external.attention_arrays import AttentionLayer, LayerError, RequestArrays
from forerun.support.diagnostics import InvalidInput, Refuted

if TYPE_CHECKING:
    from forerun.external.attention_groups import Group
    from forerun.external.attention_program import AttentionProgram
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.graph import Graph
    from forerun.runtime.cuda.capture.clone import Clone
    from forerun.runtime.cuda.capture.session import LiveCapture
    from forerun.schedules.status import Finding

__all__ = ["PersistentGraph", "make_persistent"]

TOLERANCE = 0.02
"""By how much results may differ, of the greatest magnitude: what ``fuse-persistent`` allows."""


@dataclass
class PersistentGraph:
    """A captured graph in which persistent kernels attend. Made by :func:`make_persistent`.

    Attributes:
        live: The program's graph.
        groups: The launches that are gone.
        graph: What runs: persistent nodes in the place of the groups.
        errors: What the comparison found.
    """

    live: LiveCapture
    imported: ImportedGraph = field(repr=False)
    groups: tuple[Group, ...]
    graph: Graph = field(repr=False)
    program: AttentionProgram = field(repr=False)
    clone: Clone = field(repr=False)
    errors: tuple[LayerError, ...] = ()

    def replay(self, stream: Any = None) -> None:
        """Launch it; as :meth:`OptimizedGraph.replay`."""
        self.clone.replay(stream)

    def finding(self) -> Finding:
        """What the schedule of the last replay says of its batch; wait for the replay first.

        Of a bad batch nothing was run.
        """
        return self.program.finding()

    def compare(self) -> tuple[LayerError, ...]:
        """Compare what each layer's launches, and its persistent kernel, make of what memory holds now.

        Memory is put back as it was. Nothing else may use it meanwhile.

        Raises:
            InvalidInput: If it was closed, or the program's graph was reset.
            CudaError: If the driver fails.
        """
        from forerun.external.attention_program import compared

        return compared(self.live, self.imported, self.groups, self.program)

    def close(self) -> None:
        """Give back what it holds. Closing twice is fine."""
        self.clone.close()
        self.program.close()

    def __enter__(self) -> PersistentGraph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_persistent(
    source: Any,
    kernels: Sequence[str],
    layers: Sequence[AttentionLayer],
    batch: RequestArrays | Sequence[RequestArrays],
    *,
    policy: Literal["prefix-sums", "longest-first", "round-robin"] = "prefix-sums",
    cuts: Literal["shares", "whole", "invariant"] = "shares",
    tolerance: float = TOLERANCE,
    constant_batch: bool = False,
) -> PersistentGraph:
    """Let one persistent kernel a layer do what a captured graph's launches of attention do.

    The launches of a layer, such as those for decodes, for prefills, and merges of partial results, are replaced by a
    node that works off a schedule. The schedule is made from the program's own arrays in each replay, once for all
    layers if nothing in the graph may write these arrays in between, so the graph serves each batch that fits them,
    balanced for it. That the launches compute causal attention of these arrays, and that what else they write is
    nobody's but theirs, is your word. Checked is that the arrays fit, that the graph has no race with the new nodes,
    which keep every order of the old ones, and that both leave the same in each layer's results, within a tolerance.

    Args:
        source: A graph, as for :func:`forerun.optimize`.
        kernels: Parts of the names of the kernels that attend, and of those that merge their partial results.
        layers: The arrays of each layer. Queries and results of several layers may be the same ones.
        batch: The arrays of the requests; or of two groups, of which the rows of the second follow those of the first.
        policy: As for ``fuse-persistent``.
        cuts: As for ``fuse-persistent``, too.
        tolerance: How far results may differ, of their greatest magnitude.
        constant_batch: You say that nothing in the graph writes the arrays of the batch, so that one schedule serves
            all layers where it is not known what some nodes in between write.

    Raises:
        InvalidInput: If an array does not fit, launches are not found, or results differ by more than that.
        Refuted: If the graph has a race.
        Unsupported: If launches cannot be replaced, or the graph has nodes that no clone may have.
        CudaError: If the driver fails.

    Example::

        with forerun.make_persistent(
            graph,
            ["BatchDecodeWithPagedKVCacheKernel", "MergeStates"],
            [forerun.AttentionLayer(q, k, v, out) for q, k, v, out in layers],
            forerun.RequestArrays(indptr, indices, last_page_len, last_pages=True),
        ) as persistent:
            persistent.replay()
    """
    from forerun.external.attention_groups import attention_groups, with_groups
    from forerun.external.attention_layers import bound_arrays
    from forerun.external.attention_program import AttentionProgram, clone_of, may_change_batch
    from forerun.frontends.captured import import_capture
    from forerun.ir.semantics import check
    from forerun.runtime.cuda.capture.session import read_graph

    parts = (batch,) if isinstance(batch, RequestArrays) else tuple(batch)
    if not 1 <= len(parts) <= 2 or not layers:
        raise InvalidInput(
            f"{len(parts)} groups of requests and {len(layers)} layers", hint="one or two, and at least one"
        )
    live = read_graph(source)
    arrays = bound_arrays(layers, parts)
    groups = attention_groups(live.graph, kernels, arrays.spans())
    imported = import_capture(live.graph)
    after = with_groups(imported, groups, arrays.spans(), arrays.batch())
    for graph in (imported.graph, after):
        verdict = check(graph)
        if verdict.status == "refuted":
            raise Refuted("the captured graph is refuted", verdict.findings)
    apart = not constant_batch and may_change_batch(imported, groups, arrays.batch())
    program = AttentionProgram.of(live, arrays, policy, cuts, apart=apart)
    try:
        made = PersistentGraph(live, imported, groups, after, program, clone_of(live, imported, groups, program))
    except BaseException:
        program.close()
        raise
    try:
        made.errors = made.compare()
        _require_small(made.errors, tolerance)
    except BaseException:
        made.close()
        raise
    return made


def _require_small(errors: Sequence[LayerError], tolerance: float) -> None:
    for one in errors:
        if not one.rows:
            hint = "capture with a batch in the arrays, so that there is something to compare"
            raise InvalidInput(f"layer {one.layer}: the batch that the arrays hold has no rows", hint=hint)
        if not one.error <= tolerance:
            message = f"layer {one.layer}: results of {one.rows} rows differ by {one.error:.2g} of the greatest one"
            raise InvalidInput(message, hint="do these kernels compute causal attention of these arrays?")
