"""The order of events: which completions are certain before a node starts, and before its wait returns.

Events of a node v (PDL.md, "Events and order"): S (start), W (wait returns), T (trigger), C (complete and flushed).

    H1  S -> W,  S -> T -> C
    H2  full u->v:          C_u -> S_v
    H3  programmatic u->v:  C_u -> W_v
    H4  v always waits:     W_v -> C_v
    H5  v never triggers before it waits:  W_v -> T_v     (matters only with H6)
    H6  programmatic u->v:  T_u -> S_v                    (a licence, off in strict mode)

A launch-order dependency orders nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable

from forerun.ir.analysis import Analysis
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics.access import always_waits, triggers_after_wait
from forerun.ir.types import DependencyKind

__all__ = ["EventOrder", "event_order"]


class EventOrder:
    """For each node, the sets of nodes whose completion reaches its S, its W and its C.

    Sets are bit sets (Python integers) over launch positions, so a graph of n nodes costs n unions of n bits. The
    launch order must be a topological order of the dependencies.

    Args:
        graph: A verified graph.
        licences: Opt-in rules: ``{"H6"}`` adds the scheduling order of triggers.
    """

    def __init__(self, graph: Graph, licences: Iterable[str] = ()) -> None:
        self.position = {name: i for i, name in enumerate(graph.nodes)}
        self._names = tuple(graph.nodes)
        h6 = "H6" in set(licences)
        count = len(self.position)
        self.before_start = [0] * count
        self.before_wait = [0] * count
        self.before_completion = [0] * count
        before_trigger = [0] * count
        h5: dict[str, bool] = {}
        for v, node in enumerate(graph):
            start = wait = 0
            for dependency in graph.incoming(node.name):
                u = self.position[dependency.source]
                completion = self.before_completion[u] | 1 << u
                if dependency.kind is DependencyKind.FULL:
                    start |= completion
                elif dependency.kind is DependencyKind.PROGRAMMATIC:
                    wait |= completion
                    if h6:
                        start |= before_trigger[u]
            waits = always_waits(graph, node)
            self.before_start[v] = start
            self.before_wait[v] = start | wait
            self.before_completion[v] = start | wait if waits else start
            if h6 and isinstance(node, KernelNode) and node.kernel in graph.kernels:
                if node.kernel not in h5:
                    h5[node.kernel] = triggers_after_wait(graph.kernels[node.kernel])
                before_trigger[v] = start | wait if h5[node.kernel] else start

    def completes_before_start(self, u: str, v: str) -> bool:
        """Whether C_u reaches S_v: everything that u wrote is visible to all of v."""
        return bool(self.before_start[self.position[v]] >> self.position[u] & 1)

    def completes_before_wait(self, u: str, v: str) -> bool:
        """Whether C_u reaches W_v: everything that u wrote is visible to v after its wait."""
        return bool(self.before_wait[self.position[v]] >> self.position[u] & 1)

    def completes_before_completion(self, u: str, v: str) -> bool:
        """Whether C_u reaches C_v."""
        return bool(self.before_completion[self.position[v]] >> self.position[u] & 1)

    def undrained(self, graph: Graph) -> list[str]:
        """The nodes whose completion reaches no sink's: the host and the next replay race with them (PDL.md, H7)."""
        drained = 0
        for v, name in enumerate(self._names):
            if not graph.has_outgoing(name):
                drained |= self.before_completion[v] | 1 << v
        return [name for v, name in enumerate(self._names) if not drained >> v & 1]


event_order = Analysis({"nodes", "dependencies", "kernels"}, EventOrder)
"""The strict event order of a graph."""
