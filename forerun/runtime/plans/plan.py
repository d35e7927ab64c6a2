"""A plan: an executable graph that is kept, and knows what it is, so that it can become another one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from forerun.ir.graph import Graph
from forerun.ir.nodes import HostCallbackNode
from forerun.ir.trust import registered_function
from forerun.ir.types import BufferRole
from forerun.ir.walk import all_nodes
from forerun.runtime.base import Program, Target, resolve_target
from forerun.runtime.device import DeviceProgram
from forerun.runtime.plans.comparison import compare
from forerun.runtime.plans.difference import Difference
from forerun.runtime.plans.lineage import base_of, compare_related
from forerun.runtime.plans.sources import Sources
from forerun.runtime.plans.updatable import HOW, UpdatableProgram, Update, Way
from forerun.support.diagnostics import InvalidInput, Unsupported

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from forerun.runtime.plans.proof import Proof

__all__ = ["Plan", "memory_bytes", "require_graph"]

_SAME = Update(Way.REUSED, proof=HOW[0])


class Plan:
    """An executable graph together with its signature: the graph that it is.

    The graph runs as it is given: passes are not applied (:func:`forerun.compile` makes graphs for plans, in
    ``executable.graph``). It must be proved to be free of races, and so must every graph that the plan becomes.

    State keeps its values across updates, as long as its buffer keeps its type and shape. A plan may be used from any
    thread; calls wait for one another.

    Args:
        graph: The program.
        target: Where it will run: a name with options, or a target.
        weights: A value for every weight, by name. Updates take theirs from here, too.
        memory: Arrays of the caller's on a GPU, by the names of inputs, outputs and state that are to live there.

    Attributes:
        graph: What the next replay runs.
        ways: How many updates took which way.
        last: The last update.

    Raises:
        InvalidInput: If the graph, an option, a weight or an array is wrong.
        Refuted: If the graph has a race.
        Unsupported: If the target cannot run some node, or the graph cannot be proved.

    Example:
        >>> import forerun
        >>> @forerun.kernel("x: i32[N], s: scalar i32 -> y: i32[N]")
        ... def scale(x, s):
        ...     return x * s
        >>> def scaled(factor):
        ...     builder = forerun.GraphBuilder("scaled")
        ...     x, y = builder.input("x", "i32", 3), builder.output("y", "i32", 3)
        ...     _ = builder.launch(scale, x=x, s=factor, y=y, node="scale")
        ...     return builder.build()
        >>> with forerun.Plan(scaled(2)) as plan:
        ...     print(plan.update(scaled(3)))
        ...     plan.run({"x": [1, 2, 3]})["y"].tolist()
        parameters: argument 's' changed at scale
        [3, 6, 9]
    """

    def __init__(
        self,
        graph: Graph,
        target: str | Target = "reference",
        *,
        weights: Mapping[str, ArrayLike] | None = None,
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        from forerun.runtime.plans.proof import Proof  # it brings the checker

        proof = Proof(require_graph(graph))
        sources = Sources(resolve_target(target), weights, memory)
        self._set(proof, sources, sources.load(graph, exact=True), owns_sources=True)

    @classmethod
    def _of(cls, proof: Proof, sources: Sources, *, streamed: bool = False) -> Plan:
        """For caches, whose plans share their sources."""
        plan = cls.__new__(cls)
        plan._set(proof, sources, sources.load(proof.graph, streamed=streamed), owns_sources=False)
        return plan

    def _set(self, proof: Proof, sources: Sources, program: Program, *, owns_sources: bool) -> None:
        self.graph = proof.graph
        self.ways: Counter[Way] = Counter()
        self.last = Update(Way.INSTANTIATED, remark="first use", proof=HOW[3])
        self._lock = threading.RLock()
        self._proof = proof
        self._sources = sources
        self._owns_sources = owns_sources
        self._base = base_of(proof.graph)
        self._renamed = proof.graph
        self._functions = _functions_of(proof.graph)
        self._program: Program | None = None
        self._install(program)

    def _install(self, program: Program) -> None:
        self._program = program
        # To ask a protocol takes longer than to update one node.
        self._updatable = program if isinstance(program, UpdatableProgram) else None
        self._device = program if isinstance(program, DeviceProgram) else None
        if self._updatable is not None:
            self._updatable.watch()

    # Updates

    def update(self, graph: Graph) -> Update:
        """Make the next replay run another graph, in the cheapest way that is exact.

        The same graph, or one that differs in names alone, is reused. Otherwise it is proved again as far as the change
        reaches; then the target sets the parameters of the nodes that changed, updates the whole graph, or the graph is
        loaded again.

        Returns:
            Which way it was, and why.

        Raises:
            InvalidInput: If the graph is not valid, the plan is closed, a replay is still in flight, or memory of yours
                was freed.
            Refuted: If the graph has a race.
            Unsupported: If the target cannot run some node, or the graph cannot be proved.
        """
        with self._lock:
            if (graph is self.graph or graph is self._renamed) and self._program is not None and not self._redefined():
                return self._note(_SAME)
            self._open()
            return self._note(self._become(require_graph(graph)))

    def difference_from(self, graph: Graph) -> Difference:
        """How a graph differs from the plan's; nothing is changed.

        Raises:
            InvalidInput: If the graph is not valid, as far as comparing it shows.
        """
        found = compare_related(self.graph, graph, self._proof.positions)
        if found is not None:
            return found
        if not graph.is_complete:
            from forerun.ir.verify import require_valid

            require_valid(graph)
        return compare(self.graph, graph)

    def _become(self, graph: Graph) -> Update:
        difference = self.difference_from(graph)
        redefined = self._redefined() if self._functions else ""
        if not redefined and difference.is_empty:
            if difference.renamed:
                self._renamed = graph  # the one with the names that the program knows stays what others are compared to
            else:
                self._adopt(self._proof.extend(graph, difference)[0])
            return _SAME
        self._require_idle()
        proof, how = self._proof.extend(graph, difference)
        way, remark = Way.INSTANTIATED, redefined
        if not redefined and not difference.structure and not difference.memory and self._updatable is not None:
            way, remark = self._updatable.update_in_place(graph, difference)
        old = self._reload(graph) if way is Way.INSTANTIATED else None
        self._adopt(proof)
        if way is Way.INSTANTIATED or how == HOW[3]:
            self._functions = _functions_of(graph)
        if old is not None:
            old.close()
            self._sources.sweep()
        return Update(way, difference, remark, how)

    def _adopt(self, proof: Proof) -> None:
        self._proof, self.graph, self._renamed = proof, proof.graph, proof.graph
        self._base = base_of(proof.graph)  # kept alive, so that the next edit of the same graph is known as one

    def _reload(self, graph: Graph) -> Program:
        """Load a graph in the place of the present one, which stays if that fails; returns the program before."""
        old = self._open()
        program = self._sources.load(graph)
        try:
            self._sources.carry(self.graph, old, graph, program)
        except BaseException:
            program.close()
            raise
        self._install(program)
        return old

    def _redefined(self) -> str:
        """A function that the program has defined again since the plan was made; names do not tell."""
        for path, function in self._functions.items():
            if registered_function(path) is not function:
                return f"function '{path}' was defined again"
        return ""

    def _note(self, update: Update) -> Update:
        self.ways[update.way] += 1
        self.last = update
        return update

    # Replays

    def run(self, inputs: Mapping[str, ArrayLike] | None = None) -> dict[str, NDArray[Any]]:
        """Replay the graph once; as :meth:`forerun.Executable.run`.

        Raises:
            InvalidInput: If an input does not fit, a function fails, or the plan is closed.
        """
        with self._lock:
            return self._open().run(inputs or {})

    def launch(self, stream: Any = None) -> None:
        """Enqueue one replay on a GPU, and return at once; as :meth:`forerun.Executable.launch`.

        Raises:
            InvalidInput: If it is not a stream, it is one of another context, or the plan is closed.
            Unsupported: If the target is not a GPU.
        """
        with self._lock:
            self._on_gpu("launch").launch(stream)

    def wait_for(self, other: Plan, stream: Any = None) -> None:
        """Let what is launched on a stream from now on wait for the last launch of another plan.

        Raises:
            InvalidInput: If it is not a stream, or a plan is closed.
        """
        program, earlier = self._open(), other._open()
        if self._updatable is not None:
            self._updatable.wait_for(earlier, stream)
        elif other.in_flight or program is earlier:
            other.synchronize()

    def synchronize(self) -> None:
        """Wait for all replays that were launched.

        Raises:
            InvalidInput: If a host function failed, or the plan is closed.
        """
        with self._lock:
            self._open()
            if self._device is not None:
                self._device.synchronize()

    def read(self, buffer: str) -> NDArray[Any]:
        """A copy of what a buffer holds now.

        Raises:
            InvalidInput: If there is no such buffer, or the plan is closed.
        """
        with self._lock:
            return self._open().read(buffer)

    def write(self, buffer: str, value: ArrayLike) -> None:
        """Set a state buffer.

        Raises:
            InvalidInput: If there is no such buffer, it is not state, the value does not fit, or the plan is closed.
        """
        with self._lock:
            self._open().write(buffer, value)

    def reset(self) -> None:
        """Set all state to zeros.

        Raises:
            InvalidInput: If the plan is closed.
        """
        with self._lock:
            self._open().reset()

    def buffer(self, name: str) -> Any:
        """The memory of a buffer on a GPU, for other libraries to use in place; as :meth:`forerun.Executable.buffer`.

        Raises:
            InvalidInput: If there is no such buffer, or the plan is closed.
            Unsupported: If the target is not a GPU.
        """
        return self._on_gpu("buffer").buffer(name)

    @property
    def in_flight(self) -> bool:
        """Whether a replay that was launched is not over."""
        with self._lock:
            return self._updatable is not None and self._program is not None and self._updatable.is_in_flight()

    @property
    def size_bytes(self) -> int:
        """Bytes that the plan holds besides weights that are the caller's, and constants in common with other plans."""
        if self._program is None:
            return 0
        own = memory_bytes(self.graph) if self._updatable is None else self._updatable.size_bytes
        return own + self._sources.constant_bytes if self._owns_sources else own

    def close(self) -> None:
        """Wait for what is in flight, and give everything back. Closing twice is fine."""
        with self._lock:
            program, self._program, self._updatable, self._device = self._program, None, None, None
            if program is None:
                return
            try:
                program.close()
            finally:
                if self._owns_sources:
                    self._sources.close()
                else:
                    self._sources.sweep()

    def _require_idle(self) -> None:
        if self._updatable is not None and self._updatable.is_in_flight():
            message = f"the plan of graph '{self.graph.name}' is in flight, so it cannot become another graph"
            raise InvalidInput(message, hint="synchronize() first, or use a second plan (PlanCache does)")
        if self._updatable is not None:
            self._updatable.require_memory()

    def _on_gpu(self, method: str) -> DeviceProgram:
        self._open()
        if self._device is None:
            raise Unsupported(f"'{method}' needs a GPU", hint="make the plan with target='cuda'")
        return self._device

    def _open(self) -> Program:
        if self._program is None:
            raise InvalidInput(f"the plan of graph '{self.graph.name}' is closed", hint="make a new one")
        return self._program

    def __enter__(self) -> Plan:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._program is None else f"{self.size_bytes} bytes"
        return f"<Plan {self.graph.name}: {len(self.graph)} nodes, {state}>"


def memory_bytes(graph: Graph) -> int:
    """Bytes of the allocations of a graph that hold anything but weights."""
    weights = {b.allocation for b in graph.buffers.values() if b.role is BufferRole.WEIGHT}
    return sum(a.size for name, a in graph.allocations.items() if name not in weights)


def require_graph(graph: object) -> Graph:
    """The graph, if it is one.

    Raises:
        InvalidInput: If it is none.
    """
    if not isinstance(graph, Graph):
        raise InvalidInput(f"a plan is made of a Graph, not {type(graph).__name__}", hint="executable.graph is one")
    return graph


def _functions_of(graph: Graph) -> dict[str, Callable[..., Any]]:
    """The functions that the program has registered, and the graph names."""
    named = {phase.reference for kernel in graph.kernels.values() for phase in kernel.phases if phase.reference}
    named |= {node.function for _, node in all_nodes(graph) if isinstance(node, HostCallbackNode)}
    found = ((path, registered_function(path)) for path in named)
    return {path: function for path, function in found if function is not None}
