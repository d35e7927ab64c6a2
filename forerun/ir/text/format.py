"""The parts of lines: regions, types, kernel signatures, launches, and the heads of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from forerun.ir.affine import Affine
from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.graph import Dependency, Hazard
from forerun.ir.kernel import (
    Access,
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
from forerun.ir.nodes import (
    AllocNode,
    BufferArgument,
    ChildGraphNode,
    ConditionalNode,
    ConstantArgument,
    EmptyNode,
    EventRecordNode,
    EventWaitNode,
    FreeNode,
    HostCallbackNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import BufferView, Region, Slice
from forerun.ir.text.spelling import integer, number, quote, reference, unprintable, word
from forerun.ir.types import DEVICE0, HOST, BufferRole, DependencyKind, DType, Place

__all__ = [
    "CONDITIONAL_KINDS",
    "HAZARD_KINDS",
    "LANGUAGES",
    "PLACE_KINDS",
    "allocation_line",
    "buffer_line",
    "dependency_tail",
    "is_private",
    "kernel_head",
    "node_head",
    "role_head",
    "step_line",
]

# Fields that are plain strings in the IR: these words are written bare, all others in quotes.
HAZARD_KINDS = ("RAW", "WAR", "WAW")
PLACE_KINDS = ("device", "host")
LANGUAGES = ("cuda", "ptx", "cubin")
CONDITIONAL_KINDS = ("if", "while", "switch")

_DEFAULT_LAUNCH = Launch()


# Memory


def allocation_line(allocation: Allocation) -> str:
    """``alloc $arena : 65536 on device:0``."""
    return f"alloc {reference('$', allocation.name)} : {integer(allocation.size)}{_on(allocation.place, None)}"


def is_private(buffer: Buffer, allocation: Allocation | None) -> bool:
    """Whether ``allocation`` is exactly the memory of ``buffer`` and has its name, so that one line says both."""
    return (
        allocation is not None
        and buffer.name == buffer.allocation
        and type(buffer.offset) is int
        and buffer.offset == 0
        and all(type(extent) is int for extent in buffer.shape)
        and type(buffer.dtype) is DType
        and allocation.size == buffer.size
    )


def buffer_line(buffer: Buffer, private: Allocation | None) -> str:
    """``buffer %x : f32[576] temp``; ``private`` is the allocation that the line declares too, if it does."""
    line = f"buffer {reference('%', buffer.name)} : {_name_of(buffer.dtype, DType)}{_dims(buffer.shape, integer)}"
    line += " " + _name_of(buffer.role, BufferRole)
    if buffer.index is not None:
        line += " " + _index(buffer.index)
    if buffer.bounds is not None:
        line += " in " + _bounds(buffer.bounds)
    if private is not None:
        return line + _on(private.place, DEVICE0)
    line += " at " + reference("$", buffer.allocation)
    return line if buffer.offset == 0 else line + _signed(buffer.offset)


def _index(index: Any) -> str:
    if type(index) is Paged:
        return f"paged({reference('%', index.table)}, {integer(index.page_size)})"
    return f"ragged({reference('%', index.offsets)})" if type(index) is Ragged else unprintable(index)


def _bounds(bounds: Any) -> str:
    if type(bounds) is not tuple or len(bounds) != 2:
        return unprintable(bounds)
    return f"{integer(bounds[0])}..{integer(bounds[1])}"


def _dims(dims: Any, spell: Callable[[Any], str]) -> str:
    return f"[{', '.join(map(spell, dims))}]" if type(dims) is tuple else unprintable(dims)


def _name_of(member: Any, kind: type) -> str:
    return str(member) if type(member) is kind else unprintable(member)


def _on(place: Any, default: Place | None) -> str:
    if place is default or place == default:
        return ""
    if type(place) is not Place:
        return " on " + unprintable(place)
    return " on host" if place == HOST else f" on {word(place.kind, PLACE_KINDS)}:{integer(place.index)}"


def _signed(offset: Any) -> str:
    text = integer(offset)
    return f" - {text[1:]}" if text[0] == "-" else f" + {text}"


# Regions


def _affine(value: Any) -> str:
    if type(value) is not Affine:
        return unprintable(value)
    if not value.terms:
        return integer(value.constant)
    symbols = [symbol for symbol, _ in value.terms]
    if symbols != sorted(set(symbols)) or not all(coefficient for _, coefficient in value.terms):
        return unprintable(value)  # built by hand: what is parsed is always sorted, without zeros
    parts = [_term(symbol, coefficient) for symbol, coefficient in value.terms]
    if value.constant != 0:
        parts.append(_signed(value.constant))
    text = "".join(parts)
    return text[3:] if text.startswith(" + ") else "-" + text[3:]


def _term(symbol: Any, coefficient: Any) -> str:
    sign, magnitude = _signed(coefficient)[:3], _signed(coefficient)[3:]
    return sign + word(symbol) if magnitude == "1" else f"{sign}{magnitude}*{word(symbol)}"


def _slice(part: Any) -> str:
    if part is None:
        return ":"
    return f"{_affine(part.start)}:{_affine(part.stop)}" if type(part) is Slice else unprintable(part)


def _region(region: Any) -> str:
    if type(region) is not Region:
        return unprintable(region)
    return _dims(region.slices, _slice) if region.slices != () else ""


def _access(access: Any) -> str:
    return word(access.parameter) + _region(access.region) if type(access) is Access else unprintable(access)


def _view(view: Any) -> str:
    return reference("%", view.buffer) + _region(view.region) if type(view) is BufferView else unprintable(view)


# Kernels


def kernel_head(kernel: Kernel) -> str:
    """Everything of a kernel but its body: ``kernel @gemv(w: f32[N, K], n: scalar i32) cuda("file", "entry")``."""
    head = f"kernel {reference('@', kernel.name)}({', '.join(map(_parameter, kernel.parameters))})"
    if kernel.roles is None:
        head += " opaque"
    return head + "".join(map(_implementation, kernel.implementations))


def _parameter(parameter: Any) -> str:
    name, dtype = word(parameter.name), _name_of(parameter.dtype, DType)
    if type(parameter) is ScalarParameter:
        return f"{name}: scalar {dtype}"
    if type(parameter) is not BufferParameter:
        return unprintable(parameter)
    return f"{name}: {dtype}" + ("" if parameter.dims is None else _dims(parameter.dims, _dim))


def _dim(dim: Any) -> str:
    return "_" if dim is None else word(dim) if type(dim) is str else integer(dim)


def _implementation(implementation: Any) -> str:
    if type(implementation) is not Implementation:
        return " " + unprintable(implementation)
    source, entry = quote(implementation.source), quote(implementation.entry)
    return f" {word(implementation.language, LANGUAGES)}({source}, {entry})"


def role_head(role: Role) -> str:
    """``role main warps 4``."""
    return f"role {word(role.name)}" + ("" if role.warps is None else f" warps {integer(role.warps)}")


def step_line(step: Step) -> str:
    """A phase with its clauses, or ``wait``, ``trigger``, ``barrier``."""
    if type(step) is Phase:
        return _phase(step)
    if type(step) is Wait:
        return "wait"
    if type(step) is Trigger:
        return "trigger"
    if type(step) is not Barrier:
        return unprintable(step)
    return "barrier" if step.scope == "cta" else f"barrier {word(step.scope, ('grid',))}"


def _phase(phase: Phase) -> str:
    line = f"phase {word(phase.name)}"
    line += _clause("reads", map(_access, phase.reads)) + _clause("takes", map(word, phase.takes))
    line += _clause("scalars", map(word, phase.scalars))
    line += _clause("gives", map(word, phase.gives)) + _clause("writes", map(_access, phase.writes))
    line += _flag("async", phase.asynchronous)
    return line if phase.reference is None else f"{line} ref {quote(phase.reference)}"


def _clause(keyword: str, items: Iterable[str]) -> str:
    text = ", ".join(items)
    return f" {keyword} {text}" if text else ""


def _flag(keyword: str, value: Any) -> str:
    if value is True:
        return f" {keyword}"
    return "" if value is False else f" {keyword} {unprintable(value)}"


# Nodes


def node_head(node: Node) -> str:
    """A node without the bodies and the dependencies: ``node #q = @gemv(w=%w, x=%h, y=%q) grid(72) block(128)``."""
    spell = _NODE_KINDS.get(type(node))
    text = unprintable(node) if spell is None else spell(node)
    return f"node {reference('#', node.name)} = {text}"


def _kernel_node(node: KernelNode) -> str:
    arguments = ", ".join([f"{word(name)}={_argument(argument)}" for name, argument in node.arguments])
    text = f"{reference('@', node.kernel)}({arguments})"
    if node.launch is not _DEFAULT_LAUNCH and node.launch != _DEFAULT_LAUNCH:
        text += _launch(node.launch)
    return text + _on(node.place, DEVICE0)


def _argument(argument: Any) -> str:
    kind = type(argument)
    if kind is BufferArgument:
        return reference("%", argument.buffer)
    if kind is ConstantArgument:
        return number(argument.value)
    if kind is not ScalarLoad:
        return unprintable(argument)
    offset = "" if argument.offset == 0 else _signed(argument.offset)
    return f"load({reference('%', argument.buffer)}[{integer(argument.index)}]{offset})"


def _launch(launch: Any) -> str:
    if type(launch) is not Launch:
        return " " + unprintable(launch)
    text = f" grid{_dim3(launch.grid)} block{_dim3(launch.block)}"
    if launch.shared_bytes != 0:
        text += f" shared({integer(launch.shared_bytes)})"
    if launch.cluster is not None:
        text += f" cluster{_dim3(launch.cluster)}"
    return text + _flag("cooperative", launch.cooperative)


def _dim3(dims: Any) -> str:
    if type(dims) is not tuple or len(dims) != 3:
        return unprintable(dims)
    x, y, z = dims
    shown = (x, y, z) if z != 1 else (x, y) if y != 1 else (x,)
    return f"({', '.join(map(integer, shown))})"


def _host_node(node: HostCallbackNode) -> str:
    reads, writes = _clause("reads", map(_view, node.reads)), _clause("writes", map(_view, node.writes))
    return f"host {quote(node.function)}{reads}{writes}{_on(node.place, HOST)}"


_NODE_KINDS: dict[type, Callable[[Any], str]] = {
    KernelNode: _kernel_node,
    MemcpyNode: lambda n: f"copy {_view(n.source)} -> {_view(n.destination)}{_on(n.place, DEVICE0)}",
    MemsetNode: lambda n: f"fill {_view(n.destination)} with {integer(n.value)}{_on(n.place, DEVICE0)}",
    HostCallbackNode: _host_node,
    EmptyNode: lambda n: f"empty{_on(n.place, DEVICE0)}",
    AllocNode: lambda n: f"alloc {reference('$', n.allocation)}{_on(n.place, DEVICE0)}",
    FreeNode: lambda n: f"free {reference('$', n.allocation)}{_on(n.place, DEVICE0)}",
    EventRecordNode: lambda n: f"event_record {quote(n.event)}{_on(n.place, DEVICE0)}",
    EventWaitNode: lambda n: f"event_wait {quote(n.event)}{_on(n.place, DEVICE0)}",
    ChildGraphNode: lambda n: f"child{_on(n.place, DEVICE0)}",
    ConditionalNode: lambda n: f"{_condition(n)}{_on(n.place, DEVICE0)}",
}


def _condition(node: ConditionalNode) -> str:
    condition = reference("%", node.condition)
    if node.kind in CONDITIONAL_KINDS:
        return f"{node.kind} {condition}"
    return f"conditional {quote(node.kind)} {condition}"


# Dependencies


def dependency_tail(dependency: Dependency) -> str:
    """The kind and the hazards: ``full RAW %h, WAR %q``."""
    tail = _name_of(dependency.kind, DependencyKind)
    return tail + _clause("", map(_hazard, dependency.hazards)).replace("  ", " ", 1)


def _hazard(hazard: Any) -> str:
    if type(hazard) is not Hazard:
        return unprintable(hazard)
    return f"{word(hazard.kind, HAZARD_KINDS)} {reference('%', hazard.buffer)}"
