"""A node's arguments as CUDA C++ sees them: the structs of a specialisation, and the entry's slots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from forerun.ir.bound_kernel import named_extents
from forerun.ir.buffer import Buffer
from forerun.ir.graph import Graph
from forerun.ir.kernel import BufferParameter, Kernel, ScalarParameter
from forerun.ir.nodes import Argument, BufferArgument, ConstantArgument, KernelNode, Launch, ScalarLoad
from forerun.ir.types import DType
from forerun.runtime.c_types import C_TYPES
from forerun.runtime.cuda.codegen.body import CannotGenerate, RoleWarps
from forerun.runtime.cuda.codegen.names import CONSTANT_TYPES, identifiers
from forerun.runtime.cuda.codegen.unit import Slot

__all__ = ["Binding", "bind", "structs"]

_INT_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Binding:
    """A node's arguments.

    By parameter: the buffer that is bound to it, and its member of ``Arguments``, by name and by type. In order: the
    entry's slots, with their names and types in C++, and the initialisers of the members.
    """

    buffers: Mapping[str, Buffer]
    members: Mapping[str, str]
    fields: Mapping[str, str]
    slots: tuple[Slot, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    initialisers: tuple[str, ...]


def bind(graph: Graph, node: KernelNode, kernel: Kernel) -> Binding:
    """The arguments of a node.

    Raises:
        CannotGenerate: If an argument is missing, or cannot be passed.
    """
    written = {access.parameter for phase in kernel.phases for access in phase.writes}
    buffers: dict[str, Buffer] = {}
    fields: dict[str, str] = {}
    slots: list[Slot] = []
    types: list[str] = []
    for parameter in kernel.parameters:
        argument = node.argument(parameter.name)
        if isinstance(parameter, BufferParameter):
            buffers[parameter.name] = _buffer(graph, parameter, argument)
            const = "" if kernel.is_black_box or parameter.name in written else "const "
            new = [(Slot(parameter.name, "pointer", parameter.dtype), f"{const}{C_TYPES[parameter.dtype]}*")]
            fields[parameter.name] = new[0][1]
        else:
            new = _scalar(graph, parameter, argument)
            fields[parameter.name] = _field(new)
        slots += [slot for slot, _ in new]
        types += [text for _, text in new]
    labels = [s.parameter if s.kind in ("pointer", "scalar") else f"{s.parameter} {s.kind}" for s in slots]
    unique = identifiers(labels)
    names = tuple(unique[label] for label in labels)
    initialisers = tuple(_initialiser(p.name, slots, names) for p in kernel.parameters)
    members = identifiers(p.name for p in kernel.parameters)
    return Binding(buffers, members, fields, tuple(slots), names, tuple(types), initialisers)


def _buffer(graph: Graph, parameter: BufferParameter, argument: Argument | None) -> Buffer:
    if not isinstance(argument, BufferArgument):
        raise CannotGenerate(f"no buffer is bound to '{parameter.name}'")
    buffer = graph.buffers[argument.buffer]
    if parameter.dims is not None and len(parameter.dims) != len(buffer.shape):
        unbound = [dim for dim in parameter.dims if isinstance(dim, str)]
        what = f"dimension '{unbound[0]}'" if unbound else "a dimension"
        message = f"has {len(parameter.dims)} dimensions, but %{buffer.name} has {len(buffer.shape)}"
        raise CannotGenerate(f"{what} has no extent: '{parameter.name}' {message}")
    return buffer


def _scalar(graph: Graph, parameter: ScalarParameter, argument: Argument | None) -> list[tuple[Slot, str]]:
    name, dtype = parameter.name, parameter.dtype
    match argument:
        case ConstantArgument(value=value):
            if dtype not in CONSTANT_TYPES:
                raise CannotGenerate(f"scalar '{name}' is {dtype}, which cannot be passed by value: declare it f32")
            if not dtype.is_float and not _fits(dtype, value):
                raise CannotGenerate(f"scalar '{name}' is {dtype}, but {value} is bound to it")
            return [(Slot(name, "scalar", dtype), C_TYPES[dtype])]
        case ScalarLoad(buffer=source, offset=offset):
            stored = graph.buffers[source].dtype
            if dtype.is_float or stored.is_float:
                raise CannotGenerate(
                    f"scalar '{name}' ({dtype}) is loaded from %{source} ({stored}): both must be integers"
                )
            if not _fits(dtype, offset):
                raise CannotGenerate(f"scalar '{name}' is {dtype}, but {offset} is to be added to it")
            address = Slot(name, "address", stored), f"const {C_TYPES[stored]}*"
            return [address, (Slot(name, "offset", dtype), C_TYPES[dtype])]
        case BufferArgument() | None:
            raise CannotGenerate(f"no scalar is bound to '{name}'")
        case _:
            assert_never(argument)


def _fits(dtype: DType, value: int | float) -> bool:
    bits = 8 * dtype.itemsize
    low, high = (-(1 << bits - 1), 1 << bits - 1) if dtype.is_signed else (0, 1 << bits)
    return isinstance(value, int) and low <= value < high


def _field(slots: Sequence[tuple[Slot, str]]) -> str:
    value = C_TYPES[slots[-1][0].dtype]
    if len(slots) == 1:
        return f"Constant<{value}>"
    stored = C_TYPES[slots[0][0].dtype]
    return f"Loaded<{value}>" if stored == value else f"Loaded<{value}, {stored}>"


def _initialiser(parameter: str, slots: Sequence[Slot], names: Sequence[str]) -> str:
    own = [(slot.kind, name) for slot, name in zip(slots, names, strict=True) if slot.parameter == parameter]
    listed = ", ".join(name for _, name in own)
    return listed if own[0][0] == "pointer" else f"{{{listed}}}"


def structs(kernel: Kernel, binding: Binding, launch: Launch, roles: Sequence[RoleWarps]) -> Iterator[str]:
    """The structs that phase functions may use: dimensions, types, the launch, the roles, and the arguments."""
    yield from _struct("Dims", _dimensions(kernel, binding))
    types = [f"using {binding.members[p.name]} = {C_TYPES[p.dtype]};" for p in kernel.buffer_parameters]
    yield from _struct("Types", types)
    (grid, block), threads = (launch.grid, launch.block), math.prod(launch.block)
    yield "struct Launch {"
    yield f"    static constexpr int grid_x = {grid[0]}, grid_y = {grid[1]}, grid_z = {grid[2]};"
    yield f"    static constexpr int block_x = {block[0]}, block_y = {block[1]}, block_z = {block[2]};"
    yield f"    static constexpr int threads = {threads}, shared_bytes = {launch.shared_bytes};"
    if launch.cluster is not None:
        yield f"    static constexpr int cluster = {math.prod(launch.cluster)};"
    yield "};"
    if len(roles) > 1:
        names = identifiers(warps.role.name for warps in roles)
        yield from _struct("Roles", [_role(names[warps.role.name], warps) for warps in roles])
    yield from _struct("Arguments", [f"{binding.fields[p.name]} {binding.members[p.name]};" for p in kernel.parameters])


def _struct(name: str, members: Sequence[str]) -> Iterator[str]:
    if not members:
        yield f"struct {name} {{}};"
        return
    yield f"struct {name} {{"
    yield from (f"    {member}" for member in members)
    yield "};"


def _dimensions(kernel: Kernel, binding: Binding) -> list[str]:
    extents: dict[str, int] = {}
    for parameter in kernel.buffer_parameters:
        for dim, extent in named_extents(parameter, binding.buffers[parameter.name].shape):
            if extents.setdefault(dim, extent) != extent:
                raise CannotGenerate(f"dimension '{dim}' is {extents[dim]} and {extent}")
    names = identifiers(extents)
    return [
        f"static constexpr {'int' if extent <= _INT_MAX else 'long long'} {names[dim]} = {extent};"
        for dim, extent in extents.items()
    ]


def _role(name: str, warps: RoleWarps) -> str:
    threads = 32 * (warps.stop - warps.first)
    return f"struct {name} {{ static constexpr int first_thread = {warps.first_thread}, threads = {threads}; }};"
