"""Random kernels that run: bodies of phases, waits, triggers and barriers, computed by built-in functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import TypeVar

from hypothesis import strategies as st

from forerun.ir.affine import affine
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Kernel,
    Parameter,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.launches import ANY_LAUNCH, WHOLE_WARPS, Launches, Span
from forerun.ir.region import WHOLE, Region, region
from forerun.ir.types import DType
from forerun.testing import hashing

__all__ = ["WIDTH", "KernelShape", "kernels", "pick", "written_parameters"]

WIDTH = 4
"""The extent of every buffer parameter."""

_Option = TypeVar("_Option")

_READ, _WRITTEN, _SCALAR = ("a", "b"), ("y", "z"), "s"
_PAIR = 2 * DType.I32.itemsize
_HALF, _OTHER_HALF, _ROW = region((0, 2)), region((2, 4)), region((_SCALAR, affine(_SCALAR) + 1))
_WIDTHS: dict[Region, int] = {WHOLE: 4, _HALF: 2, _OTHER_HALF: 2, _ROW: 1}


@dataclass(frozen=True)
class KernelShape:
    """What a random kernel may contain; the fields are arguments of :func:`kernels`."""

    waits: bool = True
    roles: int = 2
    phases: int = 3
    partial: bool = True
    asynchronous: bool = True

    def kernels(self, name: str = "kernel") -> st.SearchStrategy[Kernel]:
        """Kernels of this shape; see :func:`kernels`."""
        return _kernels(name, self)


@dataclass(frozen=True)
class _Drawn:
    """A phase before its locals are known."""

    reads: tuple[Access, ...]
    write: Access | None
    uses: bool
    uses_scalar: bool = False
    asynchronous: bool = False


def kernels(
    name: str = "kernel",
    *,
    waits: bool = True,
    roles: int = 2,
    phases: int = 3,
    partial: bool = True,
    asynchronous: bool = True,
) -> st.SearchStrategy[Kernel]:
    """Kernels on i32 vectors of four elements, whose phases the reference target can run.

    Parameters are ``a`` and ``b`` (read), ``y`` and ``z`` (written, and in kernels of one role perhaps read), and a
    scalar ``s`` that says which element a phase accesses; only those that occur are declared. A kernel has no race of
    its own, provided that in kernels of two roles, or with asynchronous reads, what is written is not bound to the
    bytes of ``a`` or ``b``. It may need buffers at multiples of two elements, and say which launches it accepts; the
    default one is among them. Shrinks to one phase that says nothing of either.

    Args:
        name: The kernels' name.
        waits: Whether bodies may hold waits and triggers.
        roles: The most roles: 1, or 2 (one that loads, and one that uses what it defines after a barrier).
        phases: The most phases of a role.
        partial: Whether phases may access halves and single elements.
        asynchronous: Whether reads may go through the copy engine, those of phases that write among them.

    Example:
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, deadline=None, database=None)
        ... @given(kernels("k", roles=1))
        ... def test(kernel):
        ...     assert kernel.name == "k" and len(kernel.roles) == 1
        >>> test()
    """
    return KernelShape(waits, roles, phases, partial, asynchronous).kernels(name)


def written_parameters(kernel: Kernel) -> frozenset[str]:
    """The names of the parameters that a kernel writes."""
    return frozenset(access.parameter for phase in kernel.phases for access in phase.writes)


@cache
@st.composite
def _kernels(draw: st.DrawFn, name: str, shape: KernelShape) -> Kernel:
    kind = draw(_body_kinds(shape))
    # What one role, or the copy engine, reads at any time must not be written by the kernel itself.
    readable = (*_READ, *_WRITTEN) if kind == "plain" else _READ
    main = draw(_bodies(readable, shape, kind == "asynchronous"))
    if kind != "roles":
        return _declared(draw, name, (Role("main", _with_events(draw, _finished(main, "p"), shape)),))
    loader = _finished(draw(_loaders(shape)), "l")
    given = [local for phase in loader for local in phase.defines]
    barrier = draw(_places(len(main)))
    steps: tuple[Step, ...] = (*_finished(main[:barrier], "p"), Barrier(), *_finished(main[barrier:], "q", given))
    roles = (
        Role("loader", _with_events(draw, (*loader, Barrier()), shape)),
        Role("main", _with_events(draw, steps, shape)),
    )
    return _declared(draw, name, roles)


def _with_events(draw: st.DrawFn, steps: Sequence[Step], shape: KernelShape) -> tuple[Step, ...]:
    """The steps of a role with at most one wait and one trigger at any place."""
    if not shape.waits:
        return tuple(steps)
    wait, trigger, fenced = draw(_events(len(steps)))
    with_events: list[Step] = []
    for i, step in enumerate((*steps, None)):
        with_events += [Wait()] if i == wait else []
        with_events += [Trigger(fenced)] if i == trigger else []
        with_events += [step] if step is not None else []
    return tuple(with_events)


def pick(options: Sequence[_Option]) -> st.SearchStrategy[_Option]:
    """One of many. Unlike ``sampled_from``, it does not spell out all of them wherever it is shown."""

    def option(index: int) -> _Option:
        return options[index]

    return st.sampled_from(range(len(options))).map(option)


_ACCEPTED = [None, None, None, ANY_LAUNCH, WHOLE_WARPS, Launches(grid=Span(1, 64), shared=Span(0, 1024))]
_NEEDS = pick([(align, accepted) for align in (None, None, _PAIR) for accepted in _ACCEPTED])
"""An alignment, of two elements, and accepted launches; most kernels say nothing of either."""

# Strategies are made once, and draw as much as they can in one step: making and validating them is what takes the
# time. What is more likely occurs in a list several times; what is simpler comes first, since shrinking goes there.


@cache
def _body_kinds(shape: KernelShape) -> st.SearchStrategy[str]:
    kinds = ["plain", "plain", "plain"]
    kinds += ["asynchronous"] if shape.asynchronous else []
    kinds += ["roles"] if shape.roles > 1 else []
    return st.sampled_from(kinds)


@cache
def _places(last: int) -> st.SearchStrategy[int]:
    return st.integers(0, last)


@cache
def _events(count: int) -> st.SearchStrategy[tuple[int | None, int | None, bool]]:
    """Where a role's wait and trigger are: a third each nowhere, first, anywhere. Some triggers are fenced."""
    places = [*[None] * (count + 1), *[0] * (count + 1), *range(count + 1)]
    found = [(wait, trigger, False) for wait in places for trigger in places]
    return pick([*found, *((wait, trigger, True) for wait, trigger, _ in found if trigger is not None)])


@cache
def _bodies(readable: tuple[str, ...], shape: KernelShape, asynchronous: bool) -> st.SearchStrategy[list[_Drawn]]:
    return st.lists(_phases(readable, shape, asynchronous), min_size=1, max_size=shape.phases)


@cache
def _loaders(shape: KernelShape) -> st.SearchStrategy[list[_Drawn]]:
    return st.lists(_loads(_READ, shape, False), min_size=1, max_size=2)


@cache
def _phases(readable: tuple[str, ...], shape: KernelShape, asynchronous: bool) -> st.SearchStrategy[_Drawn]:
    return st.one_of(_stores(readable, shape, asynchronous), _loads(readable, shape, asynchronous))


@cache
def _stores(readable: tuple[str, ...], shape: KernelShape, asynchronous: bool) -> st.SearchStrategy[_Drawn]:
    writes = [Access(parameter, part) for part in _parts(shape) for parameter in _WRITTEN]
    flags = [(uses, copied) for copied in ([False, True] if asynchronous else [False]) for uses in (True, True, False)]

    def drawn(read: tuple[Access, ...], write: Access, flag: tuple[bool, bool]) -> _Drawn:
        return _Drawn(read, write, uses=flag[0], asynchronous=flag[1])

    return st.builds(drawn, pick(_reads(readable, shape)), pick(writes), pick(flags))


@cache
def _loads(readable: tuple[str, ...], shape: KernelShape, asynchronous: bool) -> st.SearchStrategy[_Drawn]:
    reads = [found for found in _reads(readable, shape) if found]
    uses = [False, False, True]
    scalars = [False, False, False, True] if shape.partial else [False]
    flags = [(False, *pair) for pair in product(uses, scalars)]
    flags += [(True, *pair) for pair in product(uses, scalars)] if asynchronous else []

    def drawn(read: tuple[Access, ...], flag: tuple[bool, bool, bool]) -> _Drawn:
        return _Drawn(read, None, uses=flag[1], uses_scalar=flag[2], asynchronous=flag[0])

    return st.builds(drawn, pick(reads), pick(flags))


@cache
def _reads(readable: tuple[str, ...], shape: KernelShape) -> list[tuple[Access, ...]]:
    """None, one or two reads."""
    accesses = [Access(parameter, part) for part in _parts(shape)[-4:] for parameter in readable]
    one: list[tuple[Access, ...]] = [(access,) for access in accesses for _ in accesses]
    return [*[()] * len(accesses), *one, *combinations(accesses, 2)]


def _parts(shape: KernelShape) -> list[Region]:
    return [WHOLE, WHOLE, _HALF, _OTHER_HALF, _ROW] if shape.partial else [WHOLE]


def _finished(drawn: Iterable[_Drawn], stem: str, given: Iterable[str] = ()) -> tuple[Phase, ...]:
    """The phases, with the locals that the earlier ones give."""
    known = list(given)
    phases = []
    for i, phase in enumerate(drawn):
        uses = tuple(known) if phase.uses else ()
        defines = (f"{stem}{i}v",) if phase.write is None else ()
        function = "digest" if phase.write is None else hashing.store_name(_WIDTHS[phase.write.region])
        writes = () if phase.write is None else (phase.write,)
        # Two nodes that store without reading must not store the same by chance: the scalar tells them apart.
        scalars = (_SCALAR,) if phase.uses_scalar or not (phase.reads or uses) else ()
        reference = f"{hashing.__name__}:{function}"
        phases.append(
            Phase(f"{stem}{i}", phase.reads, writes, uses, defines, scalars, phase.asynchronous, reference=reference)
        )
        known += defines
    return tuple(phases)


def _declared(draw: st.DrawFn, name: str, roles: tuple[Role, ...]) -> Kernel:
    """The kernel, with the parameters that its phases use."""
    align, launches = draw(_NEEDS)
    phases = [phase for role in roles for phase in role.phases]
    accesses = [access for phase in phases for access in (*phase.reads, *phase.writes)]
    used = {access.parameter for access in accesses}
    names = (p for p in (*_READ, *_WRITTEN) if p in used)
    parameters: list[Parameter] = [BufferParameter(p, DType.I32, (WIDTH,), align) for p in names]
    if any(access.region.symbols for access in accesses) or any(phase.scalars for phase in phases):
        parameters.append(ScalarParameter(_SCALAR, DType.I32))
    return Kernel(name, tuple(parameters), roles, launches=launches)
