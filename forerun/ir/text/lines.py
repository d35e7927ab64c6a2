"""The lines of the text form, one function each: allocation, buffer, kernel, role, step, node, dependency."""

from __future__ import annotations

from functools import partial
from typing import Any, Never

from forerun.ir import nodes
from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.contents import integers_of
from forerun.ir.graph import Dependency, Hazard
from forerun.ir.kernel import (
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.launches import Launches, Span
from forerun.ir.text.spelling import integer, number, quote, reference, unprintable, word
from forerun.ir.text.value_reader import (
    CONDITIONAL_KINDS,
    HAZARD_KINDS,
    LANGUAGES,
    access,
    bracketed,
    clause,
    flag,
    joined,
    member,
    on,
    signed,
    view,
)
from forerun.ir.types import DEVICE0, HOST, BufferRole, DependencyKind, DType

__all__ = [
    "allocation_line",
    "buffer_line",
    "dependency_tail",
    "is_private",
    "kernel_line",
    "node_line",
    "role_line",
    "step_line",
]

_DEFAULT_LAUNCH = nodes.Launch()


# Memory


def allocation_line(allocation: Allocation) -> str:
    """``alloc $arena : 65536 on device:0``."""
    return f"alloc {reference('$', allocation.name)} : {integer(allocation.size)}{on(allocation.place)}"


def is_private(buffer: Buffer, allocation: Allocation) -> bool:
    """Whether ``allocation`` is exactly the memory of ``buffer`` and has its name, so that one line says both."""
    return (
        buffer.name == buffer.allocation
        and buffer.offset == 0
        and type(buffer.dtype) is DType
        and type(buffer.shape) is tuple
        and all(type(extent) is int for extent in buffer.shape)
        and allocation.size == buffer.size
    )


def buffer_line(buffer: Buffer, private: Allocation | None = None) -> str:
    """``buffer %x : f32[576] temp``; ``private`` is the allocation that the line declares too, if it does."""
    line = f"buffer {reference('%', buffer.name)} : {member(buffer.dtype, DType)}{bracketed(buffer.shape, integer)}"
    line += " " + member(buffer.role, BufferRole)
    if buffer.index is not None:
        line += " " + _index(buffer.index)
    if buffer.bounds is not None:
        line += " in " + _bounds(buffer.bounds)
    if buffer.ascending is not False:
        line += " ascending" if buffer.ascending is True else " " + unprintable(buffer.ascending)
    if buffer.contents is not None:
        line += " holds " + _contents(buffer)
    if private is not None:
        return line + on(private.place, DEVICE0)
    line += " at " + reference("$", buffer.allocation)
    return line if buffer.offset == 0 else line + signed(buffer.offset)


def _index(index: Any) -> str:
    if type(index) is Paged:
        return f"paged({reference('%', index.table)}, {integer(index.page_size)})"
    return f"ragged({reference('%', index.offsets)})" if type(index) is Ragged else unprintable(index)


def _bounds(bounds: Any) -> str:
    if type(bounds) is not tuple or len(bounds) != 2:
        return unprintable(bounds)
    return f"{integer(bounds[0])}..{integer(bounds[1])}"


def _contents(buffer: Buffer) -> str:
    """The elements, as integers; of floating point types their bits."""
    contents = buffer.contents
    if type(contents) is not bytes or type(buffer.dtype) is not DType or len(contents) % buffer.dtype.itemsize:
        return unprintable(contents)
    return bracketed(integers_of(buffer.dtype, contents), hex if buffer.dtype.is_float else integer)


# Kernels


def kernel_line(kernel: Kernel) -> str:
    """Everything of a kernel but its body: ``kernel @gemv(w: f32[N, K], n: scalar i32) cuda("file", "entry")``."""
    line = f"kernel {reference('@', kernel.name)}({joined(kernel.parameters, _parameter)})"
    if kernel.launches is not None:
        line += _launches(kernel.launches)
    if kernel.roles is None:
        line += " opaque"
    if kernel.implementations == ():
        return line
    return line + " " + joined(kernel.implementations, _implementation)


def _parameter(parameter: Any) -> str:
    if type(parameter) is ScalarParameter:
        return f"{word(parameter.name)}: scalar {member(parameter.dtype, DType)}"
    if type(parameter) is not BufferParameter:
        return unprintable(parameter)
    text = f"{word(parameter.name)}: {member(parameter.dtype, DType)}"
    text += "" if parameter.dims is None else bracketed(parameter.dims, _dim)
    return text if parameter.align is None else f"{text} align {integer(parameter.align)}"


def _launches(launches: Any) -> str:
    """`` launches block(32..1024 step 32)``."""
    if type(launches) is not Launches:
        return f" launches {unprintable(launches)}"
    given = [f"{name}({_span(span)})" for name, span in launches.spans()]
    return " launches " + (" ".join(given) or "any")


def _span(span: Any) -> str:
    if type(span) is not Span:
        return unprintable(span)
    if span.start == span.stop and span.step == 1:
        return integer(span.start)
    step = "" if span.step == 1 else f" step {integer(span.step)}"
    return f"{integer(span.start)}..{integer(span.stop)}{step}"


def _dim(dim: Any) -> str:
    return "_" if dim is None else word(dim) if type(dim) is str else integer(dim)


def _implementation(implementation: Any) -> str:
    if type(implementation) is not Implementation:
        return unprintable(implementation)
    source, entry = quote(implementation.source), quote(implementation.entry)
    return f"{word(implementation.language, LANGUAGES)}({source}, {entry})"


def role_line(role: Role) -> str:
    """``role main warps 4``."""
    return f"role {word(role.name)}" + ("" if role.warps is None else f" warps {integer(role.warps)}")


def step_line(step: Step) -> str:
    """A phase with its clauses, or ``wait``, ``trigger``, ``barrier``."""
    if type(step) is Phase:
        return _phase(step)
    if type(step) is Wait:
        return "wait"
    if type(step) is Trigger:
        return f"trigger{flag('fence', step.fenced)}"
    if type(step) is not Barrier:
        return unprintable(step)
    return "barrier" if step.scope == "cta" else f"barrier {word(step.scope, ('grid',))}"


def _phase(phase: Phase) -> str:
    line = f"phase {word(phase.name)}{clause('reads', phase.reads, access)}{clause('uses', phase.uses, word)}"
    line += clause("scalars", phase.scalars, word)
    line += clause("defines", phase.defines, word) + clause("writes", phase.writes, access)
    line += flag("async", phase.asynchronous)
    return line if phase.reference is None else f"{line} ref {quote(phase.reference)}"


# Nodes


def node_line(node: nodes.Node) -> str:
    """A node without its bodies and dependencies: ``node #q = @gemv(w=%w, x=%h, y=%q) grid(72) block(128)``."""
    return f"node {reference('#', node.name)} = {_node_text(node)}"


def _node_text(node: nodes.Node) -> str:
    match node:
        case nodes.KernelNode():
            return _kernel_node(node)
        case nodes.MemcpyNode():
            return f"copy {view(node.source)} -> {view(node.destination)}{on(node.place, DEVICE0)}"
        case nodes.MemsetNode():
            return f"fill {view(node.destination)} with {integer(node.value)}{on(node.place, DEVICE0)}"
        case nodes.HostCallbackNode():
            accessed = clause("reads", node.reads, view) + clause("writes", node.writes, view)
            return f"host {quote(node.function)}{flag('pure', node.pure)}{accessed}{on(node.place, HOST)}"
        case nodes.EmptyNode():
            return f"empty{on(node.place, DEVICE0)}"
        case nodes.AllocNode() | nodes.FreeNode():
            word_ = "alloc" if isinstance(node, nodes.AllocNode) else "free"
            return f"{word_} {reference('$', node.allocation)}{on(node.place, DEVICE0)}"
        case nodes.EventRecordNode() | nodes.EventWaitNode():
            word_ = "event_record" if isinstance(node, nodes.EventRecordNode) else "event_wait"
            return f"{word_} {quote(node.event)}{on(node.place, DEVICE0)}"
        case nodes.ChildGraphNode():
            return f"child{on(node.place, DEVICE0)}"
        case nodes.ConditionalNode():
            kind = node.kind if node.kind in CONDITIONAL_KINDS else f"conditional {quote(node.kind)}"
            return f"{kind} {reference('%', node.condition)}{on(node.place, DEVICE0)}"
        case _:
            forgotten: Never = node  # a kind of node fails the type check here; a graph may hold any object
            return unprintable(forgotten)


def _kernel_node(node: nodes.KernelNode) -> str:
    text = f"{reference('@', node.kernel)}({joined(node.arguments, _bound)})"
    if node.launch is not _DEFAULT_LAUNCH and node.launch != _DEFAULT_LAUNCH:
        text += _launch(node.launch)
    text += on(node.place, DEVICE0)
    return text if node.fuses == () else f"{text} fuses {joined(node.fuses, partial(reference, '#'))}"


def _some(partial: Any) -> str:
    """``some`` before a buffer of which a node touches only some bytes."""
    return f"{flag('some', partial)} ".lstrip() if partial is not False else ""


def _bound(pair: Any) -> str:
    name, argument = pair if type(pair) is tuple else ()  # what this raises marks the node
    kind = type(argument)
    if kind is nodes.BufferArgument:
        return f"{word(name)}={_some(argument.partial)}{reference('%', argument.buffer)}"
    if kind is nodes.ConstantArgument:
        named = "" if argument.name == "" else f" as {word(argument.name)}"
        return f"{word(name)}={number(argument.value)}{named}"
    if kind is not nodes.ScalarLoad:
        return f"{word(name)}={unprintable(argument)}"
    offset = "" if argument.offset == 0 else signed(argument.offset)
    return f"{word(name)}=load({reference('%', argument.buffer)}[{integer(argument.index)}]{offset})"


def _launch(launch: Any) -> str:
    if type(launch) is not nodes.Launch:
        return " " + unprintable(launch)
    text = f" grid{_dim3(launch.grid)} block{_dim3(launch.block)}"
    if launch.shared_bytes != 0:
        text += f" shared({integer(launch.shared_bytes)})"
    if launch.cluster is not None:
        text += f" cluster{_dim3(launch.cluster)}"
    return text + flag("cooperative", launch.cooperative)


def _dim3(dims: Any) -> str:
    if type(dims) is not tuple or len(dims) != 3:
        return unprintable(dims)
    x, y, z = dims
    return f"({joined((x, y, z) if z != 1 else (x, y) if y != 1 else (x,), integer)})"


# Dependencies


def dependency_tail(dependency: Dependency) -> str:
    """The kind and the hazards: ``full RAW %h, WAR %q``."""
    kind = member(dependency.kind, DependencyKind)
    return kind if dependency.hazards == () else f"{kind} {joined(dependency.hazards, _hazard)}"


def _hazard(hazard: Any) -> str:
    if type(hazard) is not Hazard:
        return unprintable(hazard)
    return f"{word(hazard.kind, HAZARD_KINDS)} {reference('%', hazard.buffer)}"
