"""What kernels do to memory by their PTX: why a text does not tell all, and the steps of a body if it does."""

from __future__ import annotations

from collections.abc import Mapping

from forerun.captured.graph import CapturedFunction
from forerun.ir.kernel import Access, Phase, Step, Trigger, Wait
from forerun.ptx import AccessSummary, Function, Module
from forerun.ptx.accesses import Access as TextAccess
from forerun.ptx.accesses import only_loads
from forerun.ptx.cfg import ControlFlow, may_follow
from forerun.ptx.opcodes import is_wait

__all__ = ["SCALARS", "polls", "steps_of", "unfit"]

SCALARS = frozenset({1, 2, 4, 8})
"""Sizes of parameters that are no structs, in bytes."""

_POLLING = frozenset({"volatile", "relaxed", "acquire", "acq_rel"})


def unfit(
    module: Module, entry: Function, flow: ControlFlow, summary: AccessSummary, function: CapturedFunction
) -> str:
    """Why a kernel's text does not tell all that it does, or must stay as it is; empty if neither is so."""
    parameters = entry.parameters or ()
    if [one.bytes for one in parameters] != [size for _, size in function.parameters]:
        return "the parameters of its PTX are not those of the loaded function"
    struct = next((one for one in parameters if one.bytes not in SCALARS), None)
    if struct is not None:
        return f"parameter '{struct.name}' is a struct, in which pointers may be"
    if summary.strict:
        return summary.strict[0]
    private = {
        name.name for one in module.variables if one.space == ".global" and not one.linkage for name in one.names
    }
    for access in summary.global_accesses:
        if access.space == "any" or "?" in access.roots:
            return f"line {access.line}: {access.opcode} accesses memory through a pointer that is not a parameter"
        variables = {root[1:] for root in access.roots if root.startswith("&")}
        if variables and (not variables <= private or access.kind != "read"):
            return f"line {access.line}: it uses variables of its module that others may write"
        if access.parameter_offset:
            return f"line {access.line}: it uses a pointer inside a struct"
    polled = polls(flow, summary.global_accesses)
    if polled is not None:
        return f"line {polled.line}: {polled.opcode} in a loop, which may wait for others"
    instructions = [flow.instructions[index] for index in flow.reached]
    some_threads = any(is_wait(one) and one.guard for one in instructions)
    if some_threads or (summary.waits and not summary.always_waits):
        return "it waits on some ways only"
    return ""


def polls(flow: ControlFlow, accesses: tuple[TextAccess, ...]) -> TextAccess | None:
    """An access in a loop that may wait for what others write."""
    looping = {block for loop in flow.graph.loops for block in loop.nodes}
    for access in accesses:
        is_ordered = access.kind == "update" or _POLLING & set(access.cache)
        if is_ordered and access.kind != "write" and flow.block_of[access.index] in looping:
            return access
    return None


def steps_of(flow: ControlFlow, summary: AccessSummary, accesses: Mapping[str, list[TextAccess]]) -> tuple[Step, ...]:
    """What is accessed before the kernel's own wait, the wait, and the rest; its trigger as early as it may come."""
    steps: list[Step] = []
    if summary.waits:
        early = {name: [a for a in found if not a.after_wait] for name, found in accesses.items()}
        steps += _phases("early_", flow, {name: found for name, found in early.items() if found})
        steps.append(Wait())
        late = {name: [a for a in found if a.after_wait] for name, found in accesses.items()}
        accesses = {name: found for name, found in late.items() if found}
    wait = len(steps)
    steps += _phases("", flow, accesses)
    if summary.triggers:
        at = wait if summary.waits and summary.waits_before_trigger else 0
        accessed = [access.index for access in summary.global_accesses]
        steps.insert(at if may_follow(flow, summary.triggers, accessed) else len(steps), Trigger())
    return tuple(steps)


def _phases(prefix: str, flow: ControlFlow, accesses: Mapping[str, list[TextAccess]]) -> list[Phase]:
    """A phase for each parameter that is only loaded from, and one for what is stored.

    Loads come first if none follows a store on any way. Otherwise the order of the text is not kept, and all of them
    come last: a load may follow a store to the same bytes through another parameter, and what overlaps the kernel's own
    stores does not move ahead of them.
    """
    reads = [name for name, found in accesses.items() if all(only_loads(access) for access in found)]
    rest = tuple(Access(name) for name in accesses if name not in reads)
    # Which bytes it stores is not known, so it counts as reading them, too.
    stores = [Phase(f"{prefix}store", rest, rest)] if rest else []
    loads = [Phase(f"{prefix}load_{name}", (Access(name),)) for name in reads]
    stored = [access.index for name in accesses if name not in reads for access in accesses[name]]
    loaded = [access.index for name in reads for access in accesses[name]]
    return [*stores, *loads] if may_follow(flow, stored, loaded) else [*loads, *stores]
