"""The NumPy functions of phases and host calls: found at load time, called by position, their results checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.demands import Demand, is_function_vouched, refusal, split_function
from forerun.ir.nodes import HostCallbackNode
from forerun.ir.region import BufferView
from forerun.ir.text.spelling import quote
from forerun.ir.trust import is_own_function_module, module_of, registered_function
from forerun.runtime.dtypes import describe
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["PhaseFunction", "check_arity", "checked", "failure", "find_function", "host_call", "results_of", "selected"]

PhaseFunction: TypeAlias = Callable[..., Any]


def find_function(path: str, place: str) -> PhaseFunction:
    """The function that ``module:function`` names; nothing is imported unless somebody vouches for it.

    It is an attribute of that module, and defined in it: nothing leads from a trusted module into what it imported.

    Raises:
        InvalidInput: If nobody vouches for it (:mod:`forerun.ir.trust`), it cannot be imported, or is not a function.
    """
    registered = registered_function(path)
    if registered is not None:
        return registered
    named = split_function(path)
    if named is None:
        raise InvalidInput(f"{place}: {quote(path)} is not of the form module:function")
    if not is_function_vouched(path):
        raise refusal(place, [Demand("ref", path, "this")])
    try:
        return _imported(*named)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error.message}", hint=error.hint) from error


@cache
def _imported(module_name: str, name: str) -> PhaseFunction:
    try:
        module: Any = module_of(module_name)
    except (Exception, SystemExit) as error:  # whatever a foreign module raises
        raise InvalidInput(f"module '{module_name}' cannot be imported: {type(error).__name__}: {error}") from error
    functions = _functions(module)
    found: Any = getattr(module, name, None)
    if found is None:
        raise InvalidInput(f"module '{module_name}' has no function '{name}'", hint=did_you_mean(name, functions))
    if not callable(found) or isinstance(found, type):
        raise InvalidInput(f"'{module_name}:{name}' is not a function")
    if is_own_function_module(module_name) and name not in functions:
        raise InvalidInput(f"'{module_name}:{name}' is not a function that graphs may call")
    if not _is_defined_in(found, module_name):
        origin = getattr(found, "__module__", None)
        message = f"'{module_name}:{name}' is a function of {origin or 'another module'}, not of {module_name}"
        raise InvalidInput(message, hint="name it where it is defined, or register it: forerun.register_function")
    function: PhaseFunction = found
    return function


def _functions(module: Any) -> list[str]:
    """The names of a module's public functions."""
    public = getattr(module, "__all__", None)
    candidates = vars(module) if public is None else public
    return [name for name in candidates if isinstance(vars(module).get(name), FunctionType)]


def _is_defined_in(function: Any, module_name: str) -> bool:
    """Whether a function is defined in a module, or in the package that the module is the face of."""
    origin = getattr(function, "__module__", None)
    return isinstance(origin, str) and (origin == module_name or origin.startswith(f"{module_name}."))


def check_arity(function: PhaseFunction, count: int, place: str) -> None:
    """Check that a function can be called with a number of positional arguments.

    Raises:
        InvalidInput: If it cannot.
    """
    mismatch = _mismatch(function, count)
    if mismatch:
        hint = "reads, then used locals, then scalars are passed by position"
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
    """What a function returned, as a sequence of ``count`` results (writes, then defined locals).

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
    raise InvalidInput(
        f"{place}: must return {wanted}, returned {given}",
        hint="one result for each write, then for each defined local",
    )


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


def host_call(
    node: HostCallbackNode, place: str, elements: Callable[[BufferView, bool], NDArray[Any]]
) -> Callable[[], None]:
    """What a host node does.

    ``elements`` gives the array that a view stands for; its second argument says whether it is written.

    Raises:
        InvalidInput: If the function cannot be found, or cannot take what the node reads.
    """
    place = f"{place}, function '{node.function}'"
    function = find_function(node.function, place)
    check_arity(function, len(node.reads), place)
    reads = [elements(view, False) for view in node.reads]
    writes = [(view.buffer, elements(view, True)) for view in node.writes]
    # What is returned may be a view of what was read: the first write must not spoil the second.
    aliased = len(writes) > 1 and any(np.may_share_memory(r, w) for r in reads for _, w in writes)

    def call() -> None:
        returned = function(*([array.copy() for array in reads] if aliased else reads))
        for (buffer, target), value in zip(writes, results_of(place, len(writes), returned), strict=True):
            target[...] = _fitting(place, buffer, target.dtype, checked(place, buffer, target, value))

    return call


def _fitting(place: str, buffer: str, dtype: np.dtype[Any], value: NDArray[Any]) -> NDArray[Any]:
    """A result, if a type holds all its integers.

    Only 64-bit integers are looked at: NumPy makes them unasked. Who returns a narrower type has chosen it.

    Raises:
        InvalidInput: If an integer does not fit.
    """
    is_usual = value.dtype in (np.int64, np.uint64)
    if dtype.kind in "iu" and is_usual and value.size and not np.can_cast(value.dtype, dtype):
        limits = np.iinfo(dtype)
        for number in (int(value.min()), int(value.max())):
            if not limits.min <= number <= limits.max:
                raise InvalidInput(f"{place}: returned {number} for %{buffer}, which does not fit {dtype}")
    return value


def selected(array: NDArray[Any], view: BufferView) -> NDArray[Any]:
    """The elements of a buffer that a constant region selects."""
    index = tuple(slice(None) if s is None else slice(s.start.constant, s.stop.constant) for s in view.region.slices)
    found: NDArray[Any] = array[index]
    return found


def failure(place: str, error: BaseException) -> InvalidInput:
    """What a function raised, as the fault of who wrote it."""
    try:
        text = str(error)
    except Exception as inner:
        text = f"(its text cannot be told: {type(inner).__name__})"
    return InvalidInput(f"{place}: raised {type(error).__name__}: {text}")
