"""The NumPy functions of phases and host calls: found at load time, called by position, their results checked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.diagnostics import InvalidInput, did_you_mean
from forerun.runtime.dtypes import describe

__all__ = ["PhaseFunction", "check_arity", "checked", "failed", "find_function", "results_of"]

PhaseFunction: TypeAlias = Callable[..., Any]


def find_function(path: str, place: str) -> PhaseFunction:
    """The function that ``module:function`` names.

    Args:
        path: The reference of a phase, or the function of a host call.
        place: Who needs it, for messages.

    Raises:
        InvalidInput: If it cannot be imported, or is not callable.
    """
    try:
        return _imported(path)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error.message}", hint=error.hint) from error


@cache
def _imported(path: str) -> PhaseFunction:
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise InvalidInput(f"'{path}' is not of the form module:function")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a foreign module raises
        raise InvalidInput(f"module '{module_name}' cannot be imported: {type(error).__name__}: {error}") from error
    found: Any = getattr(module, name, None)
    if found is None:
        functions = [key for key, value in vars(module).items() if callable(value)]
        raise InvalidInput(f"module '{module_name}' has no function '{name}'", hint=did_you_mean(name, functions))
    if not callable(found):
        raise InvalidInput(f"'{path}' is not a function")
    function: PhaseFunction = found
    return function


def check_arity(function: PhaseFunction, count: int, place: str) -> None:
    """Check that a function can be called with so many positional arguments.

    Raises:
        InvalidInput: If it cannot.
    """
    mismatch = _mismatch(function, count)
    if mismatch:
        hint = "reads, then takes, then scalars are passed by position"
        raise InvalidInput(f"{place}: cannot be called with {count} arguments: {mismatch}", hint=hint)


@cache
def _mismatch(function: PhaseFunction, count: int) -> str:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins and ufuncs may have none: the first call will tell
        return ""
    try:
        signature.bind(*range(count))
    except TypeError as error:
        return str(error)
    return ""


def results_of(place: str, count: int, returned: Any) -> Sequence[Any]:
    """What a function returned, as a sequence of ``count`` results (writes, then gives).

    Raises:
        InvalidInput: If it returned another number of results.
    """
    if count == 1:
        return (returned,)
    if count == 0 and returned is None:
        return ()
    if count and isinstance(returned, tuple) and len(returned) == count:
        return returned
    given = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
    wanted = f"a tuple of {count}" if count else "None"
    raise InvalidInput(f"{place}: must return {wanted}, returned {given}", hint="one result for each write, then gives")


def checked(place: str, buffer: str, target: NDArray[Any], value: Any) -> NDArray[Any]:
    """A result, if it may be written to ``target``: an array of its shape, and of its type or one of the same kind.

    Raises:
        InvalidInput: If it may not.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        if value.shape == target.shape and (
            value.dtype == target.dtype or np.can_cast(value.dtype, target.dtype, "same_kind")
        ):
            return np.asarray(value)
        given = describe(value.dtype, value.shape)
    else:
        given = type(value).__name__
    wanted = describe(target.dtype, target.shape)
    raise InvalidInput(f"{place}: must return {wanted} for %{buffer}, returned {given}")


def failed(place: str, error: Exception) -> NoReturn:
    """Report what a function raised.

    Raises:
        InvalidInput: Always.
    """
    raise InvalidInput(f"{place}: raised {type(error).__name__}: {error}") from error
