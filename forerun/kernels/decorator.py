"""A kernel of one's own: NumPy functions, one a phase, and a signature, which says what is read and what is written.

``"w: f32[N], x: f32[N] -> y: f32[N]"`` is written as in the text form (docs/text-format.md); ``eps: scalar f32`` is
passed by value. What is on the left, too, is read and written: ``"m: f32[R, N], row: scalar i32 -> m[row:row + 1]"``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from forerun.ir import phases
from forerun.ir.kernel import Access, Barrier, Implementation, Kernel, Parameter, ScalarParameter, Step, Trigger, Wait
from forerun.ir.launches import Launches
from forerun.ir.phases import PhaseFunction
from forerun.ir.text.kernel_reader import read_accesses, read_signature
from forerun.ir.trust import name_of, register_function, register_source
from forerun.support.diagnostics import InvalidInput

__all__ = ["KernelFunction", "kernel"]

_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)

Part: TypeAlias = "Callable[..., Any] | Wait | Trigger | Barrier | str"
"""A step of a kernel: a function, or ``"wait"``, ``"trigger"`` or ``"barrier"``."""

_STEPS: dict[str, Step] = {"wait": Wait(), "trigger": Trigger(), "barrier": Barrier()}


class KernelFunction(Protocol[_P, _R]):
    """The function of a kernel's only phase, which can be called as before, with the kernel that it is."""

    KERNEL: Kernel

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """What the function itself returns."""
        ...


@overload
def kernel(
    signature: str, /, *, name: str = "", reads: str = "", cuda: str = "", launches: Launches | None = None
) -> Callable[[Callable[_P, _R]], KernelFunction[_P, _R]]: ...


@overload
def kernel(
    signature: str, first: Part, /, *steps: Part, name: str = "", cuda: str = "", launches: Launches | None = None
) -> Kernel: ...


def kernel(
    signature: str, /, *steps: Part, name: str = "", reads: str = "", cuda: str = "", launches: Launches | None = None
) -> Any:
    """Make a kernel of NumPy functions: as a decorator of one, or of several, one a phase.

    What a function takes is known from the names of its arguments, in this order: parameters that are read, locals of
    earlier functions, scalars. It returns an array for each parameter that it writes. Of several functions, the last
    writes what the signature lists on the right, and each of the others defines a local of its own name, unless
    ``@forerun.phase`` says otherwise. All are registered (:func:`forerun.register_function`), and so is the source.

    Args:
        signature: ``"w: f32[N], x: f32[N] -> y: f32[N]"``: what is read, and what is written; see this module.
        *steps: Functions of the module, and ``"wait"``, ``"trigger"`` or ``"barrier"`` between them, which the passes
            insert where they are needed; none to decorate a function.
        name: The kernel's name; by default that of the only or last function.
        reads: Regions that the only function reads, such as ``"table[token:token + 1]"``; the others are read whole.
        cuda: CUDA C++ for GPUs: the name of a ``.cu`` file beside the module, or its text; see docs/writing-kernels.md.
        launches: The launches that the CUDA C++ accepts; ``None`` says nothing, and then nobody may change them.

    Returns:
        The kernel, or the decorator: the function stays as it is, with the kernel as its attribute ``KERNEL``.

    Raises:
        InvalidInput: If the signature is wrong, or does not fit the functions.

    Example:
        >>> from forerun.ir.text import print_kernel
        >>> @kernel("w: f32[N], x: f32[N] -> y: f32[N]")
        ... def scale(w, x):
        ...     return w * x
        >>> print(print_kernel(scale.KERNEL).partition(" ref ")[0])
        kernel @scale(w: f32[N], x: f32[N], y: f32[N]) {
          role all {
            phase scale reads w, x writes y
    """
    if not isinstance(signature, str):
        hint = 'such as @forerun.kernel("x: f32[N] -> y: f32[N]"), with a name for each argument'
        raise InvalidInput(f"a kernel needs its signature, not {signature!r}", hint=hint)
    if steps:
        return _make(signature, steps, name, reads, cuda, launches)

    def decorate(function: Any) -> Any:
        function.KERNEL = _make(signature, [function], name, reads, cuda, launches)
        return function

    return decorate


def _make(signature: str, steps: Sequence[Part], name: str, reads: str, cuda: str, launches: Launches | None) -> Kernel:
    for step in steps:
        is_word = isinstance(step, str) and step in _STEPS
        if not (is_word or inspect.isfunction(step) or isinstance(step, (Wait, Trigger, Barrier))):
            hint = "steps are functions, and 'wait', 'trigger' or 'barrier' between them"
            raise InvalidInput(f"{step!r} is not a step of a kernel", hint=hint)
    functions = [step for step in steps if inspect.isfunction(step)]
    if not functions:
        raise InvalidInput("a kernel has at least one function")
    name = name or functions[-1].__name__
    about = f"kernel '{name}'"
    parameters, outputs = read_signature(signature, about)
    declared = _phases(functions, outputs, parameters, reads, about)
    for function in functions:
        register_function(function)
    body = [_STEPS[step] if isinstance(step, str) else declared.get(step, step) for step in steps]
    code = (_implementation(name, functions[-1], cuda),) if cuda else ()
    made = phases.kernel(name, parameters, *body, implementations=code, launches=launches)
    _require_used(made, outputs, about)
    return made


def _phases(
    functions: Sequence[Callable[..., Any]],
    outputs: Sequence[Access],
    parameters: Sequence[Parameter],
    reads: str,
    about: str,
) -> dict[Any, PhaseFunction]:
    """Each function with what it writes and defines, and with the regions that it reads."""
    found = {f: phases.phase_of(f) if phases.is_phase(f) else PhaseFunction(f) for f in functions}
    said = {access.parameter for p in found.values() if p.writes for access in read_accesses(p.writes, about)}
    rest = ", ".join(str(access) for access in outputs if access.parameter not in said)
    for function, declared in found.items():
        if not (declared.writes or declared.defines):
            is_last = function is functions[-1]
            defines = "" if is_last else function.__name__
            found[function] = replace(declared, writes=rest if is_last else "", defines=defines)
    if reads:
        regions = {access.parameter: str(access) for access in read_accesses(reads, f"{about}, reads")}
        scalars = {p.name for p in parameters if isinstance(p, ScalarParameter)}
        names = [name for name in inspect.signature(functions[-1]).parameters if name not in scalars]
        for name in regions:
            if name not in names:
                raise InvalidInput(f"{about}: '{functions[-1].__name__}' has no argument '{name}' to read")
        read = ", ".join(regions.get(name, name) for name in names)
        found[functions[-1]] = replace(found[functions[-1]], reads=read)
    return found


def _require_used(made: Kernel, outputs: Sequence[Access], about: str) -> None:
    read = {access.parameter for phase in made.phases for access in phase.reads}
    written = {access.parameter for phase in made.phases for access in phase.writes}
    if not written:
        raise InvalidInput(f"{about}: nothing is written", hint="say what, after an arrow: -> y: f32[N]")
    for name in (access.parameter for access in outputs if access.parameter not in written):
        raise InvalidInput(f"{about}: no function writes '{name}'")
    for name in (p.name for p in made.buffer_parameters if p.name not in read | written):
        raise InvalidInput(f"{about}: no function has an argument '{name}'", hint="leave it out of the signature")


def _implementation(name: str, function: Callable[..., Any], cuda: str) -> Implementation:
    """The CUDA C++: a file beside the function's module, or a text, in a source that is named by what it holds."""
    module = name_of(function).partition(":")[0]
    if "{" in cuda:
        file = f"{name}-{sha256(cuda.encode()).hexdigest()[:12]}.cu"
        register_source(f"{module}:{file}", cuda)
        return Implementation("cuda", f"{module}:{file}", name)
    if not cuda.endswith(".cu") or Path(cuda).name != cuda:
        message = f"kernel '{name}': {cuda!r} is neither CUDA C++ nor the name of a .cu file beside the module"
        raise InvalidInput(message)
    home = getattr(sys.modules.get(function.__module__), "__file__", None)
    path = (Path(home).parent if home else Path.cwd()) / cuda
    if not path.is_file():
        raise InvalidInput(f"kernel '{name}': there is no file {path}")
    if not home:  # a notebook, which nothing lies beside
        return _implementation(name, function, path.read_text(encoding="utf-8"))
    register_source(f"{module}:{cuda}")
    return Implementation("cuda", f"{module}:{cuda}", name)
