"""``forerun.make_persistent``: replace the attention of a captured graph by one persistent kernel per layer.

Machine code does not reveal that a kernel computes attention. The caller names the kernels and the arrays that they
use; forerun finds the launches, checks that one node may replace them, and compares the results of both on the GPU.
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
"""The greatest allowed difference of results, relative to their greatest magnitude; as in ``fuse-persistent``."""


@dataclass
class PersistentGraph:
    """A captured graph whose attention is computed by persistent kernels. Made by :func:`make_persistent`.

    Attributes:
        live: The program's graph.
        groups: The launches that were replaced.
        graph: The graph that runs: a persistent node in place of each group.
        errors: The result of the comparison, one for each group.
    """

    live: LiveCapture
    imported: ImportedGraph = field(repr=False)
    groups: tuple[Group, ...]
    graph: Graph = field(repr=False)
    program: AttentionProgram = field(repr=False)
    clone: Clone = field(repr=False)
    errors: tuple[LayerError, ...] = ()

    def replay(self, stream: Any = None) -> None:
        """Launch the graph on a stream; as :meth:`OptimizedGraph.replay`."""
        self.clone.replay(stream)

    def finding(self) -> Finding:
        """The status of the batch in the last replay, which must be complete.

        For an invalid batch, no attention was computed.
        """
        return self.program.finding()

    def compare(self) -> tuple[LayerError, ...]:
        """Compare each layer's launches with its persistent kernel, on the present contents of memory.

        Memory is restored afterwards. Nothing else may use it meanwhile.

        Raises:
            InvalidInput: If this graph was closed, or the program's graph was reset.
            CudaError: If the driver fails.
        """
        from forerun.external.attention_program import compared

        return compared(self.live, self.imported, self.groups, self.program)

    def close(self) -> None:
        """Release the graph and its memory. Closing twice is allowed."""
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
    """Replace the attention launches of a captured graph by one persistent kernel per layer.

    One node that executes a schedule replaces all launches of a layer: decodes, prefills, and merges of partial
    results. Each replay builds the schedule from the program's own arrays, once for all layers unless a node between
    them may write these arrays. So one graph serves every batch that fits the arrays, each balanced.

    Assumed: the launches compute causal attention of these arrays, and nothing else reads their other outputs.
    Checked: the arrays fit together; the new nodes keep every order of the launches that they replace; the graph has
    no race; and the results of each layer agree with those of the launches, within ``tolerance``.

    Args:
        source: A graph, as for :func:`forerun.optimize`.
        kernels: Parts of the names of the kernels that compute attention, and of those that merge partial results.
        layers: The arrays of each layer. Layers may share queries and results.
        batch: The arrays of the requests, or those of two groups; the rows of the second follow those of the first.
        policy: The schedule's policy, as for ``fuse-persistent``.
        cuts: The rule for cutting tasks, as for ``fuse-persistent``.
        tolerance: The greatest allowed difference of results, relative to their greatest magnitude.
        constant_batch: Assume that no node of the graph writes the arrays of the batch, so that one schedule serves
            all layers even if the writes of some nodes are unknown.

    Raises:
        InvalidInput: If an array does not fit, launches are not found, or results differ by more than ``tolerance``.
        Refuted: If the graph has a race.
        Unsupported: If launches cannot be replaced, or the graph has nodes that cannot be cloned.
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
        message = f"expected one or two groups of requests and at least one layer, got {len(parts)} and {len(layers)}"
        raise InvalidInput(message, hint="pass one or two RequestArrays, and an AttentionLayer for each layer")
    live = read_graph(source)
    arrays = bound_arrays(layers, parts)
    groups = attention_groups(live.graph, kernels, arrays.spans())
    imported = import_capture(live.graph)
    after = with_groups(imported, groups, arrays.spans(), arrays.batch())
    for what, graph in (("captured graph", imported.graph), ("graph with persistent kernels", after)):
        verdict = check(graph)
        if verdict.status == "refuted":
            raise Refuted(f"the {what} is refuted", verdict.findings)
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
            hint = "fill the arrays with a batch before this call, so that results can be compared"
            raise InvalidInput(f"layer {one.layer}: the batch that the arrays hold has no rows", hint=hint)
        if not one.error <= tolerance:
            found = f"results of {one.rows} rows differ by {one.error:.2g} of the greatest magnitude"
            hint = "check that the named kernels compute causal attention of these arrays"
            raise InvalidInput(f"layer {one.layer}: {found}, and at most {tolerance:.2g} is allowed", hint=hint)
