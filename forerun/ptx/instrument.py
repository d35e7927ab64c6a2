"""Checks in the text of a kernel: before each access to global memory, that the access summary is right about it.

What is checked: the bytes lie in a block of memory that an argument points into of which the address derives, and what
comes after the wait by the summary is executed after the thread waited. All is counted in a table that the kernel gets
as one more parameter. Checks are executed under predicates, so no thread goes another way than before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from forerun.ptx.accesses import Access, summarise
from forerun.ptx.additions import additions, with_parameter
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.check_table import KEPT, Fault, Instrumented, Root, block_at, count_at, fault_at, kept_at
from forerun.ptx.opcodes import effects, is_wait, source_limit
from forerun.ptx.operands import Address, Immediate, Register, registers_of
from forerun.ptx.parser import parse_module
from forerun.ptx.printer import print_module
from forerun.ptx.syntax import Function, Guard, Instruction, Module
from forerun.support.diagnostics import Unsupported

__all__ = ["TABLE", "instrument"]

TABLE = "forerun_checks"
"""The parameter that points to the table."""

_REGISTERS = """
	.reg .pred %check_p<3>;
	.reg .b32 %check_w;
	.reg .b64 %check_t, %check_a, %check_b, %check_n, %check_s;"""
_FRONT = f"""
	ld.param.u64 %check_t, [{TABLE}];
	cvta.to.global.u64 %check_t, %check_t;
	mov.b32 %check_w, 0;"""


def instrument(text: str, name: str) -> Instrumented:
    """Put a check before each access to global memory of a kernel. Prefetches are left out: they read no value.

    Args:
        text: PTX.
        name: The kernel.

    Raises:
        Unsupported: If an instruction does not say which bytes a thread accesses: tensor maps, bulk copies, calls.
        InvalidInput: If the text cannot be read.
        KeyError: If there is no such kernel.
    """
    module = parse_module(text, name)
    function = module.entry(name)
    flow = control_flow(function)
    writer = _Writer(module, function, flow)
    before, after = writer.checks(), _notes_of_waits(flow)
    body = tuple(additions(flow, function.body or (), _REGISTERS, _FRONT, before, after))
    checked = with_parameter(replace(function, body=body), TABLE)
    printed = print_module(module.with_function(checked))
    return Instrumented(printed, tuple(writer.parameters), tuple(writer.roots), tuple(writer.sites), writer.unclaimed)


def _notes_of_waits(flow: ControlFlow) -> Mapping[int, str]:
    """What each thread notes after it waited."""
    return {i: _line("mov.b32 %check_w, 1", one.guard) for i, one in enumerate(flow.instructions) if is_wait(one)}


def _line(text: str, guard: Guard | None = None) -> str:
    return f"\n\t{'' if guard is None else f'{guard} '}{text};"


class _Writer:
    """Writes the checks of a kernel. Places in the table are known when all roots are, so counts come last."""

    def __init__(self, module: Module, function: Function, flow: ControlFlow) -> None:
        self.flow = flow
        self.body = function.body or ()
        self.summary = summarise(function, flow)
        self.parameters = {one.name: one.bytes for one in function.parameters or ()}
        self.variables = {
            one.name: one.bytes for one in module.variables if one.space == ".global" and len(one.names) == 1
        }
        self.roots: dict[Root, int] = {}
        self.sites: list[Access] = []
        self.unclaimed = 0
        self._addresses: dict[int, Address] = {}

    def checks(self) -> Mapping[int, str]:
        """What stands before instructions, by their numbers."""
        self._collect()
        claims = [self._claim(access) for access in self.sites]
        for claim in claims:
            for root in claim or ():
                if isinstance(root, Root):
                    self.roots.setdefault(root, len(self.roots))
        self.unclaimed = sum(claim is None for claim in claims)
        found: dict[int, str] = {}
        for number, (access, claim) in enumerate(zip(self.sites, claims, strict=True)):
            found[access.index] = found.get(access.index, "") + self._check(number, access, claim)
        return found

    def _collect(self) -> None:
        """The accesses, each with its address."""
        by_index: dict[int, list[Access]] = {}
        for access in self.summary.accesses:
            by_index.setdefault(access.index, []).append(access)
        for index, accesses in by_index.items():
            known = (effect for effect in effects(self.flow.instructions[index]) if effect.space != "param")
            for access, effect in zip(accesses, known, strict=True):
                if access.may_be_global and access.kind != "prefetch":
                    self._addresses[len(self.sites)] = self._address(access, effect.operand)
                    self.sites.append(access)

    def _address(self, access: Access, operand: int | None) -> Address:
        """The operand as it is spelled, with the names of its own scope."""
        one = self.body[self.flow.positions[access.index]]
        assert isinstance(one, Instruction)
        address = None if operand is None else one.operands[operand]
        if not isinstance(address, Address) or address.base is None or address.offset is None or not access.bytes:
            raise Unsupported(f"line {access.line}: {access.opcode} does not say which bytes a thread accesses")
        return address

    def _claim(self, access: Access) -> tuple[Root | str, ...] | None:
        """The pointers and variables in one of whose memory an access lies; ``None`` if the summary does not know."""
        if access.parameter is not None:
            return (Root(access.parameter, access.parameter_offset),)
        found: list[Root | str] = []
        for root in sorted(access.roots):
            name, _, offset = root.partition("+")
            if root.startswith("&"):
                # Variables of other spaces are not reached through global addresses.
                found += [root[1:]] if self.variables.get(root[1:]) else []
            elif name in self.parameters and offset in ("", *map(str, range(self.parameters[name]))):
                found.append(Root(name, int(offset or 0)))
            else:
                return None
        return tuple(found)

    def _check(self, number: int, access: Access, claim: tuple[Root | str, ...] | None) -> str:
        """One check. ``%check_p0`` says whether the access is executed, goes to global memory, and lies outside."""
        one = self.body[self.flow.positions[access.index]]
        assert isinstance(one, Instruction)
        address, count = self._addresses[number], count_at(number, len(self.roots))
        guard = "" if one.guard is None else f", {'!' if one.guard.negated else ''}{one.guard.register}"
        lines = [_address_of(address), _line(f"setp.eq{'.and' if guard else ''}.u32 %check_p0, 0, 0{guard}")]
        lines += self._limited(access, one)
        lines.append(_line(f"@%check_p0 red.global.add.u64 [%check_t+{count}], 1"))
        if access.space == "generic":
            lines.append(_line("isspacep.global %check_p1, %check_a"))
            lines.append(_line("and.pred %check_p0, %check_p0, %check_p1"))
        if access.after_wait:
            lines.append(_line("setp.eq.and.u32 %check_p2, %check_w, 0, %check_p0"))
            lines += _noted(number, "wrong side", "%check_p2")
        if claim is not None:
            lines += [line for root in claim for line in self._outside(root)]
            lines += _noted(number, "outside", "%check_p0")
        return "".join(lines)

    def _limited(self, access: Access, one: Instruction) -> Iterator[str]:
        """``%check_s`` is how many bytes are accessed. ``%check_p0`` stays if there are any."""
        yield _line(f"mov.u64 %check_s, {access.bytes}")
        limit, unique = source_limit(one), source_limit(self.flow.instructions[access.index])
        registers = [] if unique is None else [one.name for one in registers_of(unique)]
        if not registers:
            return
        if self.flow.types[registers[0]] == ".pred":
            yield _line(f"setp.eq.and.u32 %check_p1, 0, 0, {limit}") + _line("not.pred %check_p1, %check_p1")
            yield _line("and.pred %check_p0, %check_p0, %check_p1")
        else:
            yield _line(f"cvt.u64.u32 %check_n, {limit}") + _line("min.u64 %check_s, %check_s, %check_n")
            yield _line("setp.ne.and.u64 %check_p0, %check_s, 0, %check_p0")

    def _outside(self, root: Root | str) -> Iterator[str]:
        """``%check_p0`` stays if the bytes do not lie in the memory of the root."""
        if isinstance(root, Root):
            yield _line(f"ld.global.v2.u64 {{%check_b, %check_n}}, [%check_t+{block_at(self.roots[root])}]")
        else:
            yield _line(f"mov.u64 %check_b, {root}") + _line(f"mov.u64 %check_n, {self.variables[root]}")
        yield _line("sub.s64 %check_b, %check_a, %check_b")
        yield _line("setp.ge.u64 %check_p1, %check_b, %check_n")
        yield _line("sub.s64 %check_n, %check_n, %check_b")
        yield _line("setp.lt.or.u64 %check_p1, %check_n, %check_s, %check_p1")
        yield _line("and.pred %check_p0, %check_p0, %check_p1")


def _address_of(address: Address) -> str:
    base, offset = address.base, address.offset
    if isinstance(base, Register):
        return _line(f"add.s64 %check_a, {base}, {offset}")
    start = base.value if isinstance(base, Immediate) else base
    return _line(f"mov.u64 %check_a, {start}") + _line(f"add.s64 %check_a, %check_a, {offset}")


def _noted(number: int, fault: Fault, predicate: str) -> Iterator[str]:
    """Count what is wrong where a predicate holds, and keep it if it is one of the first."""
    yield _line(f"mov.u64 %check_n, {KEPT}")
    yield _line(f"@{predicate} atom.global.add.u64 %check_n, [%check_t+{fault_at(fault)}], 1")
    yield _line(f"setp.lt.u64 %check_p1, %check_n, {KEPT}")
    yield _line("mad.lo.u64 %check_b, %check_n, 16, %check_t")
    yield _line(f"mov.u64 %check_n, {number}")
    yield _line(f"@%check_p1 st.global.v2.u64 [%check_b+{kept_at(fault)}], {{%check_n, %check_a}}")
