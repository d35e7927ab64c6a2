"""Kernels with waits, triggers and prefetches that their authors did not write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from forerun.ptx.accesses import Access, summarise
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.opcodes import is_trigger, uses, writes
from forerun.ptx.operands import Address, Immediate, Operand, Register, Sum, registers_of, with_registers
from forerun.ptx.provenance import Provenance, provenance
from forerun.ptx.slices import Slicer, trip_count
from forerun.ptx.syntax import (
    Brace,
    Declaration,
    Declarator,
    Directive,
    Function,
    Instruction,
    Module,
    Statement,
)
from forerun.ptx.values import Term
from forerun.support.diagnostics import Unsupported

__all__ = ["Changes", "rewrite"]

_WAIT = Instruction("griddepcontrol.wait")
_TRIGGER = Instruction("griddepcontrol.launch_dependents")


@dataclass(frozen=True, slots=True)
class Changes:
    """What to put into a kernel.

    Attributes:
        wait: Whether every thread waits before it does anything else that other grids can see.
        trigger: Where it triggers: ``start``, before the wait; ``after-wait``; or ``none``.
        prefetch: The pointer parameters of which it fetches into L2, before it waits, what it will load: a fetch
            reads no value, so that it is right whatever is written meanwhile.
        turns: For loads in loops: of how many turns.
        ordered_loads: Whether loads through the read-only path (``.nc``) become loads that the memory model orders.
    """

    wait: bool = True
    trigger: str = "start"
    prefetch: frozenset[str] = frozenset()
    turns: int = 1
    ordered_loads: bool = True


def rewrite(module: Module, name: str, changes: Changes) -> Module:
    """A module whose kernel waits, triggers and fetches ahead as it is told. What it computes stays.

    Args:
        module: The module.
        name: The kernel.
        changes: What to put into it. A kernel that waits or triggers itself gets no second one.

    Raises:
        Unsupported: If the kernel waits already on some ways only, so that it is not known what its author meant.
        KeyError: If there is no such kernel.
    """
    function = module.entry(name)
    flow = control_flow(function)
    summary = summarise(function, flow)
    if summary.waits and not summary.always_waits:
        raise Unsupported(f"kernel {name} waits on some ways through it only")
    front: list[Statement] = []
    triggers = any(is_trigger(flow.instructions[index]) for index in flow.reached)
    if changes.trigger == "start" and not triggers:
        front.append(_TRIGGER)
    fetched = [a for a in summary.global_accesses if a.kind == "read" and a.parameter in changes.prefetch]
    if fetched and not summary.waits:
        front += _prefetches(function, flow, fetched, changes.turns)
    if changes.wait and not summary.waits:
        front.append(_WAIT)
    if changes.trigger == "after-wait" and not triggers:
        front.append(_TRIGGER)
    if changes.ordered_loads:
        function = _with_ordered_loads(function, flow, summary.global_accesses)
    return module.with_function(_with_front(function, front))


def _with_front(function: Function, front: Sequence[Statement]) -> Function:
    """The function with statements before its first instruction, after its declarations."""
    body = function.body or ()
    first = next((i for i, one in enumerate(body) if not isinstance(one, Declaration | Directive)), len(body))
    return replace(function, body=(*body[:first], *front, *body[first:]))


def _with_ordered_loads(function: Function, flow: ControlFlow, accesses: Collection[Access]) -> Function:
    """Without ``.nc`` where a parameter is read; tables of the module's own stay, since nobody writes them."""
    body = list(function.body or ())
    for access in accesses:
        if access.is_nc and not all(root.startswith("&") for root in access.roots):
            position = flow.positions[access.index]
            one = body[position]
            assert isinstance(one, Instruction)
            body[position] = replace(one, opcode=".".join(part for part in one.parts if part != "nc"))
    return replace(function, body=tuple(body))


def _prefetches(function: Function, flow: ControlFlow, accesses: Sequence[Access], turns: int) -> Iterator[Statement]:
    """Statements that fetch what loads will read: the addresses of their first arrival, and of further turns."""
    values = provenance(function, flow)
    ahead = _Ahead(Slicer.of(flow))
    fetches: list[Instruction] = []
    for access in accesses:
        address = _address(flow, access)
        if address.base is None or address.offset is None or not ahead.can_have(registers_of(address), access.index):
            continue
        step, most = _per_turn(ahead.slicer, values, access)
        own = flow.instructions[access.index].guard
        # Without the load's guard more is fetched than needed, and no harm done.
        guarded = own is not None and ahead.can_have([own.register], access.index)
        guard = replace(own, register=ahead.register(own.register, access.index)) if own and guarded else None
        place = with_registers(address, partial(ahead.register, use=access.index))
        for turn in range(min(turns, most) if step else 1):
            fetches.append(Instruction("prefetch.global.L2", (_moved(place, turn * step),), guard))
    if fetches:
        yield Brace("{")
        yield from ahead.declarations
        yield from ahead.copies
        yield from fetches
        yield Brace("}")


def _address(flow: ControlFlow, access: Access) -> Address:
    return next(operand for operand in flow.instructions[access.index].operands if isinstance(operand, Address))


def _per_turn(slicer: Slicer, values: Provenance, access: Access) -> tuple[int, int]:
    """By how many bytes the address of a load grows in each turn of the loop around it, and how many turns there are.

    No bytes if it is in no loop, or does not grow steadily.
    """
    flow = slicer.flow
    block = flow.block_of[access.index]
    around = [loop for loop in flow.graph.loops if block in loop.nodes]
    if not around or access.offset is None:
        return 0, 1
    loop = min(around, key=lambda loop: len(loop.nodes))
    growing = [(term, factor) for term, factor in access.offset.terms if _depends_on_turns(term)]
    if len(growing) != 1 or growing[0][0].kind != "turn" or growing[0][0].name != str(loop.header):
        return 0, 1
    return access.offset.signed(growing[0][1]), trip_count(slicer, loop) or 1


def _depends_on_turns(term: Term) -> bool:
    inner = (one for value in term.operands for one, _ in value.terms)
    return term.kind in ("turn", "phi") or any(map(_depends_on_turns, inner))


def _moved(address: Operand, by: int) -> Address:
    """The address, some bytes further."""
    assert isinstance(address, Address)
    base, offset = address.base, address.offset
    assert base is not None
    assert offset is not None
    return Address((Sum(base, "+", Immediate(str(offset + by))),) if offset + by else (base,))


class _Ahead:
    """Copies of instructions that can be executed earlier, in registers of their own, each once.

    Attributes:
        slicer: Of the function.
        copies: What the copies are, each after those that it depends on.
        declarations: Their registers.
    """

    def __init__(self, slicer: Slicer) -> None:
        self.slicer = slicer
        self.copies: list[Instruction] = []
        self.declarations: list[Declaration] = []
        self._made: dict[tuple[int, str], Register] = {}

    def can_have(self, registers: Iterable[Register], use: int) -> bool:
        """Whether registers can have the values that they have at the first arrival at a use."""
        return self.slicer.first(registers, use) is not None

    def register(self, register: Register, use: int) -> Register:
        """Where the value is that a register has at the first arrival at a use; special registers stay as they are."""
        if not self.slicer.is_declared(register):
            return register
        definition = self.slicer.definition(register, use)
        assert definition is not None, "can_have() was asked"
        if (definition, register.name) not in self._made:
            self._copy(definition)
        return self._made[definition, register.name]

    def _copy(self, index: int) -> None:
        one = self.slicer.flow.instructions[index]
        read = {register: self.register(register, index) for register in uses(one)}
        made = {}
        for register in writes(one):
            made[register] = Register(f"%ahead{len(self.declarations)}")
            type_ = self.slicer.flow.types[register.name]
            self.declarations.append(Declaration(".reg", (type_,), (Declarator(made[register].name),)))
            self._made[index, register.name] = made[register]
        first, *rest = one.operands
        operands = [with_registers(first, lambda own: made.get(own, own))]
        operands += [with_registers(operand, lambda own: read.get(own, own)) for operand in rest]
        self.copies.append(Instruction(one.opcode, tuple(operands)))
