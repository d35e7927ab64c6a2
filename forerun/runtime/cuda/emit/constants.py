"""Named constants of kernel nodes, which are exchanged in executable graphs and in launches without a graph."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.ir.types import DType
from forerun.runtime.cuda.codegen.unit import Unit
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.errors import CudaError
from forerun.runtime.cuda.emit.arguments import Arguments, bits
from forerun.support.diagnostics import Unsupported

__all__ = ["NodeConstants"]


@dataclass(slots=True)
class _Node:
    """A kernel node with named constants.

    Attributes:
        path: Its path.
        arguments: What has the words of its arguments.
        slots: Name, type and position among these words, for each named constant.
        handle: The driver's.
        fields: Its parameters.
        is_inner: Whether it is in a body.
        executable: The executable graph that it is a node of; ``None`` while there is none.
    """

    path: str
    arguments: Arguments
    slots: tuple[tuple[str, DType, int], ...]
    handle: Any = None
    fields: bytes = b""
    is_inner: bool = False
    executable: Any = None

    def uses(self, values: Mapping[str, int | float]) -> bool:
        return any(name in values for name, _, _ in self.slots)

    def put(self, values: Mapping[str, int | float]) -> None:
        for name, dtype, at in self.slots:
            if name in values:
                self.arguments.put(at, bits(dtype, values[name]))

    def words(self) -> list[tuple[int, int]]:
        return [(at, self.arguments.word(at)) for _, _, at in self.slots]


@dataclass
class NodeConstants:
    """The kernel nodes of a program that have named constants, in all executable graphs that it launches.

    The words of their arguments are kept: the driver reads all arguments of a node when one of them changes.
    """

    driver: Driver
    _nodes: list[_Node] = field(default_factory=list)

    def add(
        self,
        node: KernelNode,
        path: str,
        unit: Unit,
        arguments: Arguments,
        address: int,
        handle: Any = None,
        fields: bytes = b"",
    ) -> None:
        """Note a node.

        Args:
            node: The node.
            path: Its path.
            unit: What it launches.
            arguments: What has the words of its arguments.
            address: That of the pointers to its arguments.
            handle: The driver's, in a graph; what is launched without one has what its arguments are then.
            fields: Its parameters, in a graph.
        """
        first, slots = arguments.position(address), []
        for number, slot in enumerate(unit.slots):
            argument = node.argument(slot.parameter)
            if isinstance(argument, ConstantArgument) and argument.name:
                slots.append((argument.name, slot.dtype, first + number))
        is_inner = handle is not None and path != node.name
        self._nodes.append(_Node(path, arguments, tuple(slots), handle, fields, is_inner))

    def instantiated(self, executable: Any) -> None:
        """The graph to which nodes were added since the last one has become executable."""
        for node in self._nodes:
            if node.fields and node.executable is None:
                node.executable = executable

    def assign(self, values: Mapping[str, int | float]) -> None:
        """Give named constants other values, in all launches from now on; all of them, or none.

        Raises:
            Unsupported: If a node in a body uses one of them.
            CudaError: If the driver refuses.
        """
        users = [node for node in self._nodes if node.uses(values)]
        inner = next((node for node in users if node.is_inner), None)
        if inner is not None:
            message = f"node '{inner.path}' uses a parameter that is to change, but it is in a body"
            hint = "CUDA changes no nodes in bodies of an executable graph: load the value from a state buffer"
            raise Unsupported(message, hint=hint)
        old = [(node, node.words()) for node in users]
        for node in users:
            node.put(values)
        params = nodeparams.NodeParams(self.driver.api)
        for number, node in enumerate(users):
            try:
                self._set(node, params)
            except CudaError as error:
                for changed, words in old:
                    for at, word in words:
                        changed.arguments.put(at, word)
                with suppress(CudaError):  # the first error is the one to tell
                    for done in users[:number]:
                        self._set(done, params)
                raise error.about(node=node.path) from error

    def _set(self, node: _Node, params: nodeparams.NodeParams) -> None:
        if node.executable is not None:
            params.view[:] = node.fields
            self.driver.call("cuGraphExecNodeSetParams", node.executable, node.handle, params.params)
