"""PTX that somebody else wrote, with the waits, triggers and early loads that a kernel's body asks for."""

from __future__ import annotations

from collections.abc import Sequence

from forerun.ir.kernel import Kernel, Phase, Trigger, Wait
from forerun.ptx import parse_module, print_module, summarise
from forerun.ptx.rewrite import Changes, rewrite
from forerun.runtime.cuda.codegen.body import CannotGenerate

__all__ = ["changes_of", "follow_body"]

TURNS = 16
"""Of how many turns of a loop the loads are fetched ahead, at the most."""


def follow_body(text: str, kernel: Kernel, entry: str, turns: int = TURNS) -> str:
    """The text of a kernel that does what its body says, as far as waits, triggers and early loads are concerned.

    A phase that stands before the wait and writes nothing is fetched into L2 there; the loads themselves stay behind
    the wait, which is stricter than the body asks for. A trigger that cannot be placed comes at the end.

    Args:
        text: PTX.
        kernel: Whose parameters are those of the entry, in their order.
        entry: The kernel's name in the text.
        turns: For loads in loops: of how many turns they are fetched.

    Raises:
        InvalidInput: If the text cannot be read.
        CannotGenerate: If there is no such entry, or the text cannot follow the body.
    """
    if kernel.roles is None or not (kernel.has(Wait) or kernel.has(Trigger)):
        return text
    module = parse_module(text, entry)
    if entry not in [one.name for one in module.entries]:
        raise CannotGenerate(f"its PTX has no kernel '{entry}'")
    names = [one.name for one in module.entry(entry).parameters or ()]
    if len(names) < len(kernel.parameters):
        raise CannotGenerate(f"its PTX has {len(names)} parameters, and the kernel {len(kernel.parameters)}")
    own = dict(zip([p.name for p in kernel.parameters], names, strict=False))
    made = rewrite(module, entry, changes_of(kernel, own, turns))
    summary = summarise(made.entry(entry))
    early = [access for access in summary.global_accesses if not access.after_wait and access.kind != "prefetch"]
    if kernel.has(Wait) and not summary.always_waits:
        raise CannotGenerate("its PTX does not wait on every way")
    allowed = _before_wait(kernel)
    if kernel.has(Wait) and any(own_name(access.parameter, own) not in allowed for access in early):
        raise CannotGenerate("its PTX accesses memory before the wait that its body accesses after it")
    return print_module(made)


def own_name(parameter: str | None, names: dict[str, str]) -> str | None:
    """What the kernel calls a parameter of the text."""
    return next((name for name, theirs in names.items() if theirs == parameter), None)


def _before_wait(kernel: Kernel) -> set[str]:
    """The parameters that phases before the wait access."""
    found: set[str] = set()
    for role in kernel.roles or ():
        wait = next((i for i, step in enumerate(role.steps) if isinstance(step, Wait)), 0)
        for step in role.steps[:wait]:
            if isinstance(step, Phase):
                found.update(access.parameter for access in (*step.reads, *step.writes))
    return found


def changes_of(kernel: Kernel, names: dict[str, str], turns: int) -> Changes:
    """What the body asks for; ``names`` are those of the text, by the kernel's."""
    steps: Sequence[object] = kernel.roles[0].steps if kernel.roles else ()
    wait = next((i for i, step in enumerate(steps) if isinstance(step, Wait)), None)
    trigger = next((i for i, step in enumerate(steps) if isinstance(step, Trigger)), None)
    where = "none"
    if trigger is not None and (wait is None or trigger < wait):
        where = "start"
    elif trigger is not None and trigger - 1 == wait:
        where = "after-wait"
    ahead = frozenset(
        names[access.parameter]
        for step in steps[: wait or 0]
        if isinstance(step, Phase) and not step.writes
        for access in step.reads
    )
    return Changes(kernel.has(Wait), where, ahead, turns)
