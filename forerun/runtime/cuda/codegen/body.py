"""The body of an entry: its roles' steps, in the order of the kernel's body."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from forerun.ir.kernel import Barrier, Kernel, Phase, Role, Step, Trigger, Wait
from forerun.ir.nodes import Launch
from forerun.runtime.cuda.codegen.names import identifier

__all__ = ["CannotGenerate", "RoleWarps", "body_lines", "phase_names", "statement", "warps_of_roles"]

_WARP = 32


class CannotGenerate(Exception):
    """Why no code can be made; the caller knows of what."""


@dataclass(frozen=True, slots=True)
class RoleWarps:
    """The warps of a CTA that play a role: ``first`` to ``stop``, of ``total``."""

    role: Role
    first: int
    stop: int
    total: int

    @property
    def is_all(self) -> bool:
        """Whether the role is all of the CTA."""
        return self.first == 0 and self.stop == self.total

    @property
    def first_thread(self) -> int:
        """The first thread's number in the CTA."""
        return self.first * _WARP


def warps_of_roles(kernel: Kernel, launch: Launch) -> tuple[RoleWarps, ...]:
    """Which warps play which role: in order, as many as each claims; roles that claim none share the rest evenly.

    Raises:
        CannotGenerate: If the warps do not suffice, or the last one is not whole.
    """
    roles = kernel.roles or ()
    threads = math.prod(launch.block)
    total = -(-threads // _WARP)
    if (len(roles) > 1 or any(role.warps is not None for role in roles)) and threads % _WARP:
        raise CannotGenerate(f"roles are groups of warps, and {threads} threads a CTA are not whole warps")
    rest = total - sum(role.warps or 0 for role in roles)
    open_roles = [role for role in roles if role.warps is None]
    if rest < len(open_roles):
        wanted = total - rest + len(open_roles)
        raise CannotGenerate(f"its {len(roles)} roles need at least {wanted} warps a CTA, the launch has {total}")
    shares = iter([rest // len(open_roles) + (i < rest % len(open_roles)) for i in range(len(open_roles))])
    found, first = [], 0
    for role in roles:
        stop = first + (next(shares) if role.warps is None else role.warps)
        found.append(RoleWarps(role, first, stop, total))
        first = stop
    return tuple(found)


def phase_names(kernel: Kernel) -> Mapping[str, str]:
    """The function of each phase. Authors rely on the name, so it depends on nothing else.

    Raises:
        CannotGenerate: If two phases would have one function.
    """
    names = {phase.name: identifier(phase.name) for phase in kernel.phases}
    for name, function in names.items():
        others = [other for other in names if other != name and names[other] == function]
        if others:
            raise CannotGenerate(f"phases '{name}' and '{others[0]}' would both be the function {function}")
    return names


def body_lines(
    kernel: Kernel, roles: Sequence[RoleWarps], namespace: str, *, delays: bool = False, timeline: str = ""
) -> Iterator[str]:
    """The statements of the entry, not indented.

    ``timeline`` is the parameter with the address of the records of times; empty for none.

    Raises:
        CannotGenerate: If there is a grid-wide barrier, or names collide.
    """
    names = phase_names(kernel)
    if any(isinstance(step, Barrier) and step.scope == "grid" for _, _, step in kernel.steps()):
        raise CannotGenerate("a barrier of the whole grid is not generated: all CTAs would have to be resident")
    extras = _Extras(delays, timeline, f"{namespace}::Launch")
    yield from [f"stamp_start<{extras.launch}>({timeline});"] if timeline else []
    if len(roles) == 1 and roles[0].is_all:
        yield from _steps(roles[0], names, namespace, extras)
    else:
        yield from _branches(roles, names, namespace, extras)
    yield from [f"stamp_end<{extras.launch}>({timeline});"] if timeline else []


@dataclass(frozen=True, slots=True)
class _Extras:
    """What stands between the steps of a body, besides them."""

    delays: bool
    timeline: str
    launch: str
    numbers: Iterator[int] = field(default_factory=count)

    def delay(self) -> Iterator[str]:
        if self.delays:
            yield f"delay(key, {next(self.numbers)});"

    def stamp(self, step: Step, warps: RoleWarps) -> Iterator[str]:
        kind = _STAMPS.get(type(step))
        if self.timeline and kind is not None:
            yield f"stamp_time<{self.launch}>({self.timeline}, {kind}, {warps.first_thread});"


_STAMPS: Mapping[type, str] = {Wait: "STAMP_WAIT", Trigger: "STAMP_TRIGGER"}


def _branches(roles: Sequence[RoleWarps], names: Mapping[str, str], namespace: str, extras: _Extras) -> Iterator[str]:
    yield "const int warp_in_cta = thread_in_cta() / 32;"
    playing = [warps for warps in roles if warps.first < warps.stop]
    for number, warps in enumerate(playing):
        # The last of the threads are told by no comparison: the assembler would let those that fail it end early.
        rest = number > 0 and warps.stop == warps.total
        words = ["} else"] * (number > 0) + [f"if (warp_in_cta < {warps.stop})"] * (not rest)
        yield f"{' '.join(words)} {{  // role {identifier(warps.role.name)}"
        yield from (f"    {line}" for line in _steps(warps, names, namespace, extras))
    idle = _without_role(playing)
    if idle:
        yield "} else {  // no role, but all threads of the CTA do this"
        yield from (f"    {line}" for line in idle)
    yield from ["}"] if playing else []


def _without_role(playing: Sequence[RoleWarps]) -> list[str]:
    """What warps without a role do, if there are any: they wait if all roles do, and meet the others at barriers."""
    if not playing or playing[-1].stop == playing[-1].total:
        return []
    waits = all(any(isinstance(step, Wait) for step in warps.role.steps) for warps in playing)
    barriers = sum(isinstance(step, Barrier) for step in playing[-1].role.steps)
    return ["wait();"] * waits + ["cta_barrier();"] * barriers


def _steps(warps: RoleWarps, names: Mapping[str, str], namespace: str, extras: _Extras) -> Iterator[str]:
    yield from extras.delay()
    for step in warps.role.steps:
        yield statement(step, names, namespace)
        yield from extras.stamp(step, warps)
        yield from extras.delay()


def statement(step: Step, names: Mapping[str, str], namespace: str) -> str:
    """The statement that executes a step; ``names`` are those of the phases' functions in the namespace."""
    match step:
        case Phase(name=name):
            return f"{namespace}::{names[name]}(arguments, locals);"
        case Wait():
            return "wait();"
        case Trigger(fenced=fenced):
            return "fenced_trigger();" if fenced else "trigger();"
        case Barrier():
            return "cta_barrier();"
