"""PTX that somebody else wrote, with the waits, triggers and early loads that a kernel's body asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from forerun.ir.kernel import Kernel, Phase, Step, Trigger, Wait
from forerun.ptx import Module, parse_module, print_module, summarise
from forerun.ptx.rewrite import Changes, TriggerPlace, rewrite
from forerun.runtime.cuda.codegen.body import CannotGenerate

__all__ = ["FollowedText", "follow_body"]


@dataclass(frozen=True, slots=True)
class FollowedText:
    """PTX that follows a body.

    Attributes:
        text: The PTX.
        early_loads: How many loads it has before the wait.
        early_bytes: How many bytes a thread loads there.
        prefetches: How many prefetches it has before the wait.
    """

    text: str
    early_loads: int = 0
    early_bytes: int = 0
    prefetches: int = 0


def follow_body(
    text: str, kernel: Kernel, entry: str, most: int | None = None, prefetching: int | None = None
) -> FollowedText:
    """The text of a kernel that does what its body says, as far as waits, triggers and early loads are concerned.

    Loads of phases that stand before the wait, and write nothing, are issued there as far as they can be; the others
    stay behind the wait, which is stricter than the body asks for. A trigger that cannot be placed comes at the end.

    Args:
        text: PTX.
        kernel: Whose parameters are those of the entry, in their order.
        entry: The kernel's name in the text.
        most: How many loads move at the most; by default all that can.
        prefetching: If it is given, no load moves, but that many CTAs prefetch into L2 what would be loaded early.

    Raises:
        InvalidInput: If the text cannot be read.
        CannotGenerate: If there is no such entry, or the text cannot follow the body.
    """
    if kernel.roles is None or not (kernel.has(Wait) or kernel.has(Trigger)):
        return FollowedText(text)
    module = _parsed(text, entry)
    if entry not in [one.name for one in module.entries]:
        raise CannotGenerate(f"its PTX has no kernel '{entry}'")
    names = [one.name for one in module.entry(entry).parameters or ()]
    own = dict(zip([p.name for p in kernel.parameters], names, strict=False))
    allowed, theirs = _before_wait(kernel), {name: mine for mine, name in own.items()}
    may_be_early = frozenset(own[name] for name in allowed & own.keys()) if kernel.has(Wait) else None
    changes = replace(_changes(kernel, own, most), prefetching=prefetching, early=may_be_early)
    made = rewrite(module, entry, changes)
    summary = summarise(made.entry(entry))
    early = [access for access in summary.global_accesses if not access.after_wait]
    ahead = [access for access in early if access.kind != "prefetch"]
    if kernel.has(Wait) and not summary.always_waits:
        raise CannotGenerate("its PTX does not wait on every way")
    if kernel.has(Wait) and any(theirs.get(access.parameter or "") not in allowed for access in ahead):
        raise CannotGenerate("its PTX accesses memory before the wait that its body accesses after it")
    loads = [access for access in ahead if access.kind == "read" and kernel.has(Wait)]
    size = sum(access.bytes or 0 for access in loads)
    return FollowedText(print_module(made), len(loads), size, len(early) - len(ahead))


@lru_cache(maxsize=64)
def _parsed(text: str, entry: str) -> Module:
    """The text, of which several forms are made one after the other."""
    return parse_module(text, entry)


def _before_wait(kernel: Kernel) -> set[str]:
    """The parameters that phases before the wait access."""
    found: set[str] = set()
    for role in kernel.roles or ():
        wait = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), 0)
        for step in role.steps[:wait]:
            if isinstance(step, Phase):
                found.update(access.parameter for access in (*step.reads, *step.writes))
    return found


def _changes(kernel: Kernel, names: Mapping[str, str], most: int | None) -> Changes:
    """What the body asks for; ``names`` are those of the text, by the kernel's."""
    steps: Sequence[Step] = kernel.roles[0].steps if kernel.roles else ()
    wait = next((i for i, step in enumerate(steps) if isinstance(step, Wait)), None)
    trigger = next((i for i, step in enumerate(steps) if isinstance(step, Trigger)), None)
    where: TriggerPlace = "none"
    if trigger is not None and (wait is None or trigger < wait):
        where = "start"
    elif trigger is not None and trigger - 1 == wait:
        where = "after-wait"
    phases = [step for step in steps[: wait or 0] if isinstance(step, Phase) and not step.writes]
    read = {access.parameter for phase in phases for access in phase.reads}
    return Changes(kernel.has(Wait), where, frozenset(names[one] for one in read & names.keys()), most)
