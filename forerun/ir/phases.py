"""Kernels made of NumPy functions, one a phase, and a line for their parameters in the syntax of the text form.

A phase says at its function what it writes and defines. What it reads and uses are the function's arguments::

    @phase(defines="scale")
    def load(w):
        return w

    @phase(writes="z")
    def scale_add(x, y, scale):
        return scale * x + y

    KERNEL = kernel("scale_add", "w: f32[N], x: f32[N], y: f32[N], z: f32[N]", load, scale_add)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeAlias, TypeVar

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
from forerun.ir.launches import Launches
from forerun.ir.text.kernel_reader import read_accesses, read_parameters
from forerun.ir.trust import function_path
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["PhaseFunction", "Piece", "is_phase", "kernel", "phase", "phase_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_DECLARED = "__forerun_phase__"


@dataclass(frozen=True, slots=True)
class PhaseFunction:
    """A NumPy function, and what its phase does beyond what the names of its arguments say.

    Attributes:
        function: Takes an array for each read, then the locals that it uses, then scalars. It returns an array for each
            write, then what it defines; a single result as it is.
        writes: Such as ``"y"`` or ``"cache[pos:pos + 1]"``, with commas between several.
        defines: Names of locals, with commas between them.
        reads: As ``writes``, where they are not whole buffers that are called like the arguments.
        uses: As ``defines``, where the locals are not called like the arguments.
        asynchronous: Whether the copy engine reads; see :class:`forerun.ir.kernel.Phase`.
        name: The phase's, if it is not the function's.
        scalars: Names of scalars, where the arguments are not called like them. A function of ``*arrays`` says all
            three: ``reads``, ``uses`` and ``scalars``.
    """

    function: Callable[..., Any]
    writes: str = ""
    defines: str = ""
    reads: str | None = None
    uses: str | None = None
    asynchronous: bool = False
    name: str = ""
    scalars: str | None = None

    def __post_init__(self) -> None:
        for clause in ("writes", "defines", "reads", "uses", "scalars"):
            value = getattr(self, clause)
            if value is not None and not isinstance(value, str):
                raise InvalidInput(f'{clause} of a phase is text such as "x, y", not {value!r}')


Piece: TypeAlias = "Callable[..., Any] | PhaseFunction | Step | Role"
"""What a body is made of."""


def phase(
    *,
    writes: str = "",
    defines: str = "",
    reads: str | None = None,
    uses: str | None = None,
    asynchronous: bool = False,
    name: str = "",
) -> Callable[[_Function], _Function]:
    """Decorator: the function computes a phase of a kernel, and stays a plain function. See :class:`PhaseFunction`."""

    def declare(function: _Function) -> _Function:
        setattr(function, _DECLARED, PhaseFunction(function, writes, defines, reads, uses, asynchronous, name))
        return function

    return declare


def is_phase(function: Callable[..., Any]) -> bool:
    """Whether :func:`phase` said something about a function."""
    return hasattr(function, _DECLARED)


def phase_of(function: Callable[..., Any]) -> PhaseFunction:
    """What :func:`phase` said about a function; ``dataclasses.replace`` makes another phase of the same function.

    Raises:
        InvalidInput: If nobody said anything.
    """
    found = getattr(function, _DECLARED, None)
    if not isinstance(found, PhaseFunction):
        name = getattr(function, "__qualname__", repr(function))
        raise InvalidInput(f"{name} is not a phase", hint='decorate it: @phase(writes="...") or @phase(defines="...")')
    return found


def kernel(
    name: str,
    parameters: str | Iterable[Parameter],
    *body: Piece,
    implementations: tuple[Implementation, ...] = (),
    launches: Launches | None = None,
) -> Kernel:
    """The kernel of functions that are decorated with :func:`phase`, in the order in which it executes them.

    Args:
        name: The kernel's.
        parameters: As the text form has them: ``"x: f32[rows, 4] align 16, index: scalar i32"``; or parameters.
        *body: Functions, phases, waits, triggers and barriers of one role; or roles.
        implementations: Other code than the NumPy functions.
        launches: With which launches it does what it declares.

    Raises:
        InvalidInput: If the parameters cannot be read, or an argument of a function is neither a buffer, nor a scalar,
            nor defined by a phase before.

    Example:
        >>> @phase(writes="y")
        ... def double(x):
        ...     return 2 * x
        >>> print(kernel("double", "x: f32[N], y: f32[N]", double).phases[0].reads[0])
        x
    """
    about = f"kernel '{name}'"
    found = read_parameters(parameters, about) if isinstance(parameters, str) else tuple(parameters)
    locals_: list[str] = []
    roles = [piece for piece in body if isinstance(piece, Role)]
    if not roles:
        roles = [Role("all", tuple(_step(piece, found, locals_, about) for piece in body))]
    elif len(roles) < len(body):
        raise InvalidInput(f"{about}: roles and phases stand side by side", hint="put all phases into roles")
    return Kernel(name, found, tuple(roles), implementations, launches)


def _step(piece: Piece, parameters: tuple[Parameter, ...], locals_: list[str], about: str) -> Step:
    if isinstance(piece, Phase):
        locals_ += piece.defines
    if isinstance(piece, Phase | Wait | Trigger | Barrier):
        return piece
    assert not isinstance(piece, Role)
    declared = piece if isinstance(piece, PhaseFunction) else phase_of(piece)
    made = _phase(declared, parameters, locals_, about)
    locals_ += made.defines
    return made


def _phase(declared: PhaseFunction, parameters: tuple[Parameter, ...], locals_: list[str], about: str) -> Phase:
    name = declared.name or declared.function.__name__
    about = f"{about}, phase '{name}'"
    signature = inspect.signature(declared.function).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature)
    arguments = [parameter.name.lstrip("_") for parameter in signature]
    buffers = {p.name for p in parameters if isinstance(p, BufferParameter)}
    if declared.reads is None:
        reads = tuple(map(Access, takewhile((buffers - set(locals_)).__contains__, arguments)))
    else:
        reads = read_accesses(declared.reads, f"{about}, reads")
    rest = arguments[len(reads) :]
    used = tuple(takewhile(locals_.__contains__, rest)) if declared.uses is None else _names(declared.uses)
    scalars = rest[len(used) :] if declared.scalars is None else list(_names(declared.scalars))
    writes = read_accesses(declared.writes, f"{about}, writes") if declared.writes else ()
    if not takes_any and len(reads) + len(used) > len(arguments):
        message = f"{about}: its function lacks arguments: it has {len(arguments)}"
        raise InvalidInput(f"{message} for {len(reads)} reads and {len(used)} locals")
    for access in (*reads, *writes):
        if access.parameter not in buffers:
            hint = did_you_mean(access.parameter, sorted(buffers))
            raise InvalidInput(f"{about}: '{access.parameter}' is not a buffer of the kernel", hint=hint)
    _require_scalars(scalars, parameters, locals_, about)
    names = used, _names(declared.defines), tuple(scalars)
    return Phase(name, reads, writes, *names, declared.asynchronous, function_path(declared.function))


def _require_scalars(names: list[str], parameters: tuple[Parameter, ...], locals_: list[str], about: str) -> None:
    """What is neither read nor used must be a scalar."""
    known = {p.name: isinstance(p, ScalarParameter) for p in parameters} | dict.fromkeys(locals_, False)
    for name in names:
        if name not in known:
            message = f"{about}: argument '{name}' is not a buffer, a local of an earlier phase, or a scalar"
            raise InvalidInput(message, hint=did_you_mean(name, list(known)))
        if not known[name]:
            hint = "arrays that are read come first, then locals, then scalars"
            raise InvalidInput(f"{about}: argument '{name}' stands too late", hint=hint)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
