"""Kernels with all that a declaration may say; see :mod:`forerun.testing.rare_strategy`."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from forerun.ir.affine import affine
from forerun.ir.buffer import Buffer
from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
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
from forerun.ir.nodes import Launch
from forerun.ir.region import WHOLE, Region, region
from forerun.ir.types import DType
from forerun.testing import hashing
from forerun.testing.kernel_strategy import pick

__all__ = ["COLUMNS", "launches_of", "rare_kernels"]

COLUMNS = 4
"""Columns of the matrices."""

_S = affine("s")
_BOXES = (
    WHOLE,
    *(region(None, (column, column + 1)) for column in range(COLUMNS)),
    region(None, (0, 2)),
    region((_S, _S + 1)),
    region((2 * _S, 2 * _S + 1), (0, 3)),
    region((0, _S), (1, 2)),
    region((-_S + 4, -_S + 5)),
)
"""Regions of a matrix of at least eight rows, with a scalar from 1 to 3."""

_INTEGERS = [dtype for dtype in DType if not dtype.is_float]
_SOURCES = (
    (),
    (Implementation("cuda", "rare:rare.cu", "rare"),),
    (Implementation("ptx", "rare:rare.ptx", "rare"), Implementation("cubin", "rare:rare.cubin", "rare")),
)
_EVERY_SPAN = Launches(Span(1, 64), Span(64, 256, 64), Span(0, 2048), Span(1, 2))
_ACCEPTED = (None, ANY_LAUNCH, WHOLE_WARPS, _EVERY_SPAN)
_LAUNCHES = (
    Launch(),
    Launch((4, 1, 1), (64, 1, 1), 1024),
    Launch((4, 2, 1), (64, 2, 1)),
    Launch((4, 1, 1), (128, 1, 1), cluster=(2, 1, 1)),
    Launch((2, 1, 2), (128, 1, 1), cooperative=True),
)


@st.composite
def rare_kernels(draw: st.DrawFn, name: str, read: Buffer, written: Buffer, *, black_box: bool) -> Kernel:
    """Kernels that read a parameter ``x`` and write a parameter ``y``, to which ``read`` and ``written`` will be bound.

    The two share no bytes. Of a black box, nothing is known of the body.
    """
    parameters: list[Parameter] = [draw(_parameters("x", read)), draw(_parameters("y", written))]
    scalar = ScalarParameter("s", draw(pick(_INTEGERS)))
    sources, accepted = draw(pick(_SOURCES)), draw(pick(_ACCEPTED))
    if black_box:
        return Kernel(name, (*parameters, scalar), None, sources, accepted)
    roles = [Role("main", tuple(draw(_bodies(read, written))), draw(pick([None, 1])))]
    if draw(pick([False, False, True])):
        load = Phase("load", (Access("x"),), defines=("loaded",), asynchronous=draw(st.booleans()))
        both = draw(pick([(Barrier(),), (Barrier("grid"),)]))
        roles = [Role("loader", (load, *both), 1), Role("main", (*both, *roles[0].steps))]
    return Kernel(name, (*parameters, scalar), tuple(roles), sources, accepted)


def launches_of(kernel: Kernel) -> st.SearchStrategy[Launch]:
    """Launches that a kernel accepts."""
    accepted = kernel.launches or ANY_LAUNCH
    return pick([launch for launch in _LAUNCHES if not accepted.refusal(launch)])


@st.composite
def _parameters(draw: st.DrawFn, name: str, buffer: Buffer) -> BufferParameter:
    extents = draw(pick([None, (*buffer.shape,), (None,) * len(buffer.shape), tuple("RCDE"[: len(buffer.shape)])]))
    fitting = [align for align in (16, 256) if buffer.offset % align == 0]
    named = None if extents is None else tuple(f"{name}{e}" if isinstance(e, str) else e for e in extents)
    return BufferParameter(name, buffer.dtype, named, draw(pick([None, *fitting])))


@st.composite
def _bodies(draw: st.DrawFn, read: Buffer, written: Buffer) -> list[Step]:
    """Phases of which at least one writes; a wait and a trigger among them."""
    steps: list[Step] = [draw(_phases("p0", read, written, (), False))]
    steps.append(draw(_phases("p1", read, written, _given(steps), True)))
    if draw(st.booleans()):
        steps.append(draw(_phases("p2", read, written, _given(steps), draw(st.booleans()))))
    for step in (Wait(), draw(pick([Trigger(), Trigger(fenced=True)]))):
        if draw(st.booleans()):
            steps.insert(draw(st.integers(0, len(steps))), step)
    return steps


def _given(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(local for step in steps if isinstance(step, Phase) for local in step.defines)


@st.composite
def _phases(draw: st.DrawFn, name: str, read: Buffer, written: Buffer, given: tuple[str, ...], writes: bool) -> Phase:
    reads = draw(pick([(), (Access("x"),), (Access("x"), Access("x", draw(_boxes(read))))]))
    stores = (Access("y", draw(_boxes(written))),) if writes else ()
    defines = (f"{name}v",) if not writes or draw(st.booleans()) else ()
    scalars = draw(pick([(), ("s",)]))
    function = f"{hashing.__name__}:{'store_4' if writes else 'digest'}"
    uses = given if draw(st.booleans()) else ()
    return Phase(name, reads, stores, uses, defines, scalars, draw(st.booleans()), draw(pick([None, function])))


def _boxes(buffer: Buffer) -> st.SearchStrategy[Region]:
    fits = len(buffer.shape) == 2 and buffer.shape[0] >= 2 * COLUMNS and buffer.shape[1] == COLUMNS
    return pick(_BOXES if fits else [WHOLE])
