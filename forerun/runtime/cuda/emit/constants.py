"""Named constants of kernel nodes, which are exchanged in the executable graph."""

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


@dataclass(frozen=True, slots=True)
class _Node:
    """A kernel node with named constants.

    Attributes:
        path: Its path in the whole graph.
        handle: What the driver calls it.
        fields: Its parameters, whose array of pointers lives in the arguments.
        slots: Name, type and position among the words of all arguments, for each named constant.
        is_inner: Whether it is in a body.
    """

    path: str
    handle: Any
    fields: bytes
    slots: tuple[tuple[str, DType, int], ...]
    is_inner: bool


@dataclass
class NodeConstants:
    """The kernel nodes of one executable graph that have named constants.

    It keeps the words of their arguments: the driver reads all arguments of a node when one of them changes.
    """

    driver: Driver
    arguments: Arguments
    _nodes: list[_Node] = field(default_factory=list)

    def add(self, node: KernelNode, path: str, handle: Any, fields: bytes, unit: Unit, *, is_inner: bool) -> None:
        """Note a node that was added; ``fields`` are its parameters."""
        first = self.arguments.position(int.from_bytes(fields[_POINTERS], "little"))
        slots = []
        for number, slot in enumerate(unit.slots):
            argument = node.argument(slot.parameter)
            if isinstance(argument, ConstantArgument) and argument.name:
                slots.append((argument.name, slot.dtype, first + number))
        self._nodes.append(_Node(path, handle, fields, tuple(slots), is_inner))

    def assign(self, executable: Any, values: Mapping[str, int | float]) -> None:
        """Give named constants other values, in all launches from now on; all of them, or none.

        Raises:
            Unsupported: If a node in a body uses one of them.
            CudaError: If the driver refuses.
        """
        users = [node for node in self._nodes if any(name in values for name, _, _ in node.slots)]
        inner = next((node for node in users if node.is_inner), None)
        if inner is not None:
            message = f"node '{inner.path}' uses a parameter that is to change, but it is in a body"
            hint = "CUDA changes no nodes in bodies of an executable graph: load the value from a state buffer"
            raise Unsupported(message, hint=hint)
        old = [(at, self.arguments.word(at)) for node in users for name, _, at in node.slots if name in values]
        for node in users:
            for name, dtype, at in node.slots:
                if name in values:
                    self.arguments.put(at, bits(dtype, values[name]))
        params = nodeparams.NodeParams(self.driver.api)
        for number, node in enumerate(users):
            try:
                self._set(executable, node, params)
            except CudaError as error:
                for at, word in old:
                    self.arguments.put(at, word)
                with suppress(CudaError):  # the first error is the one to tell
                    for done in users[:number]:
                        self._set(executable, done, params)
                raise error.about(node=node.path) from error

    def _set(self, executable: Any, node: _Node, params: nodeparams.NodeParams) -> None:
        params.view[:] = node.fields
        self.driver.call("cuGraphExecNodeSetParams", executable, node.handle, params.params)


_POINTERS = slice(nodeparams.KERNEL_PARAMETERS_AT, nodeparams.KERNEL_PARAMETERS_AT + 8)
