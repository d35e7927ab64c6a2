"""CUDA C++ for phases whose references are functions of :mod:`forerun.testing.hashing`.

They hash what they read, take and use, as the declaration lists it, and store elements made of the hash. So random
kernels, of which there is nothing but a declaration, run on a GPU and compute what the reference target computes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from forerun.ir.affine import Affine
from forerun.ir.bound_kernel import named_extents
from forerun.ir.buffer import Buffer
from forerun.ir.kernel import Access, Kernel, Phase
from forerun.ir.region import Slice
from forerun.ir.types import DType
from forerun.runtime.c_types import C_TYPES
from forerun.runtime.cuda.codegen.body import CannotGenerate, RoleWarps, phase_names
from forerun.runtime.cuda.codegen.generated import GeneratedPhases
from forerun.runtime.cuda.codegen.names import identifiers

__all__ = ["generated_phases"]

_WIDTHS = {"store_1": 1, "store_2": 2, "store_4": 4}
_STORED = frozenset({DType.I8, DType.I16, DType.I32, DType.I64, DType.F32, DType.F64})


def generated_phases(
    kernel: Kernel, buffers: Mapping[str, Buffer], members: Mapping[str, str], roles: Sequence[RoleWarps]
) -> GeneratedPhases:
    """A :class:`~forerun.runtime.cuda.codegen.generated.PhaseGenerator`."""
    text = "\n".join(_Generator(kernel, buffers, members).text(roles))
    return GeneratedPhases(text, "forerun.testing:hashing.cu")


class _Generator:
    """The text of one kernel's phases."""

    def __init__(self, kernel: Kernel, buffers: Mapping[str, Buffer], members: Mapping[str, str]) -> None:
        self.kernel = kernel
        self.buffers = buffers
        self.members = members
        self.functions = phase_names(kernel)
        self.locals = identifiers(name for phase in kernel.phases for name in phase.defines)
        dims = dict(e for p in kernel.buffer_parameters for e in named_extents(p, buffers[p.name].shape))
        self.dims = {name: extent for name, extent in dims.items() if kernel.parameter(name) is None}
        given = {name: role.name for role in kernel.roles or () for phase in role.phases for name in phase.defines}
        self.shared = {
            name for role in kernel.roles or () for p in role.phases for name in p.uses if given[name] != role.name
        }

    def text(self, roles: Sequence[RoleWarps]) -> Iterator[str]:
        kept = [name for name in self.locals if name not in self.shared]
        # A thread's registers are its own: what another role uses goes through shared memory.
        yield from (f"__shared__ int shared_{self.locals[name]};" for name in self.locals if name in self.shared)
        yield "struct Locals {"
        yield from (f"    int {self.locals[name]};" for name in kept)
        yield "};"
        for warps in roles:
            for phase in warps.role.phases:
                yield ""
                yield from self.phase(phase, warps.first_thread)

    def phase(self, phase: Phase, first_thread: int) -> Iterator[str]:
        width = self.width(phase)
        yield f"// {_described(phase)}"
        yield f"__device__ __forceinline__ void {self.functions[phase.name]}(const Arguments& a, Locals& l) {{"
        yield f"    if (!is_alone({first_thread})) return;"
        used = [*phase.scalars, *(s for a in (*phase.reads, *phase.writes) for s in a.region.symbols)]
        for name in dict.fromkeys(name for name in used if name not in self.dims):
            yield f"    const long long {self.scalar(name)} = a.{self.members[name]}();"
        yield f"    Hash hash({len(phase.reads) + len(phase.uses) + len(phase.scalars)});"
        for access in phase.reads:
            yield from self.elements(access, "hash.add(load_global(a.{0} + {1}));")
        yield from (f"    hash.add({self.local(name)});" for name in phase.uses)
        yield from (f"    hash.add({self.scalar(name)});" for name in phase.scalars)
        yield from (f"    {self.local(name)} = hash.element(0);" for name in phase.defines)
        if phase.writes:
            self.check_width(phase, width)
            yield "    int k = 0;"
            stored = C_TYPES[self.buffers[phase.writes[0].parameter].dtype]
            yield from self.elements(phase.writes[0], f"a.{{0}}[{{1}}] = static_cast<{stored}>(hash.element(k++));")
        yield "}"

    def width(self, phase: Phase) -> int:
        """How many elements the phase's function returns; 0 if it returns a local."""
        _, _, function = (phase.reference or "").partition(":")
        shape = len(phase.writes), len(phase.defines)
        if function == "digest" and shape == (0, 1):
            return 0
        if function in _WIDTHS and shape == (1, 0):
            return _WIDTHS[function]
        writes, defines = shape
        message = f"phase '{phase.name}' writes {writes} regions and defines {defines} locals"
        raise CannotGenerate(f"{message}, which {phase.reference} does not return")

    def check_width(self, phase: Phase, width: int) -> None:
        access = phase.writes[0]
        dtype = self.buffers[access.parameter].dtype
        if dtype not in _STORED:
            raise CannotGenerate(
                f"phase '{phase.name}' stores i32 as {dtype}, which NumPy does not, or rounds otherwise"
            )
        extents = [stop - start for start, stop in self.bounds(access)]
        if extents != [Affine(width)]:
            raise CannotGenerate(
                f"phase '{phase.name}' writes {access}, which are not the {width} elements of {phase.reference}"
            )

    def bounds(self, access: Access) -> list[tuple[Affine, Affine]]:
        """The first element and the one after the last, in each dimension, in terms of scalars."""
        shape = self.buffers[access.parameter].shape
        slices: list[Slice | None] = [*access.region.slices, *[None] * len(shape)]
        return [
            (Affine(), Affine(extent)) if s is None else (s.start.substitute(self.dims), s.stop.substitute(self.dims))
            for s, extent in zip(slices, shape, strict=False)
        ]

    def elements(self, access: Access, statement: str) -> Iterator[str]:
        """Loops over the elements of a region, in order; the statement gets the parameter and the element's index."""
        indent = "    "
        shape = self.buffers[access.parameter].shape
        for axis, (start, stop) in enumerate(self.bounds(access)):
            head = f"long long i{axis} = {self.expression(start)}; i{axis} < {self.expression(stop)}; ++i{axis}"
            yield f"{indent}for ({head})"
            indent += "    "
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        terms = [f"i{axis}" if stride == 1 else f"{stride} * i{axis}" for axis, stride in enumerate(strides)]
        index = " + ".join(terms) or "0"
        yield indent + statement.format(self.members[access.parameter], index)

    def expression(self, value: Affine) -> str:
        terms = [
            self.scalar(name) if factor == 1 else f"{factor} * {self.scalar(name)}" for name, factor in value.terms
        ]
        return " + ".join([*terms, *([str(value.constant)] if value.constant or not terms else [])])

    def scalar(self, name: str) -> str:
        return f"scalar_{self.members[name]}"

    def local(self, name: str) -> str:
        return f"shared_{self.locals[name]}" if name in self.shared else f"l.{self.locals[name]}"


def _described(phase: Phase) -> str:
    parts = {"reads": phase.reads, "uses": phase.uses, "scalars": phase.scalars}
    parts |= {"writes": phase.writes, "defines": phase.defines}
    text = "; ".join(f"{verb} {', '.join(map(str, items))}" for verb, items in parts.items() if items)
    return re.sub(r"[^ -\[\]-~]", "?", text)  # a backslash would continue the comment on the next line
