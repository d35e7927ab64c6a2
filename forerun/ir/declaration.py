"""What a kernel's code is declared to access, and kernels that say otherwise of the same code.

The phases of a kernel say what its code reads and writes. A pass may reorder phases where the compiler writes the
body, but it may not say of the same code that it accesses something else: races would be looked for in a fiction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from forerun.ir.kernel import Access, Implementation, Kernel, Phase, Role, Trigger, Wait

__all__ = ["contradiction", "runs_anywhere", "runs_code_of", "text_can_follow"]


def runs_anywhere(kernel: Kernel) -> bool:
    """Whether each phase that writes or defines something has a NumPy function, which any host can run."""
    made = [phase for phase in kernel.phases if phase.writes or phase.defines]
    return kernel.roles is not None and all(phase.reference is not None for phase in made)


def runs_code_of(kernel: Kernel, declared: Kernel) -> bool:
    """Whether a kernel says that it runs what another one runs: they share a name, or an implementation."""
    return kernel.name == declared.name or bool(_shared(kernel, declared))


def contradiction(kernel: Kernel, declared: Kernel) -> str:
    """What a kernel says of the code of another one, against what that one declares; empty if they agree.

    A phase contradicts a phase of the same name with other reads, writes or scalars, or whose reads are asynchronous
    where the others are not, if both are the same code: by an implementation that the kernels share, or by the phases'
    own function. Of machine code the whole body is a declaration; of PTX
    all but what :func:`text_can_follow` allows. A black
    box declares nothing, and contradicts nothing.

    Example:
        >>> from forerun.ir.kernel import Role
        >>> whole, nothing = Phase("load", reads=(Access("w"),)), Phase("load")
        >>> contradiction(Kernel("k.late", (), (Role("r", (nothing,)),)), Kernel("k", (), (Role("r", (whole,)),)))
        "phase 'load' reads nothing, but is declared to read w"
    """
    if kernel.roles is None or declared.roles is None:
        return ""
    shared = _shared(kernel, declared)
    known = {phase.name: phase for phase in declared.phases}
    for phase in kernel.phases:
        old = known.get(phase.name)
        if old is not None and (shared or phase.reference == old.reference):
            found = next(_differences(phase, old), "")
            if found:
                return found
    foreign = [implementation for implementation in shared if implementation.language != "cuda"]
    if foreign and kernel.roles != declared.roles and _is_fixed(kernel, declared):
        code = f"{foreign[0].language} {foreign[0].source}:{foreign[0].entry}"
        return f"its body is another one, but the code is given ({code}), so its steps cannot change"
    return ""


def _is_fixed(kernel: Kernel, declared: Kernel) -> bool:
    return kernel.has_fixed_code or not text_can_follow(declared.roles or (), kernel.roles or ())


def text_can_follow(before: Sequence[Role], after: Sequence[Role]) -> bool:
    """Whether PTX can do what another body of its kernel says.

    It can get waits, and triggers if it has none of its own; loads can move ahead of a wait. Waits of its own can move
    to the front, and so can a trigger that comes after them. All else stays where it is in the text.
    """
    if [(role.name, role.warps) for role in before] != [(role.name, role.warps) for role in after]:
        return False
    for old, new in zip(before, after, strict=True):
        wait = next((i for i, step in enumerate(new.steps) if isinstance(step, Wait)), 0)
        moved = {step for step in new.steps[:wait] if isinstance(step, Phase) and not step.writes}
        own = next((i for i, step in enumerate(old.steps) if isinstance(step, Trigger)), None)
        waits = any(isinstance(step, Wait) for step in old.steps[:own])
        is_free = own is None or (waits and isinstance(new.steps[0], Trigger))
        inserted = Wait | Trigger if is_free else Wait
        kept = [
            [step for step in role.steps if not isinstance(step, inserted) and step not in moved] for role in (old, new)
        ]
        if kept[0] != kept[1]:
            return False
    return True


def _shared(first: Kernel, second: Kernel) -> list[Implementation]:
    return [implementation for implementation in first.implementations if implementation in second.implementations]


def _differences(phase: Phase, declared: Phase) -> Iterator[str]:
    head = f"phase '{phase.name}'"
    for verb, new, old in (
        ("read", _spelled(phase.reads), _spelled(declared.reads)),
        ("write", _spelled(phase.writes), _spelled(declared.writes)),
        ("use", _spelled(phase.scalars), _spelled(declared.scalars)),
    ):
        if new != old:
            yield f"{head} {verb}s {new}, but is declared to {verb} {old}"
    if phase.asynchronous != declared.asynchronous:
        how = "asynchronous" if declared.asynchronous else "not asynchronous"
        yield f"{head} is declared {how}, and no longer is"


def _spelled(items: Iterable[Access | str]) -> str:
    return ", ".join(map(str, items)) or "nothing"
