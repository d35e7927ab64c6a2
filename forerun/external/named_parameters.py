"""Names for parameters of captured kernels, so that they can be changed between replays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from forerun.ir.contents import bytes_of_numbers, numbers_of
from forerun.ir.parameters import NamedParameter
from forerun.ir.types import DType
from forerun.runtime.parameters import Parameters
from forerun.support.diagnostics import InvalidInput, Unsupported, did_you_mean

if TYPE_CHECKING:
    from forerun.frontends.captured import ImportedGraph
    from forerun.runtime.cuda.capture.clone import Clone

__all__ = ["CapturedParameters"]

_LEAST_POINTER = 8


class CapturedParameters(Parameters):
    """The named parameters of a captured graph; there are none until :meth:`declare` is called."""

    def __init__(self, imported: ImportedGraph, clone: Clone) -> None:
        super().__init__({}, self._change)
        self._imported = imported
        self._clone = clone
        self._places: dict[str, tuple[tuple[int, ...], int]] = {}
        # What the nodes have now: the driver tells what the graph has, not what its executable has.
        self._current: dict[int, tuple[bytes, ...]] = {}

    @property
    def current(self) -> Mapping[str, tuple[bytes, ...]]:
        """The parameters of the nodes that were given others than they were captured with, by the nodes' names."""
        return {self._imported.names[number]: data for number, data in self._current.items()}

    def declare(
        self, name: str, dtype: str | DType, *, kernel: str, parameter: int, nodes: Collection[str] | None = None
    ) -> None:
        """Give a parameter of some nodes a name; see :meth:`forerun.OptimizedGraph.name_parameter`."""
        if name in self._places:
            raise InvalidInput(f"parameter '{name}' exists already")
        kind = DType.of(dtype)
        numbers = self._nodes_of(kernel, nodes)
        found = {self._bytes(number, parameter, kind, kernel) for number in numbers}
        if len(found) > 1:
            names = ", ".join(self._imported.names[number] for number in numbers)
            message = f"parameter {parameter} of '{kernel}' has {len(found)} values in nodes {names}"
            raise InvalidInput(message, hint="say which nodes are meant: nodes=[...]")
        (value,) = numbers_of(kind, found.pop())
        self._places[name] = numbers, parameter
        self._add(name, NamedParameter(value, kind, tuple(self._imported.names[number] for number in numbers)))

    def _nodes_of(self, kernel: str, nodes: Collection[str] | None) -> tuple[int, ...]:
        """The numbers of the nodes that launch a kernel, or of those among them that are named."""
        captured, names = self._imported.captured, self._imported.names
        launched = {n: captured.function_of(one).name for n, one in enumerate(captured.nodes) if one.kind == "kernel"}
        numbers = [number for number, found in launched.items() if found == kernel]
        if not numbers:
            raise InvalidInput(f"no node launches '{kernel}'", hint=did_you_mean(kernel, sorted({*launched.values()})))
        if nodes is None:
            return tuple(numbers)
        known = {names[number]: number for number in numbers}
        for node in nodes:
            if node not in known:
                raise InvalidInput(f"node '{node}' does not launch '{kernel}'", hint=did_you_mean(node, known))
        if not nodes:
            raise InvalidInput("no nodes are named", hint="leave nodes= out for all that launch the kernel")
        return tuple(known[node] for node in dict.fromkeys(nodes))

    def _bytes(self, number: int, parameter: int, dtype: DType, kernel: str) -> bytes:
        """The bytes that a parameter of a node has, if it may be changed."""
        node, name = self._imported.captured.nodes[number], self._imported.names[number]
        if node.unsupported:
            raise Unsupported(f"node '{name}' cannot be changed: {node.unsupported[0]}")
        if not 0 <= parameter < len(node.parameters):
            count = len(node.parameters)
            raise InvalidInput(f"'{kernel}' has {count} parameters, and none of number {parameter}")
        data = node.parameters[parameter]
        if len(data) >= _LEAST_POINTER:
            hint = "scalars of up to four bytes can be named"
            raise Unsupported(
                f"parameter {parameter} of '{kernel}' has {len(data)} bytes, and may be a pointer", hint=hint
            )
        if len(data) != dtype.itemsize:
            raise InvalidInput(f"parameter {parameter} of '{kernel}' has {len(data)} bytes, which {dtype} has not")
        if parameter in self._imported.weighed.get(name, ()):
            message = f"which bytes node '{name}' accesses depends on parameter {parameter} of '{kernel}'"
            raise Unsupported(
                message, hint="change it in the program, and call refresh(), which proves the graph again"
            )
        return data

    def _change(self, values: Mapping[str, int | float]) -> None:
        changed: dict[int, list[bytes]] = {}
        for name, value in values.items():
            numbers, parameter = self._places[name]
            data = bytes_of_numbers(self._declared[name].dtype, [value])
            for number in numbers:
                own = self._current.get(number, self._imported.captured.nodes[number].parameters)
                changed.setdefault(number, list(own))[parameter] = data
        new = {number: tuple(data) for number, data in changed.items()}
        captured = self._imported.captured
        old = {number: self._current.get(number, captured.nodes[number].parameters) for number in new}
        names = self._imported.names
        self._clone.set_parameters({names[number]: (old[number], data) for number, data in new.items()})
        self._current.update(new)
