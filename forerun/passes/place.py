"""``place``: which nodes run on the host, by the names of their weights or by what fits and is fast."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import networkx as nx

from forerun.ir.declaration import runs_anywhere
from forerun.ir.graph import Graph
from forerun.ir.nodes import HostCallbackNode, KernelNode
from forerun.ir.semantics import accesses
from forerun.ir.types import DEVICE0, HOST, BufferRole, DependencyKind, Place
from forerun.ir.walk import bodies_in
from forerun.passes.infer_dependencies import hazard_dependencies
from forerun.passes.infra.base import Pass, PassContext, option
from forerun.passes.infra.registry import register
from forerun.passes.placing.auto import Limits, chosen_places, groups_of
from forerun.passes.placing.model import Rates, Step
from forerun.passes.placing.patterns import matches, patterns_in, require_matching
from forerun.passes.placing.times import measured_times
from forerun.support.diagnostics import InvalidInput, Unsupported

__all__ = ["PlaceNodes"]

_TOLERANCE = 1e-5
"""What a CPU and a GPU may differ by: they sum in another order (as fusion rules have it)."""


@register
@dataclass(frozen=True)
class PlaceNodes(Pass):
    """Names the place of each kernel node: the device, or the host.

    Patterns are names with ``*``, ``?`` and ``[...]``, separated by commas; ``blk.*.ffn_*_exps`` fits weights, up to a
    dot, and ``#blk.*.ffn_act`` nodes. The kernels that use a fitting weight run on the host, and so do those without
    weights and state of their own between these. A kernel runs on the host if its phases have NumPy functions.

    ``auto`` decides about all others: what does not fit the device's memory goes to the host, such that the step takes
    as little time as can be, by bytes and rates, with a border's cost for each copy. The rates are those of an H200 and
    16 cores. Where ``times`` has a node that ran at a place, its measured time counts there.

    Nothing is copied here, and no memory moves but that of ``stream``: ``fuse-splits`` does that afterwards.
    """

    name: ClassVar[str] = "place"
    keeps_bits: ClassVar[bool] = False
    changes: ClassVar[frozenset[str]] = frozenset({"nodes", "dependencies", "memory"})
    statistics: ClassVar[Mapping[str, str]] = {
        "nodes_placed": "nodes that got another place",
        "weights_placed": "allocations of weights that lie on the host now, to be fetched",
        "nodes_on_host": "kernel nodes that run on the host",
        "nodes_measured": "nodes whose time was measured at a place, with auto",
        "step_us": "microseconds that a step is thought to take, with auto",
    }

    host: str = option("", help="patterns of weights, or #nodes, that go to the host")
    device: str = option("", help="patterns of weights, or #nodes, that stay on the device all the same")
    stream: str = option("", help="patterns of weights that lie on the host, and are fetched by kernels of the device")
    auto: bool = option(False, help="decide about the other nodes by memory and time")
    memory: str = option("", help="the device's memory for auto, such as 80GB; empty for as much as is needed")
    host_memory: str = option("", help="the host's memory for auto; empty for as much as is needed")
    host_gbps: float = option(47.0, help="gigabytes a second that kernels on the host read")
    device_gbps: float = option(3300.0, help="gigabytes a second that kernels on the device read")
    link_gbps: float = option(55.0, help="gigabytes a second of copies between them")
    border_us: float = option(12.0, help="microseconds that a copy between them takes at least")
    times: str = option("", help="files of timelines, separated by commas: measured times for auto", file=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("host_gbps", "device_gbps", "link_gbps", "border_us"):
            if not 0 <= getattr(self, name) < math.inf:
                what = f"{name.replace('_', '-')} is {getattr(self, name)}"
                raise InvalidInput(f"pass 'place': {what}", hint="give 0 or more")
        for name in ("memory", "host_memory"):
            _bytes_in(name.replace("_", "-"), getattr(self, name))

    def apply(self, graph: Graph, context: PassContext) -> Graph:
        """The graph with nodes at their places."""
        self._require_names(graph)
        on_host, pinned = _named(graph, self.host), _named(graph, self.device)
        for name in [name for name in on_host if name not in pinned]:
            _require_movable(graph, name)
        places = _given(graph)
        places.update(dict.fromkeys((name for name in on_host if name not in pinned), HOST))
        places.update({name: DEVICE0 for name in pinned if places[name] == HOST})
        if self.auto:
            places = self._decided(graph, places, {*on_host, *pinned}, context)
        elif on_host:
            places = _followed(graph, places, pinned)
        return self._placed(graph, places, context)

    def _require_names(self, graph: Graph) -> None:
        weights = [name for name, buffer in graph.buffers.items() if buffer.role is BufferRole.WEIGHT]
        for name in ("host", "device", "stream"):
            about, text = f"pass 'place': {name}", getattr(self, name)
            nodes = ",".join(pattern[1:] for pattern in patterns_in(text) if pattern.startswith("#"))
            require_matching(about, nodes, list(graph.nodes), "node", "#")
            require_matching(about, _weight_patterns(text), weights, "weight", "%")

    def _decided(
        self, graph: Graph, places: Mapping[str, Place], settled: set[str], context: PassContext
    ) -> dict[str, Place]:
        """The places of all nodes, with those that nobody named where they fit and are fast."""
        movable = {name for name, node in graph.nodes.items() if name not in settled and not _refusal(graph, name)}
        groups = groups_of(graph, movable)
        moving = {name for group in groups for name in group.nodes}
        fixed = {name: place for name, place in places.items() if name not in moving}
        rates = Rates(self.host_gbps, self.device_gbps, self.link_gbps, self.border_us)
        step = Step(graph, rates, measured_times(graph, self.times))
        total = sum(allocation.size for allocation in graph.allocations.values() if allocation.place.kind == "device")
        rest = total - sum(group.bytes for group in groups)
        limits = Limits(_bytes_in("memory", self.memory), _bytes_in("host-memory", self.host_memory))
        chosen, over = chosen_places(step, groups, fixed, limits, rest)
        if over:
            message = f"pass 'place': {over} bytes fit neither the device nor the host"
            hint = f"{rest} bytes have to be on the device, and {total - rest} can be on either; give more memory"
            raise InvalidInput(message, hint=hint)
        seconds = step.seconds(chosen)
        context.observe("nodes_measured", len({name for name, _ in step.times}))
        context.observe("step_us", round(seconds * 1e6) if math.isfinite(seconds) else 0)
        return chosen

    def _placed(self, graph: Graph, places: Mapping[str, Place], context: PassContext) -> Graph:
        edit = graph.edit()
        for name, node in graph.nodes.items():
            if isinstance(node, KernelNode) and node.place != places[name] and context.should_apply():
                edit.replace_node(replace(node, place=places[name]))
                context.count("nodes_placed")
                if graph.kernels[node.kernel].implementations:
                    context.tolerate(_TOLERANCE)
                for dependency in (*edit.incoming(name), *edit.outgoing(name)):
                    edit.set_dependency(replace(dependency, kind=DependencyKind.FULL))
        for name in dict.fromkeys(b.allocation for b in graph.buffers.values() if _streams(self.stream, b.name, graph)):
            if graph.allocations[name].place != HOST and context.should_apply():
                edit.set_allocation(replace(graph.allocations[name], place=HOST))
                context.count("weights_placed")
        after = edit.commit()
        context.observe("nodes_on_host", sum(isinstance(n, KernelNode) and n.place == HOST for n in after))
        return after


_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes_in(name: str, text: str) -> int | None:
    """The bytes that an option says, such as ``80GB``; ``None`` if it says nothing."""
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", text)
    if not text:
        return None
    if found is None or found[2] not in _UNITS:
        hint = f"a number and a unit: {', '.join(filter(None, _UNITS))}"
        raise InvalidInput(f"pass 'place': {name} is '{text}'", hint=hint)
    return int(float(found[1]) * _UNITS[found[2]])


def _weight_patterns(text: str) -> str:
    return ",".join(pattern.removeprefix("%") for pattern in patterns_in(text) if not pattern.startswith("#"))


def _streams(text: str, name: str, graph: Graph) -> bool:
    return graph.buffers[name].role is BufferRole.WEIGHT and matches(_weight_patterns(text), name)


def _named(graph: Graph, text: str) -> dict[str, None]:
    """The nodes that patterns fit, by their names or those of their weights."""
    nodes = ",".join(pattern[1:] for pattern in patterns_in(text) if pattern.startswith("#"))
    weights = _weight_patterns(text)
    used = {name: {a.buffer for a in found if a.buffer in graph.buffers} for name, found in accesses(graph).items()}
    fitting = {b for b in graph.buffers if graph.buffers[b].role is BufferRole.WEIGHT and matches(weights, b)}
    return dict.fromkeys(name for name in graph.nodes if matches(nodes, name) or used[name] & fitting)


def _given(graph: Graph) -> dict[str, Place]:
    return {name: node.place for name, node in graph.nodes.items()}


def _refusal(graph: Graph, name: str) -> str:
    """Why a node cannot run on the host; empty if it can."""
    node = graph.nodes[name]
    if bodies_in(node):
        return "it has a body, and bodies hold no nodes of the host"
    if not isinstance(node, KernelNode):
        return "it launches no kernel"
    indexed = next((a.buffer for a in accesses(graph)[name] if _is_indexed(graph, a.buffer)), None)
    if indexed is not None:
        return f"%{indexed} is paged or ragged, and such buffers are not copied"
    kernel = graph.kernels[node.kernel]
    return "" if runs_anywhere(kernel) else f"not every phase of kernel '{kernel.name}' has a NumPy function"


def _is_indexed(graph: Graph, name: str) -> bool:
    return name in graph.buffers and graph.buffers[name].index is not None


def _require_movable(graph: Graph, name: str) -> None:
    reason = _refusal(graph, name)
    if reason and not isinstance(graph.nodes[name], HostCallbackNode):
        hint = f'leave it on the device: device="#{name}"'
        raise Unsupported(f"pass 'place': node '{name}' cannot run on the host: {reason}", hint=hint)


def _followed(graph: Graph, places: Mapping[str, Place], pinned: Collection[str]) -> dict[str, Place]:
    """The places, with kernels that have no weights or state between kernels of the host there, too.

    Such kernels that hand data to each other go together, if all that they get comes from the host, and all that they
    give goes there.
    """
    flow = nx.Graph(pair for pair, d in hazard_dependencies(graph).items() if any(h.kind == "RAW" for h in d.hazards))
    seen = {b.name for b in graph.buffers.values() if b.role is not BufferRole.TEMP}
    found = accesses(graph)
    free = {
        n for n in flow if not _refusal(graph, n) and n not in pinned and not any(a.buffer in seen for a in found[n])
    }
    result = dict(places)
    for group in nx.connected_components(flow.subgraph(free)):
        around = {name for inner in group for name in flow[inner]} - group
        if around and all(result[name] == HOST for name in around):
            result.update(dict.fromkeys(group, HOST))
    return result
