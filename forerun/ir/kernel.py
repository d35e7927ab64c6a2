"""Kernels: typed parameters, and a body of roles that execute phases, waits, triggers and barriers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from forerun.ir.launches import Launches
from forerun.ir.region import WHOLE, Region
from forerun.ir.types import DType

__all__ = [
    "Access",
    "Barrier",
    "BufferParameter",
    "Implementation",
    "Kernel",
    "Parameter",
    "Phase",
    "Role",
    "ScalarParameter",
    "Step",
    "Trigger",
    "Wait",
]


@dataclass(frozen=True, slots=True)
class BufferParameter:
    """A pointer parameter.

    Attributes:
        dims: One entry a dimension: an integer (exactly that extent), a name (any extent, equal wherever the kernel
            uses the name), or ``None`` (any extent). ``None`` instead of a tuple: any shape at all.
        align: What its address must be a multiple of, in bytes. ``None`` says nothing: the verifier asks for the size
            of an element, and certificates keep the alignment that a buffer has, see docs/checker.md.
    """

    name: str
    dtype: DType
    dims: tuple[int | str | None, ...] | None = None
    align: int | None = None

    @property
    def alignment(self) -> int:
        """What the address is a multiple of, in bytes."""
        return self.dtype.itemsize if self.align is None else self.align


@dataclass(frozen=True, slots=True)
class ScalarParameter:
    """A parameter passed by value. Integer scalars may occur in region bounds."""

    name: str
    dtype: DType


Parameter: TypeAlias = BufferParameter | ScalarParameter


@dataclass(frozen=True, slots=True)
class Access:
    """A read or write of a region of a buffer parameter; bounds are affine in integer scalars and dimension names."""

    parameter: str
    region: Region = WHOLE

    def __str__(self) -> str:
        return f"{self.parameter}{self.region}"


@dataclass(frozen=True, slots=True)
class Phase:
    """A named part of a kernel's body with its own reads and writes.

    Attributes:
        name: Unique in the kernel.
        reads: Regions that the phase may read. Reading is at the phase, unless ``asynchronous``.
        writes: Regions that the phase writes: every byte of them, whenever the kernel runs. What stores a part of a
            region, or stores under a condition, reads it as well (docs/ir.md, "What a phase says"). A write is visible
            to other nodes at some point between the phase and the kernel's completion.
        uses: Locals (values in registers or shared memory) that earlier phases of the kernel define.
        defines: Locals of its own; each local is defined by one phase.
        scalars: Scalar parameters that it uses beyond those in its region bounds. A scalar that is bound to memory
            is read where it is used.
        asynchronous: The reads go through the copy engine (``cp.async.bulk``): they may happen at any time up to the
            first phase that uses what it defines. In a phase that writes they happen before the writes, which keep
            their place in the order of the body.
        reference: The NumPy function of the phase, ``module:function``; see docs/writing-kernels.md.
    """

    name: str
    reads: tuple[Access, ...] = ()
    writes: tuple[Access, ...] = ()
    uses: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    asynchronous: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """``griddepcontrol.wait``: blocks until the sources of the programmatic in-edges are complete and flushed."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """``griddepcontrol.launch_dependents``: this CTA no longer holds back the start of programmatic dependents.

    If it is ``fenced``, a release fence (``fence.acq_rel`` of GPU scope) comes right before it. That orders something
    only under the assumption H8; see docs/checker.md.
    """

    fenced: bool = False


@dataclass(frozen=True, slots=True)
class Barrier:
    """A barrier over all roles of a CTA (``scope="cta"``) or over the whole grid (``scope="grid"``)."""

    scope: str = "cta"


Step: TypeAlias = Phase | Wait | Trigger | Barrier


@dataclass(frozen=True, slots=True)
class Role:
    """What one group of warps of every CTA executes, in order; ``None`` warps are all that no other role claims."""

    name: str
    steps: tuple[Step, ...] = ()
    warps: int | None = None

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases, in order."""
        return tuple(step for step in self.steps if isinstance(step, Phase))

    def placed(self) -> Iterator[tuple[int, int, Step]]:
        """Each step with its position, and with the number of barriers before it."""
        barriers = 0
        for position, step in enumerate(self.steps):
            yield position, barriers, step
            barriers += isinstance(step, Barrier)


@dataclass(frozen=True, slots=True)
class Implementation:
    """Where the machine code of a kernel comes from.

    Attributes:
        language: ``cuda`` (CUDA C++ in phases; the compiler writes the entry), ``ptx`` or ``cubin`` (foreign).
        source: ``package:resource`` or a path.
        entry: The function's name in a foreign module, the prefix of the phase functions in CUDA C++.
    """

    language: str
    source: str
    entry: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function that kernel nodes launch.

    Attributes:
        parameters: In the order of the launch.
        roles: The body; ``None`` is a black box, which reads and writes everything it points to and never waits.
        implementations: What targets may run; the reference target runs the phases' own functions.
        launches: With which launches it does what it declares; ``None`` says nothing, and then nobody may change the
            launch of a node.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    roles: tuple[Role, ...] | None = None
    implementations: tuple[Implementation, ...] = ()
    launches: Launches | None = None

    @property
    def is_black_box(self) -> bool:
        """Whether nothing is known of the body."""
        return self.roles is None

    @property
    def has_foreign_code(self) -> bool:
        """Whether machine code or PTX is given, so that the compiler does not write the body."""
        return any(implementation.language != "cuda" for implementation in self.implementations)

    @property
    def has_fixed_code(self) -> bool:
        """Whether machine code is given, into which nothing can be put. PTX can get waits, triggers and prefetches."""
        return any(implementation.language not in ("cuda", "ptx") for implementation in self.implementations)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of all roles, in order."""
        return tuple(phase for role in self.roles or () for phase in role.phases)

    @property
    def buffer_parameters(self) -> tuple[BufferParameter, ...]:
        """The pointer parameters, in order."""
        return tuple(p for p in self.parameters if isinstance(p, BufferParameter))

    @property
    def region_symbols(self) -> frozenset[str]:
        """What the bounds of its regions depend on: scalars and dimensions."""
        found = (a.region.symbols for phase in self.phases for a in (*phase.reads, *phase.writes))
        return frozenset(name for symbols in found for name in symbols)

    @property
    def scalar_parameters(self) -> tuple[ScalarParameter, ...]:
        """The by-value parameters, in order."""
        return tuple(p for p in self.parameters if isinstance(p, ScalarParameter))

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, or ``None``."""
        return next((p for p in self.parameters if p.name == name), None)

    def steps(self) -> Iterator[tuple[Role, int, Step]]:
        """Every step of every role, with its role and its position there."""
        for role in self.roles or ():
            for position, step in enumerate(role.steps):
                yield role, position, step

    def has(self, kind: type[Wait] | type[Trigger] | type[Barrier]) -> bool:
        """Whether some role executes a step of that kind."""
        return any(isinstance(step, kind) for _, _, step in self.steps())

    def with_roles(self, name: str, roles: tuple[Role, ...]) -> Kernel:
        """The same kernel under another name with another body."""
        return replace(self, name=name, roles=roles)
