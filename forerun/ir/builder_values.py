"""What callers of a graph builder give it: types, shapes, numbers, kernels; with messages for what is none of these."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable
from types import ModuleType

from forerun.ir.kernel import Kernel
from forerun.ir.types import DType
from forerun.support.diagnostics import InvalidInput

__all__ = ["dtype_of", "kernel_of", "number_of", "shape_of", "what_of"]


def dtype_of(name: str, value: object) -> DType:
    """The type that a buffer is given."""
    try:
        return DType.of(value)
    except InvalidInput as error:
        raise InvalidInput(f"buffer '{name}': {error.message}", hint=error.hint) from error


def shape_of(name: str, value: object) -> tuple[int, ...]:
    """The shape that a buffer is given."""
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    try:
        if any(isinstance(item, bool) for item in items):
            raise TypeError  # which would pass for 0 and 1
        return tuple(operator.index(item) for item in items)
    except TypeError:
        hint = 'extents are integers, such as "f32", (2, 8); an integer alone is a vector'
        raise InvalidInput(f"buffer '{name}': {value!r} is not a shape", hint=hint) from None


def number_of(place: str, value: object, is_float: bool) -> int | float:
    """A number of Python; those of NumPy and others are converted."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    if is_float and hasattr(value, "__float__") and not getattr(value, "shape", ()):
        return float(value)
    if isinstance(value, float):
        return value  # for an integer: the verifier says so
    hint = "a number, or a ScalarLoad of an integer in memory"
    raise InvalidInput(f"{place} is a scalar, not {what_of(value)}", hint=hint)


def kernel_of(value: object) -> Kernel:
    """The kernel that a launch is given."""
    kernel = getattr(value, "KERNEL", value)
    if isinstance(kernel, Kernel):
        return kernel
    hint = "pass a Kernel, or a module or function that has one as KERNEL, such as forerun.kernels.add"
    if isinstance(value, ModuleType):
        own = [name for name in vars(value) if name.isupper() and name.startswith("KERNEL")]
        hint = f"choose one of {value.__name__}.{own[0]}" if own else hint
    elif inspect.isfunction(value):
        names = [f"{name}: f32[N]" for name in inspect.signature(value).parameters]
        hint = f'decorate it: @forerun.kernel("{", ".join(names)} -> y: f32[N]")'
    raise InvalidInput(f"launch takes a kernel, not {what_of(value)}", hint=hint)


def what_of(value: object) -> str:
    """A value in messages: what it is, and how it is called."""
    name = getattr(value, "__name__", "")
    kind = type(value).__name__
    return f"{kind} '{name}'" if name else kind if len(repr(value)) > 40 else f"{kind} {value!r}"
