"""Kernels with waits, triggers and early loads that their authors did not write."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Literal, TypeAlias

from forerun.ptx.accesses import Access, AccessSummary, summarise
from forerun.ptx.ahead import Ahead, move_loads, statements
from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.operands import Immediate, Register, Symbol
from forerun.ptx.slices import Slicer
from forerun.ptx.syntax import Declaration, Directive, Function, Guard, Instruction, Label, Module, Statement
from forerun.support.diagnostics import Unsupported

__all__ = ["Changes", "TriggerPlace", "rewrite"]

TriggerPlace: TypeAlias = Literal["start", "after-wait", "none"]

_WAIT = Instruction("griddepcontrol.wait")
_TRIGGER = Instruction("griddepcontrol.launch_dependents")


@dataclass(frozen=True, slots=True)
class Changes:
    """What to put into a kernel.

    Attributes:
        wait: Whether every thread waits before it does anything else that other grids can see.
        trigger: Where it triggers: ``start``, before the wait; ``after-wait``; or ``none``.
        ahead: The pointer parameters of which nothing that may still run at the start of the kernel writes what it
            loads: these loads may stand before the wait.
        most: How many loads move at the most; ``None`` is all that can.
        prefetching: If set, loads do not move; this number of CTAs, the first of the grid, prefetch the same bytes into
            L2.
        early: The parameters through which a kernel with its own wait may access memory before the wait; ``None``
            allows all. If the kernel uses others, its wait moves to the front.
    """

    wait: bool = True
    trigger: TriggerPlace = "start"
    ahead: frozenset[str] = frozenset()
    most: int | None = None
    prefetching: int | None = None
    early: frozenset[str] | None = None


def rewrite(module: Module, name: str, changes: Changes) -> Module:
    """A module whose kernel waits, triggers and loads ahead as it is told. What it computes stays.

    Loads through the read-only path (``.nc``) become loads that the memory model orders, since the kernel is now
    resident while others write.

    Args:
        module: The module.
        name: The kernel.
        changes: What to put into it. A kernel that waits or triggers itself gets no second one; its loads move ahead of
            its own wait; its own trigger after the wait moves to the start if ``changes`` request one there.

    Raises:
        Unsupported: If the kernel waits already on some ways only, so that it is not known what its author meant.
        KeyError: If there is no such kernel.
    """
    function = module.entry(name)
    flow, summary = _analysed(function)
    if summary.waits and not summary.always_waits:
        raise Unsupported(f"kernel {name} waits on some ways through it only")
    moves = changes.trigger == "start" and bool(summary.waits) and summary.waits_before_trigger
    has_trigger = bool(summary.triggers) and not moves
    theirs = {access.parameter for access in summary.global_accesses if not access.after_wait}
    waits = summary.waits if changes.early is None or theirs <= changes.early else ()
    ahead = Ahead(Slicer.of(flow), _unused_stem(function))
    if changes.wait:
        loads = [a for a in summary.global_accesses if a.kind == "read" and a.parameter in changes.ahead]
        # What its author put before the kernel's own wait stays where it is.
        late = [a for a in loads if a.after_wait or not waits]
        move_loads(ahead, late, changes.most, prefetch=changes.prefetching is not None)
    gone = {*(summary.triggers if moves else ()), *(summary.waits if not waits else ())}
    ahead.instead |= {index: [] for index in gone}
    front: list[Statement] = [*ahead.declarations]
    front += [_TRIGGER] if changes.trigger == "start" and not has_trigger else []
    front += ahead.front if changes.prefetching is None else _in_first_ctas(ahead, changes.prefetching)
    front += [_WAIT] if changes.wait and not waits else []
    front += [_TRIGGER] if changes.trigger == "after-wait" and not has_trigger else []
    ordered = _with_ordered_loads(function, flow, summary.global_accesses)
    body = tuple(statements(ahead, flow, ordered.body or ()))
    return module.with_function(_with_front(replace(ordered, body=body), front))


@lru_cache(maxsize=64)
def _analysed(function: Function) -> tuple[ControlFlow, AccessSummary]:
    """The control flow and the accesses of a kernel; cached, since a kernel is rewritten in several forms in a row."""
    flow = control_flow(function)
    return flow, summarise(function, flow)


def _unused_stem(function: Function) -> str:
    """What no name of a register or label of a kernel begins with: it may be one that was rewritten before."""
    body = function.body or ()
    names = {name.name for one in body if isinstance(one, Declaration) for name in one.names}
    names |= {one.name for one in body if isinstance(one, Label)}
    stems = ("ahead" + "_" * number for number in count())
    return next(stem for stem in stems if not any(name.lstrip("%$").startswith(stem) for name in names))


def _in_first_ctas(ahead: Ahead, most: int) -> list[Statement]:
    """The front, executed only by the first ``most`` CTAs: later ones start after the wait."""
    if not ahead.front:
        return []
    cta, is_late, end = ahead.new(".b32"), ahead.new(".pred"), Label(f"${ahead.stem}_end")
    return [
        *ahead.declarations[-2:],
        Instruction("mov.u32", (cta, Register("%ctaid.x"))),
        Instruction("setp.ge.u32", (is_late, cta, Immediate(str(most)))),
        Instruction("bra.uni", (Symbol(end.name),), Guard(is_late)),
        *ahead.front,
        end,
    ]


def _with_front(function: Function, front: list[Statement]) -> Function:
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
