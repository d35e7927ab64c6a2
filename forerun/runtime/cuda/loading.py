"""Load a graph on a GPU: memory, weights, code, the CUDA graph, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.nodes import HostCallbackNode, KernelNode, MemcpyNode, is_host_work
from forerun.ir.semantics.alignment import needed_alignments
from forerun.ir.semantics.written_state import written_state
from forerun.ir.types import BufferRole
from forerun.ir.walk import all_nodes
from forerun.runtime.cuda.codegen.build import Code
from forerun.runtime.cuda.driver.device import Device
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.emit.constants import NodeConstants
from forerun.runtime.cuda.emit.emitter import Emitter
from forerun.runtime.cuda.emit.functions import Functions, load_functions
from forerun.runtime.cuda.emit.handing_over import HandOver, with_copies_taken
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.emit.segments import joined, one_after_the_other, segments_of
from forerun.runtime.cuda.measured_splits import MeasuredSplits
from forerun.runtime.cuda.memory.external import ExternalArray, bind_array
from forerun.runtime.cuda.memory.memory import Block, Memory
from forerun.runtime.cuda.memory.resources import Resources
from forerun.runtime.cuda.memory.staging import Staging
from forerun.runtime.cuda.memory.upload import Progress, upload_weights
from forerun.runtime.cuda.saving import SavedState
from forerun.runtime.cuda.signalled import SignalledGraph, Signals
from forerun.runtime.cuda.splitting import SplitGraph
from forerun.runtime.cuda.timestamps import Timestamps, regions_of
from forerun.runtime.native import is_native
from forerun.runtime.native.jobs import job_of
from forerun.runtime.values import check_weights
from forerun.support.diagnostics import InvalidInput, Unsupported, did_you_mean

__all__ = ["Loaded", "Seeds", "check_memory", "load_graph"]

_INPUTS = (BufferRole.INPUT, BufferRole.PARAM)
_BINDABLE = (*_INPUTS, BufferRole.OUTPUT, BufferRole.STATE)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a program works with, all of it owned by ``resources``.

    The seconds are what it took to make the CUDA graph, and what the driver took to instantiate it. The bytes are by
    how much the device's free memory shrank meanwhile, other programs included.
    """

    resources: Resources
    memory: Memory
    staging: Staging
    functions: Functions
    calls: HostCalls
    constants: NodeConstants
    executable: Any
    seeds: Seeds | None
    timestamps: Timestamps | None
    split: SplitGraph | SignalledGraph | MeasuredSplits | None
    saved: SavedState | None
    emit_seconds: float
    instantiate_seconds: float
    executable_bytes: int
    emitter: Emitter

    @property
    def first_node(self) -> bytes | None:
        """The parameters of the node that all others come after, if there is one."""
        return None if self.saved is None else self.saved.node


class Seeds:
    """The words that the kernels' delays depend on: one a node, all set again before each replay."""

    def __init__(self, driver: Driver, block: Block, seed: int) -> None:
        self._driver = driver
        self._block = block
        self._value = seed & 0xFFFFFFFF

    @property
    def address(self) -> int:
        """The address of the first word."""
        return self._block.address

    def next(self, stream: Any) -> None:
        """Set them for the next replay on a stream."""
        self._value = (self._value * 1664525 + 1013904223) & 0xFFFFFFFF
        self._driver.call("cuMemsetD32Async", self._block.address, self._value, self._block.size // 4, stream)


def check_memory(graph: Graph, memory: Mapping[str, Any]) -> None:
    """Check the names of the buffers that the caller wants to bind.

    Raises:
        InvalidInput: If there is no such buffer, or it cannot be bound.
    """
    for name in memory:
        buffer = graph.buffers.get(name)
        if buffer is None:
            raise InvalidInput(f"the graph has no buffer '%{name}'", hint=did_you_mean(name, graph.buffers, sigil="%"))
        if buffer.role not in _BINDABLE:
            what = "pass it in weights=" if buffer.role is BufferRole.WEIGHT else "temporaries are the program's own"
            raise InvalidInput(f"memory '%{name}' is a {buffer.role}, which cannot be bound", hint=what)


def load_graph(
    driver: Driver,
    device: Device,
    graph: Graph,
    code: Code,
    weights: Mapping[str, ArrayLike],
    memory: Mapping[str, Any],
    seed: int,
    progress: Progress | None,
    splits: str = "graph",
    *,
    streamed: bool = False,
) -> Loaded:
    """Load a graph whose code is compiled.

    ``memory`` are the caller's arrays, by buffer; ``seed`` is that of delays, 0 for none; ``splits`` says how a graph
    with work for the host is launched, as :class:`~forerun.runtime.cuda.target.CudaTarget` has it. With ``streamed``
    there is no executable: the nodes will be launched one by one.

    Raises:
        InvalidInput: If a weight or array does not fit, or the function of a host node cannot be found.
        Unsupported: If CUDA graphs have no such node.
        CudaError: If the driver fails; everything was given back then.
    """
    check_memory(graph, memory)
    check_weights(graph, weights)
    resources = Resources(driver, device)
    try:
        with resources.context.current():
            needed = needed_alignments(graph)
            bound = {name: _bound(resources, graph.buffers[name], value, needed) for name, value in memory.items()}
            return _load(resources, graph, code, weights, bound, seed, progress, splits, streamed)
    except BaseException:
        resources.close()
        raise


def _bound(resources: Resources, buffer: Buffer, value: Any, needed: Mapping[str, int]) -> ExternalArray:
    array = bind_array(f"memory '%{buffer.name}'", buffer, value, resources, needed.get(buffer.allocation, 1))
    if not array.writable and buffer.role not in _INPUTS:
        raise InvalidInput(f"memory '%{buffer.name}': its owner lets nobody write it, but the graph does")
    resources.kept.append(array)
    return array


def _load(
    resources: Resources,
    graph: Graph,
    code: Code,
    weights: Mapping[str, ArrayLike],
    bound: Mapping[str, ExternalArray],
    seed: int,
    progress: Progress | None,
    splits: str,
    streamed: bool,
) -> Loaded:
    scope, stream = resources.scope, resources.stream
    memory = Memory(scope, graph, bound, resources.kept)
    memory.poison(stream)
    memory.zero_state(stream, bound=False)
    seeds = None
    if seed and code.unit_of:
        seeds = Seeds(scope.driver, memory.allocate(4 * len(code.unit_of), "the seeds of delays"), seed)
    staging = Staging(resources, graph, memory, bound)
    upload_weights(resources, memory, graph, weights, progress)
    functions = load_functions(scope, code)
    timestamps = _timestamps(scope.driver, graph, memory, functions)
    began = time.perf_counter()
    first_seed = 0 if seeds is None else seeds.address
    records, stamps = ({}, {}) if timestamps is None else (timestamps.addresses, timestamps.copies)
    calls = HostCalls()
    if functions.stamp:
        calls.times = {}
    resources.until_idle.append(calls)
    if splits != "synchronous" and any(is_host_work(node) for _, node in all_nodes(graph)):
        resources.sleep_while_waiting()
    saved = _saved_state(resources, graph, memory, functions, calls)
    new_emitter = partial(
        Emitter, scope, graph, memory, functions, resources.context.handle, calls, first_seed, records, stamps,
        constants=NodeConstants(scope.driver),
    )  # fmt: skip
    emitter = new_emitter()
    executable, split = None, None
    emitted = instantiated = began
    free = 0
    # Streamed: nothing is made, since the nodes will be launched one by one.
    if not streamed and splits != "graph" and any(map(is_host_work, graph)):
        make_signals = partial(Signals, memory, functions.hand_over, times=stamps)
        split = _split(resources, graph, make_signals, new_emitter, calls, saved, splits)
        emitted = instantiated = time.perf_counter()
    elif not streamed:
        whole = emitter.emit(None if saved is None else saved.node)
        emitted = time.perf_counter()
        free, _ = scope.driver.call("cuMemGetInfo")
        executable = _instantiate(resources, whole, emitter)
        instantiated = time.perf_counter()
        scope.driver.call("cuGraphUpload", executable, stream)
    resources.synchronize()
    size = max(0, free - scope.driver.call("cuMemGetInfo")[0]) if free else 0
    times = emitted - began, instantiated - emitted
    return Loaded(
        resources, memory, staging, functions, calls, emitter.constants, executable, seeds, timestamps, split, saved,
        *times, size, emitter,
    )  # fmt: skip


def _split(
    resources: Resources,
    graph: Graph,
    make_signals: Callable[[Mapping[str, HandOver]], Signals],
    new_emitter: Callable[..., Emitter],
    calls: HostCalls,
    saved: SavedState | None,
    splits: str,
) -> SplitGraph | SignalledGraph | MeasuredSplits:
    """What launches a graph with work for the host, in one of the ways of :class:`forerun.runtime.cuda.CudaTarget`."""

    def in_parts(*, overlap: bool) -> SplitGraph:
        emitter = new_emitter()
        made = partial(_instantiate, resources, emitter=emitter)
        return SplitGraph(resources, graph, emitter, calls, made, saved, overlap=overlap)

    if splits == "signals":
        return _signalled(resources, graph, make_signals, new_emitter, calls, saved)
    if splits != "measured":
        return in_parts(overlap=splits == "plans")
    emitter = new_emitter()
    whole = _instantiate(resources, emitter.emit(None if saved is None else saved.node), emitter)
    ways: dict[str, Callable[[Any], object]] = {
        "graph": partial(resources.driver.call, "cuGraphLaunch", whole),
        "plans": in_parts(overlap=True).launch,
        "synchronous": in_parts(overlap=False).launch,
    }
    if not _calls_functions(graph):
        ways["signals"] = _signalled(resources, graph, make_signals, new_emitter, calls, saved).launch
    return MeasuredSplits({name: partial(_in_a_way, resources, name, way) for name, way in ways.items()})


def _in_a_way(resources: Resources, name: str, launch: Callable[[Any], object], stream: Any) -> None:
    """Launch a replay; what is left to wait for after its launch takes longer in some ways than in others."""
    resources.sleep_while_waiting(name)
    launch(stream)


def _signalled(
    resources: Resources,
    graph: Graph,
    make_signals: Callable[[Mapping[str, HandOver]], Signals],
    new_emitter: Callable[..., Emitter],
    calls: HostCalls,
    saved: SavedState | None,
) -> SignalledGraph:
    """One graph that waits for the host.

    Raises:
        Unsupported: If functions of the caller's are called, which might wait for the device in their turn.
    """
    if _calls_functions(graph):
        message = "splits=signals: the device waits for the host, so host functions that use it would wait for ever"
        raise Unsupported(message, hint="splits=plans")
    segments = segments_of(graph, apart=True)
    on_host = [segment.nodes for segment in segments if segment.is_host]
    part, handed = with_copies_taken(graph, joined(graph, segments), [names[0] for names in on_host])
    signals = make_signals(handed)
    emitter = new_emitter(given=signals.nodes)
    ordered = one_after_the_other(part, segments)
    whole = emitter.emit_part(ordered, None if saved is None else saved.node)

    def work_of(name: str) -> Callable[[], None]:
        node = graph.nodes[name]
        assert isinstance(node, KernelNode)
        call = emitter.host_work(node, name)
        return call if is_native(graph, node) else calls.without_cuda(call, name)

    work = [[work_of(name) for name in names] for names in on_host]
    addresses = {name: emitter.address(name) for name in graph.buffers}
    jobs = [job_of(graph, names, addresses) for names in on_host]
    return SignalledGraph(resources, _instantiate(resources, whole, emitter), signals, work, jobs, calls)


def _calls_functions(graph: Graph) -> bool:
    return any(isinstance(node, HostCallbackNode) for _, node in all_nodes(graph))


def _saved_state(
    resources: Resources, graph: Graph, memory: Memory, functions: Functions, calls: HostCalls
) -> SavedState | None:
    """What undoes a replay in which a host function raises, if one can, and replays leave something behind."""
    ranges = written_state(graph) if functions.save and _may_raise(graph) else ()
    if not ranges:
        return None
    saved = SavedState(resources, graph, memory, ranges, functions.save)
    calls.failed = saved.failed
    return saved


def _may_raise(graph: Graph) -> bool:
    """Whether some work for the host is a Python function: machine code raises nothing."""
    for _, node in all_nodes(graph):
        if isinstance(node, HostCallbackNode):
            return True
        if is_host_work(node) and isinstance(node, KernelNode) and not is_native(graph, node):
            return True
    return False


def _timestamps(driver: Driver, graph: Graph, memory: Memory, functions: Functions) -> Timestamps | None:
    regions = regions_of(functions.code)
    if not regions and not functions.stamp:
        return None
    copies = [path for path, node in all_nodes(graph) if isinstance(node, MemcpyNode)] if functions.stamp else []
    return Timestamps(driver, memory, regions, copies, functions.stamp)


def _instantiate(resources: Resources, graph: Any, emitter: Emitter) -> Any:
    driver = resources.driver
    params = driver.api.CUDA_GRAPH_INSTANTIATE_PARAMS()
    try:
        made = driver.call("cuGraphInstantiateWithParams", graph, params)
    except CudaError as error:
        culprit, result = int(params.hErrNode_out), getattr(params.result_out, "name", "")
        node = emitter.path_of(culprit)
        raise error.about(node=node, detail=f"the graph cannot be instantiated ({result})") from error
    emitter.constants.instantiated(made)
    return resources.scope.own("executable", made, "cuGraphExecDestroy")
