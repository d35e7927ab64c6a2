"""The launch parameters of a program that have names: what they are, and how they are changed between replays."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from forerun.ir.contents import bytes_of_numbers
from forerun.ir.parameters import NamedParameter
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["Parameters"]


class Parameters(Mapping[str, int | float]):
    """The named constants of a graph that is loaded, by name; assign to one, and all nodes that use it get the value.

    What was launched before keeps the values that it was launched with. The driver does not tell what nodes have, so
    the values are kept here.

    Args:
        declared: What they are in the graph.
        assign: Gives nodes other values. It either does all of it or raises.

    Example:
        >>> from forerun.ir.types import DType
        >>> parameters = Parameters({"scale": NamedParameter(0.5, DType.F32, ("first", "second"))}, print)
        >>> parameters["scale"] = 0.25
        {'scale': 0.25}
        >>> parameters["scale"], parameters.nodes("scale")
        (0.25, ('first', 'second'))
    """

    def __init__(
        self, declared: Mapping[str, NamedParameter], assign: Callable[[Mapping[str, int | float]], None]
    ) -> None:
        self._assign = assign
        self._declared = dict(declared)
        self._values = {name: found.value for name, found in declared.items()}

    def _add(self, name: str, parameter: NamedParameter) -> None:
        """Add one."""
        self._declared[name] = parameter
        self._values[name] = parameter.value

    def __getitem__(self, name: str) -> int | float:
        self._require(name)
        return self._values[name]

    def __setitem__(self, name: str, value: float) -> None:
        self.update({name: value})

    def update(self, values: Mapping[str, int | float]) -> None:
        """Give several constants other values; if one of them cannot have its value, none changes.

        Raises:
            InvalidInput: If there is no such constant, or it cannot have the value.
            Unsupported: If the target cannot change it.
        """
        if not isinstance(values, Mapping):
            given = type(values).__name__
            raise InvalidInput(f"values are given by name, not as {given}", hint="update({'scale': 0.5})")
        found = {name: _checked(name, self._require(name), value) for name, value in values.items()}
        changed = {name: value for name, value in found.items() if not _is_same(value, self._values[name])}
        if changed:
            self._assign(changed)
            self._values.update(changed)

    def nodes(self, name: str) -> tuple[str, ...]:
        """The nodes that use a constant; those in bodies by their paths.

        Raises:
            InvalidInput: If there is no such constant.
        """
        return self._require(name).nodes

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a constant, or the default if there is no such constant."""
        return self._values.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Parameters({self._values})"

    def _require(self, name: str) -> NamedParameter:
        found = self._declared.get(name)
        if found is not None:
            return found
        hint = did_you_mean(str(name), self._declared) if self._declared else "GraphBuilder.parameter makes one"
        raise InvalidInput(f"no launch parameter is named '{name}'", hint=hint)


def _checked(name: str, parameter: NamedParameter, value: object) -> int | float:
    """The value as Python's own number."""
    dtype = parameter.dtype
    where = f"parameter '{name}' is {dtype}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidInput(f"{where}, and not {value!r}", hint="assign a number")
    if dtype.is_float:
        try:
            number = float(value)
            bytes_of_numbers(dtype, [number])
        except (OverflowError, ValueError) as error:
            raise InvalidInput(f"{where}, which {value!r} is too large for") from error
        return number
    if not isinstance(value, numbers.Integral):
        raise InvalidInput(f"{where}, and {value!r} is not an integer", hint="round it yourself")
    index = operator.index(value)
    low, high = dtype.range
    if not low <= index <= high:
        raise InvalidInput(f"{where}, and {index} is not in {low}..{high}")
    return index


def _is_same(one: int | float, other: int | float) -> bool:
    """Whether two numbers of one type have the same bits, as far as that matters: NaNs are always assigned."""
    return one == other and math.copysign(1, one) == math.copysign(1, other)
