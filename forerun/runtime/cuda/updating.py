"""Changes an executable CUDA graph in place, where that is exact; and knows whether it is in flight.

What the driver's updates do not do, or do without saying so, is not asked of them:

- A changed cluster or cooperative launch: ``cuGraphExecUpdate`` may report success and keep the old cluster, and the
  parameters of one node have no place for it.
- A changed function of code that is given (PTX, cubins): it may bring attributes of its own, such as a cluster, which
  cannot be read.
- Changed parameters of conditional nodes, and nodes in their bodies.

There are no getters for the parameters of an executable graph, so the graph that was compared is the record of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from forerun.ir import nodes
from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.nodes import Argument, BufferArgument, ConstantArgument, KernelNode, Node, ScalarLoad
from forerun.ir.semantics.written_state import written_state
from forerun.ir.walk import all_nodes
from forerun.runtime.cuda.codegen.specialise import specialise, units
from forerun.runtime.cuda.codegen.unit import ForeignModule, Unit
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.emit.emitter import Emitter
from forerun.runtime.cuda.emit.functions import Functions
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.loading import Loaded
from forerun.runtime.cuda.memory.external import ExternalArray
from forerun.runtime.cuda.memory.resources import NO_TIMING, Resources
from forerun.runtime.plans.difference import Difference, NodeChange
from forerun.runtime.plans.updatable import Way
from forerun.support.diagnostics import InvalidInput

__all__ = ["Flight", "Updater", "require_allocated"]

_KEPT_BY_THE_DRIVER = ("cluster", "cooperative launch")
_DEFAULT_STREAMS = (0, 1, 2)

_Now = tuple[Node, Kernel | None, int]
"""What a node of an executable is: the node, the kernel that it launches, and the number of its unit."""


def require_allocated(resources: Resources) -> None:
    """Check that the driver still knows the memory of all arrays that are used in place.

    Raises:
        InvalidInput: If it does not know one.
    """
    kind = resources.driver.api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    for array in resources.kept:
        if not isinstance(array, ExternalArray):
            continue
        error, *_ = resources.driver.function("cuPointerGetAttribute")(kind, array.address)
        if error:
            message = f"memory of yours at {array.address:#x} was freed, and the program still uses it"
            raise InvalidInput(message, hint="keep the array, or make a plan with another one")


class Flight:
    """Whether launches are over, on whatever streams they were made.

    ``external`` says whether arrays of the caller's are used in place.
    """

    def __init__(self, resources: Resources) -> None:
        driver = resources.driver
        self._driver = driver
        self._context = int(resources.context.handle)
        with resources.context.current():
            self.event = resources.scope.own("event", driver.call("cuEventCreate", NO_TIMING), "cuEventDestroy")
        self.external = any(isinstance(array, ExternalArray) for array in resources.kept)
        self._record = driver.function("cuEventRecord")

    def require_context(self, stream: int) -> None:
        """Check that a stream of the caller's belongs to the context of the program.

        Raises:
            InvalidInput: If it is of another context, or no stream any more.
        """
        if stream in _DEFAULT_STREAMS:
            return
        try:
            context = self._driver.call("cuStreamGetCtx", stream)
        except CudaError as error:
            message = f"stream {stream:#x} cannot be used: {error.message}"
            raise InvalidInput(message, hint="it was destroyed, or is none of this process") from error
        context = context[0] if isinstance(context, tuple) else context
        if int(context) != self._context:
            message = f"stream {stream:#x} belongs to another context than the program"
            raise InvalidInput(message, hint="take a stream of the device's primary context, or load the graph there")

    def note(self, stream: Any) -> None:
        """A launch was made on a stream. All launches of one executable run one after the other, so the last counts.

        Raises:
            CudaError: If the driver refuses.
        """
        (error,) = self._record(self.event, stream)
        if error:
            raise self._driver.failure("cuEventRecord", error)

    def is_over(self) -> bool:
        """Whether the last launch is over.

        Raises:
            CudaError: If a launch failed.
        """
        (error,) = self._driver.function("cuEventQuery")(self.event)
        if not error:
            return True
        failure = self._driver.failure("cuEventQuery", error)
        if failure.code == "CUDA_ERROR_NOT_READY":
            return False
        raise failure


class Updater:
    """The executable of one program, and what its nodes are now."""

    def __init__(self, graph: Graph, loaded: Loaded) -> None:
        self._loaded = loaded
        self._driver: Driver = loaded.resources.driver
        self._emitter: Emitter = loaded.emitter
        self._handles = self._emitter.handles()
        self._arguments = self._emitter.changing
        self._is_timed = loaded.seeds is not None or loaded.timestamps is not None
        self._units: Sequence[Unit] = loaded.functions.code.units
        self._number = {unit: i for i, unit in enumerate(self._units)}
        self._become(graph, loaded.functions.code.unit_of)
        self._set_node: Callable[..., Any] = self._driver.function("cuGraphExecNodeSetParams")
        self.calls: HostCalls = loaded.calls

    def update(self, graph: Graph, difference: Difference) -> tuple[Way, str]:
        """Become another graph; see :class:`forerun.runtime.plans.UpdatableProgram`."""
        reason = self._why_anew(graph, difference)
        if reason:
            return Way.INSTANTIATED, reason
        for change in difference.nodes:
            if "/" in change.path or type(self._now[change.position][0]) is nodes.HostCallbackNode:
                return self._update_whole(graph)
        return self._update_nodes(graph, difference.nodes)

    def _become(self, graph: Graph, unit_of: Mapping[str, int]) -> None:
        """Note what all nodes are now: by launch position, since updates may give them other names."""
        kernels = graph.kernels
        self._now = [
            (node, kernels[node.kernel] if isinstance(node, KernelNode) else None, unit_of.get(name, -1))
            for name, node in graph.nodes.items()
        ]

    def _why_anew(self, graph: Graph, difference: Difference) -> str:
        """Why only a new executable is exact; empty if an update may do."""
        if self._is_timed:
            return "kernels with delays or timestamps are told apart by their memory"
        if self._loaded.saved is not None and written_state(graph) != self._loaded.saved.ranges:
            return "the step writes other state than what is copied before it"
        for change in difference.nodes:
            if change.numbers:
                continue
            for aspect in change.aspects:
                if aspect in _KEPT_BY_THE_DRIVER:
                    return f"the driver's update would keep the old {aspect} of {change.path}"
                if aspect == "place":
                    return f"{change.path} moved to another device"
        return ""

    # One node after the other

    def _update_nodes(self, graph: Graph, changes: Sequence[NodeChange]) -> tuple[Way, str]:
        done: list[tuple[int, _Now]] = []
        remark = ""
        try:
            for change in changes:
                remark = self._update_node(graph, change, done)
                if remark:
                    break
        except BaseException:
            self._undo(done)
            raise
        if remark:
            self._undo(done)
            return Way.INSTANTIATED, remark
        return Way.PARAMETERS, ""

    def _update_node(self, graph: Graph, change: NodeChange, done: list[tuple[int, _Now]]) -> str:
        """Change one node, and add what it was to a list; why it cannot be done, if it cannot."""
        position = change.position
        new, was = graph.node(change.path), self._now[position]
        kernel = graph.kernels[new.kernel] if type(new) is KernelNode else None
        if change.numbers and kernel is was[1]:
            unit, remark = was[2], self._set_numbers(new, was, change)
        else:
            unit, remark = self._unit_for(graph, was, new, kernel)
            remark = remark or self._set(new, position, unit, change.path)
        if not remark:
            done.append((position, was))
            self._now[position] = new, kernel, unit
        return remark

    def _unit_for(self, graph: Graph, was: _Now, new: Node, kernel: Kernel | None) -> tuple[int, str]:
        """The unit that a node launches now, or why none that is loaded will do."""
        old, code, present = was
        if kernel is None or not isinstance(new, KernelNode) or not isinstance(old, KernelNode):
            return present, ""
        if kernel is code and (old.launch is new.launch or old.launch == new.launch):
            moved = _has_other_addresses(graph, old, new)
            if moved is not None:
                return present, self._misaligned(kernel, new) if moved else ""
        unit = specialise(graph, new)
        number = self._number.get(unit, -1)
        if number < 0:
            number = self._with_other_grid(unit)
        if number < 0:
            return present, f"{new.name} needs code that is not loaded"
        if not self._may_swap(present, number):
            return present, f"other given code at {new.name}"
        return number, self._misaligned(kernel, new)

    def _with_other_grid(self, unit: Unit) -> int:
        """Code that is given is the same for every grid and block."""
        if isinstance(unit.source, ForeignModule):
            for number, known in enumerate(self._units):
                launch = replace(unit.launch, grid=known.launch.grid, block=known.launch.block)
                if replace(unit, launch=launch) == known:
                    return number
        return -1

    def _may_swap(self, present: int, number: int) -> bool:
        """Whether a node that launches one unit may launch another: not if attributes may differ that nobody sees."""
        old, new = self._units[present], self._units[number]
        if old.source == new.source and old.entry == new.entry:
            return True
        given = isinstance(old.source, ForeignModule) or isinstance(new.source, ForeignModule)
        return not given and old.launch.cluster is None and not old.launch.cooperative

    def _set(self, node: Node, position: int, unit: int, path: str) -> str:
        """Set the parameters of one node; why it cannot be done, if it cannot."""
        if isinstance(node, KernelNode):
            address = self._arguments.address(position, node, unit, path)
            params = self._emitter.kernel_params(node, unit, address)
        elif isinstance(node, nodes.MemcpyNode | nodes.MemsetNode):
            params = self._emitter.memory_params(node, path)
        else:
            params = None
        if params is None:
            return f"{path} is of a kind whose parameters cannot be set"
        return self._put(params, position, path)

    def _set_numbers(self, node: Any, was: _Now, change: NodeChange) -> str:
        """Set a kernel node that differs from what it was only in some numbers; why it cannot be done, if it cannot."""
        address = self._arguments.address_after(change.position, was[0], node, was[2], change.numbers)
        if not address:
            return self._set(node, change.position, was[2], change.path)
        return self._put(self._emitter.kernel_params(node, was[2], address), change.position, change.path)

    def _put(self, params: Any, position: int, path: str) -> str:
        (error,) = self._set_node(self._loaded.executable, self._handles[position], params)
        return f"the driver refused the parameters of {path} ({getattr(error, 'name', error)})" if error else ""

    def _misaligned(self, kernel: Kernel, node: KernelNode) -> str:
        """Why an address cannot be passed, if one cannot. What is as it was need not be asked for again."""
        for parameter in kernel.buffer_parameters:
            if parameter.align is not None and parameter.align > 1:
                argument = node.argument(parameter.name)
                address = self._loaded.memory.address(argument.buffer) if isinstance(argument, BufferArgument) else 0
                if address % parameter.align:
                    return f"memory at {node.name} is not aligned for '{parameter.name}'"
        return ""

    def _undo(self, done: Sequence[tuple[int, _Now]]) -> None:
        """Put nodes back that were set before one could not be.

        Raises:
            CudaError: If the driver refuses what it took before.
        """
        for position, was in reversed(done):
            self._now[position] = was
            node, _, unit = was
            remark = self._set(node, position, unit, node.name)
            if remark:
                raise CudaError("cuGraphExecNodeSetParams", "CUDA_ERROR_UNKNOWN", node=node.name, detail=remark)

    # All at once

    def _update_whole(self, graph: Graph) -> tuple[Way, str]:
        """``cuGraphExecUpdate`` with a CUDA graph that is made for this, and not kept."""
        if any(isinstance(node, nodes.ConditionalNode) for _, node in all_nodes(graph)):
            return Way.INSTANTIATED, "the driver updates no conditional nodes"
        functions, remark = self._functions_for(graph)
        if functions is None:
            return Way.INSTANTIATED, remark
        loaded, calls = self._loaded, HostCalls()
        calls.failed = self.calls.failed
        scope = Scope(self._driver)
        try:
            with loaded.resources.context.current():
                context = loaded.resources.context.handle
                made = Emitter(scope, graph, loaded.memory, functions, context, calls).emit(loaded.first_node)
                error, *_ = self._driver.function("cuGraphExecUpdate")(loaded.executable, made)
        finally:
            scope.release()
        if error:
            return Way.INSTANTIATED, f"the driver refused to update the graph ({getattr(error, 'name', error)})"
        loaded.resources.until_idle[:] = [c for c in loaded.resources.until_idle if c is not self.calls] + [calls]
        self.calls = calls
        self._become(graph, functions.code.unit_of)
        return Way.WHOLE_GRAPH, "nodes in child graphs, and host calls, cannot be set one by one"

    def _functions_for(self, graph: Graph) -> tuple[Functions | None, str]:
        """What the nodes of a graph launch, if all of it is loaded and may take the place of what is launched now."""
        wanted, unit_of = units(graph)
        numbers = [self._number.get(unit, -1) for unit in wanted]
        if -1 in numbers:
            return None, "code is needed that is not loaded"
        code = self._loaded.functions.code
        found = {path: numbers[unit] for path, unit in unit_of.items()}
        before = [code.unit_of[path] for path in code.unit_of]
        for path, old, new in zip(found, before, found.values(), strict=True):
            if not self._may_swap(old, new):
                return None, f"other given code at {path}"
        return replace(self._loaded.functions, code=replace(code, unit_of=found)), ""


def _has_other_addresses(graph: Graph, old: KernelNode, new: KernelNode) -> bool | None:
    """Whether a launch gets other buffers than before; ``None`` if it takes other code than before."""
    moved = False
    for (_, a), (_, b) in zip(old.arguments, new.arguments, strict=True):
        if a is b or (type(a) is ConstantArgument and type(b) is ConstantArgument) or a == b:
            continue
        if not _is_alike(graph, a, b):
            return None
        moved = True
    return moved


def _is_alike(graph: Graph, old: Argument, new: Argument) -> bool:
    """Whether code for one buffer does for another."""
    if isinstance(old, BufferArgument) and isinstance(new, BufferArgument):
        return graph.buffers[old.buffer].shape == graph.buffers[new.buffer].shape
    if isinstance(old, ScalarLoad) and isinstance(new, ScalarLoad):
        return graph.buffers[old.buffer].dtype is graph.buffers[new.buffer].dtype
    return False
