"""What a kernel does to memory: each access, what it points into, on which side of the wait it is, how it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.opcodes import Effect, effects, ends_grid, is_trigger, is_wait
from forerun.ptx.pointers import Pointers
from forerun.ptx.provenance import Provenance, provenance
from forerun.ptx.syntax import Function, Instruction
from forerun.ptx.values import Term, Value
from forerun.support.cfg import reach

__all__ = ["Access", "AccessSummary", "only_loads", "summarise"]

_SHARED_BY_GRIDS = frozenset({"global", "generic", "any"})
_OPERATORS = frozenset(
    {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "volatile", "relaxed", "acquire", "release", "acq_rel"}
)


@dataclass(frozen=True, slots=True)
class Access:
    """One access of an instruction.

    Attributes:
        index: The instruction, by its number in :class:`~forerun.ptx.cfg.ControlFlow`.
        line: The line of the instruction.
        opcode: Of the instruction.
        kind: ``read``, ``write``, ``update``, ``prefetch``; ``unknown`` is strict: it may be all of them.
        space: The state space; ``generic`` if it may be global or shared memory, ``any`` if nothing is known.
        parameter: The parameter that the address derives from; ``None`` if that is not one parameter, or not known.
        parameter_offset: Where in the parameter the pointer lies, in bytes; not 0 for structs only.
        roots: All that the address may derive from: names of parameters, ``&`` and the name of a variable, and ``?``
            for what is not known.
        offset: The bytes from the pointer to the address; ``None`` if there is no one root.
        bytes: How many bytes a thread accesses; ``None`` if that is not known.
        after_wait: Whether each thread that comes here has waited before.
        is_asynchronous: Whether it may happen after the next instruction.
        is_nc: Whether it goes through the read-only path (``.nc``), which is outside the memory model.
        cache: Cache operators, eviction and prefetch hints, and what it says of order (``.volatile``).
        guard: The predicate, as it is written; empty if there is none.
    """

    index: int
    line: int
    opcode: str
    kind: str
    space: str
    parameter: str | None
    parameter_offset: int
    roots: frozenset[str]
    offset: Value | None
    bytes: int | None
    after_wait: bool
    is_asynchronous: bool
    is_nc: bool
    cache: tuple[str, ...]
    guard: str

    def __str__(self) -> str:
        place = " | ".join(sorted(self.roots)) + ("" if self.offset is None else f" + {self.offset}")
        size = "?" if self.bytes is None else self.bytes
        words = [f"line {self.line}:", self.guard, f"{self.kind} {self.space}", f"{size} bytes at {place},"]
        words += ["after the wait" if self.after_wait else "before the wait", *self.cache]
        return " ".join(word for word in (*words, "nc" if self.is_nc else "") if word)

    @property
    def may_be_global(self) -> bool:
        """Whether other grids may see it, or be seen by it."""
        return self.space in _SHARED_BY_GRIDS


def only_loads(access: Access) -> bool:
    """Whether an access is over when the next instruction is executed, and stores nothing."""
    return access.kind in ("read", "prefetch") and not access.is_asynchronous


@dataclass(frozen=True)
class AccessSummary:
    """What a kernel does to memory.

    Attributes:
        name: The kernel.
        accesses: In the order of the instructions; those of parameters aside.
        waits: The instructions ``griddepcontrol.wait`` that every thread that comes there executes.
        triggers: The instructions ``griddepcontrol.launch_dependents``.
        always_waits: Whether every path to an exit waits.
        waits_before_trigger: Whether every trigger comes after a wait of its thread.
        strict: Why something is not known, a sentence each.
        values: What addresses and comparisons are made of.
    """

    name: str
    accesses: tuple[Access, ...]
    waits: tuple[int, ...]
    triggers: tuple[int, ...]
    always_waits: bool
    waits_before_trigger: bool
    strict: tuple[str, ...] = ()
    values: Provenance | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        waits = "always waits" if self.always_waits else "may end without having waited"
        return "\n".join([f"{self.name}: {waits}", *(f"  {one}" for one in (*self.accesses, *self.strict))])

    @property
    def global_accesses(self) -> tuple[Access, ...]:
        """The accesses that other grids may see, or be seen by."""
        return tuple(one for one in self.accesses if one.may_be_global)


def summarise(function: Function, flow: ControlFlow | None = None) -> AccessSummary:
    """What a kernel does to memory. What is not understood is treated strictly; docs/ptx.md has the rules.

    Args:
        function: A kernel with a body.
        flow: Its control flow, if it is there already.

    Raises:
        InvalidInput: If a branch names a label that is not there.

    Example:
        >>> from forerun.ptx.parser import parse_module
        >>> text = '''.version 9.0
        ... .target sm_90
        ... .entry k(.param .u64 .ptr .global x) {
        ...     .reg .b64 %rd<3>; .reg .b32 %r<3>;
        ...     ld.param.u64 %rd1, [x];
        ...     griddepcontrol.wait;
        ...     mov.u32 %r1, %tid.x;
        ...     mul.wide.u32 %rd2, %r1, 4;
        ...     add.s64 %rd1, %rd1, %rd2;
        ...     ld.global.nc.u32 %r2, [%rd1+8];
        ...     ret;
        ... }'''
        >>> print(summarise(parse_module(text).entry("k")))
        k: always waits
          line 10: read global 4 bytes at x + 4*%tid.x+8, after the wait nc
    """
    flow = flow or control_flow(function)
    waits = tuple(i for i in sorted(flow.reached) if is_wait(flow.instructions[i]) and not flow.instructions[i].guard)
    triggers = tuple(i for i in sorted(flow.reached) if is_trigger(flow.instructions[i]))
    values = provenance(function, flow)
    reader = _Reader(flow, values, waits)
    accesses = [
        reader.access(index, effect)
        for index in sorted(flow.reached)
        for effect in effects(flow.instructions[index])
        if effect.space != "param"
    ]
    return AccessSummary(
        function.name,
        tuple(accesses),
        waits,
        triggers,
        _always(flow, waits),
        all(_dominated(flow, waits, index) for index in triggers),
        tuple(_reasons(flow)),
        values,
    )


def _always(flow: ControlFlow, waits: tuple[int, ...]) -> bool:
    """Whether no path leads to an exit past all waits. What is called may end the thread.

    An error that ends the whole grid does not count as an exit: nothing in the context runs after it.
    """
    instructions = flow.instructions
    calls = [i for i in flow.reached if instructions[i].base == "call" and not ends_grid(instructions[i])]
    if any(not _dominated(flow, waits, index) for index in calls):
        return False
    if not flow.blocks:
        return False
    closed = {flow.block_of[index] for index in waits}
    closed |= {flow.block_of[i] for i in flow.reached if ends_grid(instructions[i]) and instructions[i].guard is None}
    without = reach([0], lambda block: () if block in closed else flow.graph.successors[block]) - closed
    return not any(block in flow.graph.exits or not flow.graph.successors[block] for block in without)


def _dominated(flow: ControlFlow, waits: tuple[int, ...], index: int) -> bool:
    """Whether a wait comes before an instruction on every path."""
    return any(flow.dominates(wait, index) for wait in waits)


def _reasons(flow: ControlFlow) -> list[str]:
    reasons = []
    if not flow.graph.is_reducible:
        reasons.append("a loop is entered in several places: where addresses come from is not known")
    unknown = sorted(
        {one.opcode for one in flow.instructions if any(effect.kind == "unknown" for effect in effects(one))}
    )
    if unknown:
        reasons.append(f"these may access anything: {', '.join(unknown)}")
    return reasons


class _Reader:
    """Makes accesses."""

    def __init__(self, flow: ControlFlow, values: Provenance, waits: tuple[int, ...]) -> None:
        self.flow = flow
        self.values = values
        self.pointers = Pointers(values)
        self.waits = waits

    def access(self, index: int, effect: Effect) -> Access:
        """What an instruction does there."""
        one = self.flow.instructions[index]
        address = None if effect.operand is None else self.values.addresses.get((index, effect.operand))
        roots = self.pointers.of(address).terms or frozenset({None})
        only = next(iter(roots)) if len(roots) == 1 else None
        space = effect.space
        if space == "generic" and only is not None and only.kind == "generic":
            space = only.name
        parameter = only if only is not None and only.kind == "param" else None
        return Access(
            index,
            one.line,
            one.opcode,
            effect.kind,
            space,
            None if parameter is None else parameter.name,
            0 if parameter is None else parameter.offset,
            frozenset("?" if root is None else _name(root) for root in roots),
            self._offset(address, only),
            effect.bytes,
            _dominated(self.flow, self.waits, index),
            effect.is_asynchronous,
            "nc" in one.parts,
            _cache(one),
            "" if one.guard is None else str(one.guard),
        )

    def _offset(self, address: Value | None, root: Term | None) -> Value | None:
        """The distance from the root, if the address says it itself once loops are written out."""
        if address is None or root is None:
            return None
        offset = self.values.expanded(address).minus(Value(address.bits, ((root, 1),)))
        is_number = all(term is not root and not self.pointers.is_certain(term) for term, _ in offset.terms)
        return offset if is_number else None


def _name(root: Term) -> str:
    if root.kind == "generic":
        single = root.operands[0].single
        return str(root) if single is None else _name(single)
    return f"&{root.name}" if root.kind == "variable" else str(root)


def _cache(one: Instruction) -> tuple[str, ...]:
    return tuple(part for part in one.parts[1:] if part in _OPERATORS or part.startswith(("L1::", "L2::")))
