"""The nodes that replace captured attention launches, in the program's own memory; and the comparison of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from forerun.captured.graph import MemoryRange
from forerun.external.attention_arrays import LayerError
from forerun.external.attention_groups import Group, LayerMemory
from forerun.external.attention_layers import BoundArrays
from forerun.external.written import written_memory
from forerun.frontends.captured import ImportedGraph
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.kernels.persistent import join_requests
from forerun.kernels.persistent.ragged_attention import BATCH, RaggedAttention
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda import CudaTarget
from forerun.runtime.cuda.capture.clone import Clone, CloneForm, clone_with
from forerun.runtime.cuda.capture.saved_memory import SavedMemory
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.schedules.attention import Attention
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.schedule import capacity_for
from forerun.schedules.status import Finding, Status
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.runtime.cuda.program import CudaProgram

__all__ = ["AttentionProgram", "clone_of", "compared", "may_change_batch"]

_RULES: dict[str, CutRule] = {"shares": Shares(), "whole": Whole(), "invariant": Invariant()}
_PIPELINE = "exact"


@dataclass(frozen=True)
class AttentionProgram:
    """Schedules and persistent kernels over a program's arrays, to be added to clones of its graph.

    Attributes:
        arrays: The program's arrays.
        parts: The names of each layer's nodes, the persistent kernel last.
        apart: Whether each group makes a schedule of its own, even where a layer has several groups.
    """

    arrays: BoundArrays
    parts: tuple[tuple[str, ...], ...]
    apart: bool
    _program: CudaProgram

    @classmethod
    def of(cls, live: LiveCapture, arrays: BoundArrays, policy: str, cuts: str, *, apart: bool) -> AttentionProgram:
        """Build and load the nodes of all layers.

        Args:
            live: The captured graph, whose context is current.
            arrays: The program's arrays.
            policy: The schedule's policy.
            cuts: The rule for cutting tasks.
            apart: Whether each layer builds its own schedule, because the batch may change between layers.

        Raises:
            InvalidInput: If the arrays fit no persistent kernel, or no schedule that the device can build.
            CudaError: If the driver fails.
        """
        ctas = live.driver.attribute(live.driver.call("cuCtxGetDevice"), "MULTIPROCESSOR_COUNT")
        graph, parts = attention_graph(arrays, policy, cuts, ctas, apart=apart)
        result = PassManager(_PIPELINE).run(graph)
        return cls(arrays, parts, apart, CudaTarget().load(result.graph, {}, arrays.memory()))

    def finding(self, layer: int = -1) -> Finding:
        """The status of a layer's most recent schedule."""
        status, where = (int(word) for word in self._program.read(f"{self._prefix(layer)}status"))
        return Finding(Status(status), where)

    def rows(self, layer: int) -> int:
        """The number of result rows in a layer's most recent batch; 0 if the batch is invalid."""
        if self.finding(layer).status.is_error:
            return 0
        requests = int(self._program.read(f"{self._prefix(layer)}requests")[0])
        return int(self._program.read(f"{self._prefix(layer)}query_pointers")[requests])

    def _prefix(self, layer: int) -> str:
        return self.parts[layer][0].removesuffix("join")

    def add_to(self, graph: Any, nodes: Sequence[str], after: Sequence[Any]) -> Any:
        """Add nodes to a clone, after the nodes ``after``, and return the handle of the last one."""
        return self._program.emit_into(graph, nodes, after)[nodes[-1]]

    def close(self) -> None:
        """Release the program and its memory."""
        self._program.close()


def attention_graph(
    arrays: BoundArrays, policy: str, cuts: str, ctas: int, *, apart: bool
) -> tuple[Graph, tuple[tuple[str, ...], ...]]:
    """Build the graph of all nodes, and list the nodes that each layer needs, in order.

    If all layers share one schedule, the list of each layer includes the nodes that build it; a graph with several
    layers needs them only once.
    """
    heads, head_size = arrays.layers[0].y_shape[1:]
    cache_pages, page_size, kv_heads, _ = arrays.layers[0].cache_shape
    family = Attention(heads, kv_heads, head_size, page_size, cache_pages)
    rule = _RULES.get(cuts)
    if rule is None:
        raise InvalidInput(f"unknown cuts {cuts!r}", hint=f"choose one of {', '.join(_RULES)}")
    capacity = capacity_for(family, arrays.requests, arrays.layers[0].y_shape[0], arrays.pages, ctas, rule)
    ragged = RaggedAttention(family, capacity, policy, rule, arrays.dtype)
    builder, parts = GraphBuilder("persistent_attention"), []
    arrays.declare(builder)
    batch: dict[str, str] = {}
    for number, layer in enumerate(arrays.layers):
        prefix = f"layer{number}." if apart else ""
        if apart or not number:
            shapes = ragged.shapes()
            batch = {name: builder.state(prefix + name, "i32", shapes[name]) for name in BATCH}
            batch |= ragged.workspace(builder, prefix)
            launch = join_requests.launch_for(arrays.requests, arrays.pages)
            values = {**arrays.join_arguments(), **{name: batch[name] for name in BATCH}}
            builder.launch(join_requests.KERNEL, node=f"{prefix}join", launch=launch, **values)
            ragged.schedule(builder, batch, f"{prefix}schedule")
        name = ragged.attend(builder, {**batch, **layer.names}, f"attend{number}")
        parts.append((f"{prefix}join", f"{prefix}schedule", name))
    return builder.build(), tuple(parts)


def may_change_batch(imported: ImportedGraph, groups: Sequence[Group], batch: Sequence[MemoryRange]) -> bool:
    """Whether a node outside the groups that does not precede the first one may write an array of the batch."""
    from forerun.ir.semantics import accesses

    base = imported.captured.memory[0].address
    spans = [(one.address - base, one.stop - base) for one in batch]
    early = _with_ancestors(imported, groups[0].nodes)
    members = early | {node for group in groups for node in group.nodes}
    later = {name for number, name in enumerate(imported.names) if number not in members}
    buffers = imported.graph.buffers
    for path, found in accesses(imported.graph).items():
        if path.partition("/")[0] in later:
            written = (buffers[access.buffer] for access in found if access.write)
            if any(one.offset < end and begin < one.stop for one in written for begin, end in spans):
                return True
    return False


def _with_ancestors(imported: ImportedGraph, nodes: Iterable[int]) -> set[int]:
    """The nodes and all their ancestors, by number."""
    import networkx as nx

    captured = imported.captured
    topology: nx.DiGraph[int] = nx.DiGraph([(edge.source, edge.target) for edge in captured.edges])
    topology.add_nodes_from(range(len(captured.nodes)))
    chosen = set(nodes)
    return chosen.union(*(nx.ancestors(topology, node) for node in chosen))


def clone_of(live: LiveCapture, imported: ImportedGraph, groups: Sequence[Group], program: AttentionProgram) -> Clone:
    """Clone the captured graph, with nodes of the program in place of the groups.

    Raises:
        InvalidInput: If the program's graph was reset.
        Unsupported: If the graph has nodes that cannot be cloned.
        CudaError: If the driver fails.
    """
    return _clone(live, imported, groups, program, ())


def _clone(
    live: LiveCapture,
    imported: ImportedGraph,
    groups: Sequence[Group],
    program: AttentionProgram,
    gone: Iterable[int],
) -> Clone:
    """Clone as in :func:`clone_of`, without the nodes ``gone``."""
    before, names, edges = imported.graph, imported.names, imported.captured.edges
    members = {node for group in groups for node in group.nodes}
    others = set(gone)

    def extend(graph: Any, nodes: Mapping[str, Any]) -> None:
        driver = live.driver
        placed: dict[int, tuple[int, Any]] = {}  # captured node -> (unique number, handle) of its replacement
        done: set[str] = set()
        for number, group in enumerate(groups):
            sources = {edge.source for edge in edges if edge.target in group.nodes} - set(group.nodes) - others
            roots = dict(placed.get(source) or (source, nodes[names[source]]) for source in sorted(sources))
            wanted = [name for name in program.parts[group.layer] if name not in done]
            done.update(() if program.apart else wanted[:-1])
            made = program.add_to(graph, wanted, list(roots.values()))
            placed |= dict.fromkeys(group.nodes, (-1 - number, made))
            targets = {edge.target for edge in edges if edge.source in group.nodes} - members - others
            if targets:
                after = [nodes[names[target]] for target in sorted(targets)]
                kinds = [driver.api.CUgraphEdgeData() for _ in after]
                driver.call("cuGraphAddDependencies", graph, [made] * len(after), after, kinds, len(after))

    form = CloneForm(before, before, names, {}, without=sorted(members | others))
    return clone_with(live, form, extend=extend)


def compared(
    live: LiveCapture, imported: ImportedGraph, groups: Sequence[Group], program: AttentionProgram
) -> tuple[LayerError, ...]:
    """Compare the results of each group's launches with those of its replacement, after the same preceding nodes."""
    found = []
    saved = {one.address: one for one in (*(layer.y for layer in program.arrays.spans()), *written_memory(imported))}
    with SavedMemory(live.driver, saved.values()) as memory:
        for group in groups:
            needed = _with_ancestors(imported, group.nodes)
            later = set(range(len(imported.names))) - needed
            own, ours = (
                _results(live, imported, one, program, later, memory, program.arrays.spans()[group.layer])
                for one in ((), (group,))
            )
            rows = program.rows(group.layer)
            count = rows * own.size // program.arrays.layers[group.layer].y_shape[0]
            found.append(LayerError(group.layer, rows, _difference(own[:count], ours[:count], program)))
    return tuple(found)


def _results(
    live: LiveCapture,
    imported: ImportedGraph,
    groups: Sequence[Group],
    program: AttentionProgram,
    gone: set[int],
    memory: SavedMemory,
    layer: LayerMemory,
) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """The 16-bit words of a layer's results after a replay of a clone; words that were not written are 0xFFFF."""
    clone = _clone(live, imported, groups, program, gone)
    driver, found = live.driver, np.empty(layer.y.size // 2, np.uint16)
    try:
        memory.restore()
        driver.call("cuMemsetD8Async", layer.y.address, 0xFF, layer.y.size, memory.stream)
        driver.call("cuGraphLaunch", clone.executable, memory.stream)
        driver.call("cuStreamSynchronize", memory.stream)
        driver.call("cuMemcpyDtoH", found.ctypes.data, layer.y.address, layer.y.size)
    finally:
        clone.close()
    return found


def _difference(own: np.ndarray[Any, Any], ours: np.ndarray[Any, Any], program: AttentionProgram) -> float:
    """The greatest difference, relative to the greatest magnitude; NaN if a result is NaN."""
    if not own.size:
        return 0.0
    first, second = (one.view(program.arrays.numpy_dtype).astype(np.float32) for one in (own, ours))
    return float(np.abs(first - second).max() / max(float(np.abs(first).max()), 1e-30))
