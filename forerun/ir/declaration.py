"""What a kernel's code is declared to access, and kernels that say otherwise of the same code.

The phases of a kernel say what its code reads and writes. A pass may reorder phases where the compiler writes the
body, but it may not say of the same code that it accesses something else: races would be looked for in a fiction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forerun.ir.kernel import Access, Implementation, Kernel, Phase

__all__ = ["contradiction", "runs_code_of"]


def runs_code_of(kernel: Kernel, declared: Kernel) -> bool:
    """Whether a kernel says that it runs what another one runs: they share a name, or an implementation."""
    return kernel.name == declared.name or bool(_shared(kernel, declared))


def contradiction(kernel: Kernel, declared: Kernel) -> str:
    """What a kernel says of the code of another one, against what that one declares; empty if they agree.

    A phase contradicts a phase of the same name with other reads, writes or scalars, or whose reads are asynchronous
    where the others are not, if both are the same code: by an implementation that the kernels share, or by the phases'
    own function. Of machine code and PTX, which the compiler does not write, the whole body is a declaration. A black
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
    if foreign and kernel.roles != declared.roles:
        code = f"{foreign[0].language} {foreign[0].source}:{foreign[0].entry}"
        return f"its body is another one, but the code is given ({code}), so its steps cannot change"
    return ""


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
