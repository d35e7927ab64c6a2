"""What the body of a kernel says about its events: which steps come after a wait, and what a trigger releases."""

from __future__ import annotations

from itertools import islice

from forerun.ir.kernel import Kernel, Phase, Trigger, Wait

__all__ = ["first_triggers", "has_fenced_trigger", "late_steps", "released_phases", "triggers_after_wait"]


def triggers_after_wait(kernel: Kernel) -> bool:
    """H5: whether no CTA can trigger before its wait. Without a trigger, it fires when all warps have finished."""
    late = late_steps(kernel)
    triggers = [late[role.name, i] for role, i, step in kernel.steps() if isinstance(step, Trigger)]
    return kernel.has(Wait) and all(triggers)


def late_steps(kernel: Kernel) -> dict[tuple[str, int], bool]:
    """For each step (role name, position): whether it certainly comes after a wait.

    It does if its own role waits earlier, or if it follows a CTA barrier that some role reaches only after waiting
    (docs/pdl.md, rule 6).
    """
    roles = kernel.roles or ()
    waits = (barriers for role in roles for _, barriers, step in role.placed() if isinstance(step, Wait))
    release = min(waits, default=None)
    result = {}
    for role in roles:
        waited = False
        for position, barriers, step in role.placed():
            result[role.name, position] = waited or (release is not None and barriers > release)
            waited = waited or isinstance(step, Wait)
    return result


def first_triggers(kernel: Kernel) -> list[tuple[Trigger, int]]:
    """The triggers that may be the first of a CTA, each with the number of barriers before it in its role.

    The first trigger counts for the whole CTA (docs/pdl.md, rule 2). A trigger that follows another one in its role,
    or a barrier that comes after another one, is never the first.
    """
    found: list[tuple[Trigger, int]] = []
    for role in kernel.roles or ():
        triggers = ((step, barriers) for _, barriers, step in role.placed() if isinstance(step, Trigger))
        found += islice(triggers, 1)
    earliest = min((barriers for _, barriers in found), default=0)
    return [(trigger, barriers) for trigger, barriers in found if barriers == earliest]


def has_fenced_trigger(kernel: Kernel) -> bool:
    """Whether the trigger that counts is certainly a fenced one, so that H8 orders the dependents' starts after it."""
    triggers = first_triggers(kernel)
    return bool(triggers) and all(trigger.fenced for trigger, _ in triggers)


def released_phases(kernel: Kernel) -> frozenset[str]:
    """The phases that H8 releases: a CTA barrier comes after them and before the fence, whichever trigger is first.

    The fence is executed by one thread. It is cumulative over what that thread has synchronised with, which a barrier
    does for all threads of the CTA; without a barrier it does not cover the stores of other threads, not even those
    of the same role. What goes through the copy engine is not covered either (docs/pdl.md, rule 11).
    """
    if not has_fenced_trigger(kernel):
        return frozenset()
    fence = min(barriers for _, barriers in first_triggers(kernel))
    placed = (at for role in kernel.roles or () for at in role.placed())
    phases = ((barriers, step) for _, barriers, step in placed if isinstance(step, Phase))
    return frozenset(phase.name for barriers, phase in phases if barriers < fence and not phase.asynchronous)
