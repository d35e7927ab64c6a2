"""Build graphs in Python, the way one would enqueue work on a stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

from forerun.ir.buffer import Allocation, Buffer, Paged, Ragged
from forerun.ir.builder_values import dtype_of, kernel_of, number_of, shape_of, what_of
from forerun.ir.contents import shape_and_bytes
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Kernel, Parameter, ScalarParameter
from forerun.ir.nodes import (
    Argument,
    BufferArgument,
    ConstantArgument,
    EmptyNode,
    HostCallbackNode,
    KernelNode,
    Launch,
    MemcpyNode,
    MemsetNode,
    Node,
    ScalarLoad,
)
from forerun.ir.region import BufferView
from forerun.ir.trust import name_of, register_function
from forerun.ir.types import DEVICE0, HOST, BufferRole, DependencyKind, DType, Place
from forerun.support.diagnostics import InvalidInput, did_you_mean

__all__ = ["DTypeLike", "GraphBuilder", "HasKernel", "ShapeLike"]

DTypeLike: TypeAlias = DType | str | object
"""What :meth:`DType.of` takes."""

ShapeLike: TypeAlias = int | Sequence[int]
"""Extents in elements; an integer is a vector."""


class HasKernel(Protocol):
    """A module of a kernel, or a function that :func:`forerun.kernel` decorates."""

    KERNEL: Kernel


class GraphBuilder:
    """Collects buffers, kernels and nodes; :meth:`build` verifies them and makes the graph.

    Nodes are launched in stream order: each depends, fully, on the one launched before it. Pass ``after=`` to name the
    sources yourself (``after=[]`` for none).

    Example:
        >>> from forerun.kernels import add
        >>> builder = GraphBuilder("twice")
        >>> x = builder.input("x", "f32", 8)
        >>> y = builder.output("y", "f32", 8)
        >>> builder.launch(add, a=x, b=x, y=y, node="double")
        'double'
        >>> builder.build()
        <Graph twice: 1 nodes, 0 dependencies, 2 buffers>
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._allocations: dict[str, Allocation] = {}
        self._buffers: dict[str, Buffer] = {}
        self._kernels: dict[str, Kernel] = {}
        self._nodes: dict[str, Node] = {}
        self._dependencies: list[Dependency] = []

    # Memory

    def allocation(self, name: str, size: int, place: Place = DEVICE0) -> str:
        """Declare memory that several buffers will view; returns its name."""
        _claim(self._allocations, name, "allocation")
        self._allocations[name] = Allocation(name, size, place)
        return name

    def buffer(
        self,
        name: str,
        dtype: DTypeLike,
        shape: ShapeLike,
        role: BufferRole,
        *,
        allocation: str | None = None,
        offset: int = 0,
        place: Place = DEVICE0,
        index: Paged | Ragged | None = None,
        bounds: tuple[int, int] | None = None,
        contents: bytes | None = None,
        ascending: bool = False,
    ) -> str:
        """Declare a buffer; returns its name.

        Args:
            name: Unique among buffers.
            dtype: Element type: ``"f32"``, ``DType.F32``, ``np.float32``, ``torch.float32``, ...
            shape: Extents in elements; an integer for a vector.
            role: What it is for.
            allocation: Memory to view; by default an allocation of its own, of the same name and exact size.
            offset: Byte offset in ``allocation``.
            place: Where an allocation of its own lives.
            index: Paged or ragged indexing of the first dimension.
            bounds: Inclusive range of the values of an integer buffer.
            contents: The bytes that a weight has in every replay; see :meth:`constant`.
            ascending: Whether no element is below the one before it; see :class:`~forerun.ir.buffer.Buffer`.

        Raises:
            InvalidInput: If the name is taken, or type or shape is none.
        """
        if not isinstance(name, str):
            raise InvalidInput(f"a buffer is named by a text, not by {name!r}", hint='such as input("x", "f32", (8,))')
        _claim(self._buffers, name, "buffer")
        form = dtype_of(name, dtype), shape_of(name, shape)
        buffer = Buffer(name, *form, role, allocation or name, offset, index, bounds, contents, ascending)
        if allocation is None:
            self.allocation(name, buffer.size, place)
        self._buffers[name] = buffer
        return name

    def input(
        self,
        name: str,
        dtype: DTypeLike,
        shape: ShapeLike,
        *,
        bounds: tuple[int, int] | None = None,
        ascending: bool = False,
    ) -> str:
        """Declare a buffer that the caller fills before each replay."""
        return self.buffer(name, dtype, shape, BufferRole.INPUT, bounds=bounds, ascending=ascending)

    def output(self, name: str, dtype: DTypeLike, shape: ShapeLike) -> str:
        """Declare a buffer that the caller reads after each replay."""
        return self.buffer(name, dtype, shape, BufferRole.OUTPUT)

    def weight(self, name: str, dtype: DTypeLike, shape: ShapeLike) -> str:
        """Declare a buffer that no replay writes."""
        return self.buffer(name, dtype, shape, BufferRole.WEIGHT)

    def constant(self, name: str, dtype: DTypeLike, values: object, *, place: Place = HOST) -> str:
        """Declare a small array whose values are part of the graph, such as the launch parameters of a kernel.

        Args:
            name: Unique among buffers.
            dtype: Element type.
            values: A number, a list of numbers (for an array of several dimensions an array), or an array of that type.
            place: Where it lives; what a copy node uploads lives on the host.

        Raises:
            InvalidInput: If the values are none of the type, or the name is taken.
        """
        kind = dtype_of(name, dtype)
        try:
            shape, contents = shape_and_bytes(kind, values)
        except ValueError as error:
            raise InvalidInput(f"buffer '{name}': {error}", hint=f"pass numbers of {kind}, or an array") from error
        return self.buffer(name, kind, shape, BufferRole.WEIGHT, place=place, contents=contents)

    def state(self, name: str, dtype: DTypeLike, shape: ShapeLike, *, bounds: tuple[int, int] | None = None) -> str:
        """Declare a buffer that survives from one replay to the next; it begins as zeros."""
        return self.buffer(name, dtype, shape, BufferRole.STATE, bounds=bounds)

    def temp(self, name: str, dtype: DTypeLike, shape: ShapeLike) -> str:
        """Declare a buffer that lives within one replay."""
        return self.buffer(name, dtype, shape, BufferRole.TEMP)

    def parameter(self, name: str, value: float) -> ConstantArgument:
        """A scalar that launches are given, and that whoever runs the graph may change for all of them.

        Args:
            name: What :attr:`forerun.Executable.parameters` calls it.
            value: What it is until then.

        Raises:
            InvalidInput: If it has no name, or the value is not a number.
        """
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"a parameter is named by a text, not by {name!r}", hint='such as ("scale", 0.5)')
        return ConstantArgument(number_of(f"parameter '{name}'", value, True), name)

    # Nodes

    def launch(
        self,
        kernel: Kernel | HasKernel,
        /,
        *values: str | int | float | ScalarLoad | ConstantArgument,
        node: str | None = None,
        launch: Launch = Launch(),  # noqa: B008 - frozen
        after: str | Iterable[str] | None = None,
        **arguments: str | int | float | ScalarLoad | ConstantArgument,
    ) -> str:
        """Launch a kernel; returns the node's name.

        Args:
            kernel: What to run, or what has it as ``KERNEL``: a module of :mod:`forerun.kernels`, a function that
                :func:`forerun.kernel` decorates. The first launch of a kernel declares it.
            *values: Arguments by position, in the order of the parameters.
            node: The node's name; by default the kernel's name with a number.
            launch: Grid, block and shared memory.
            after: Source nodes of full dependencies; by default the node launched before.
            **arguments: One for each parameter: a buffer's name; for scalars a number, a :class:`ScalarLoad`, the name
                of a buffer of one element, or what :meth:`parameter` returns.

        Raises:
            InvalidInput: If a name is taken or unknown, an argument is missing or given twice, or it is not a kernel.
        """
        kernel = kernel_of(kernel)
        declared = self._kernels.setdefault(kernel.name, kernel)
        if declared != kernel:
            raise InvalidInput(f"kernel '{kernel.name}' was declared differently before")
        known = [p.name for p in kernel.parameters]
        if len(values) > len(known):
            message = f"kernel '{kernel.name}' has {len(known)} parameters, {len(values)} arguments are given"
            raise InvalidInput(message, hint=f"they are {', '.join(known)}")
        for name, value in zip(known, values, strict=False):
            if name in arguments:
                raise InvalidInput(f"launch of kernel '{kernel.name}': argument '{name}' is given twice")
            arguments[name] = value
        for name in arguments:
            if name not in known:
                raise InvalidInput(f"kernel '{kernel.name}' has no parameter '{name}'", hint=did_you_mean(name, known))
        missing = [name for name in known if name not in arguments]
        if missing:
            raise InvalidInput(f"launch of kernel '{kernel.name}' lacks arguments: {', '.join(missing)}")
        bound = _shared(tuple((p.name, self._argument(kernel, p, arguments[p.name])) for p in kernel.parameters))
        return self.add(KernelNode(node or self._fresh(kernel.name), kernel.name, bound, launch), after=after)

    def copy(
        self, source: str, destination: str, *, node: str | None = None, after: str | Iterable[str] | None = None
    ) -> str:
        """Copy one whole buffer to another; returns the node's name."""
        views = BufferView(source), BufferView(destination)
        return self.add(MemcpyNode(node or self._fresh("copy"), *views), after=after)

    def fill(
        self, destination: str, value: int = 0, *, node: str | None = None, after: str | Iterable[str] | None = None
    ) -> str:
        """Fill a whole buffer with a bit pattern; returns the node's name."""
        return self.add(MemsetNode(node or self._fresh("fill"), BufferView(destination), value), after=after)

    def host(
        self,
        function: str | Callable[..., object],
        reads: str | Iterable[str] = (),
        writes: str | Iterable[str] = (),
        *,
        pure: bool = False,
        node: str | None = None,
        after: str | Iterable[str] | None = None,
    ) -> str:
        """Call a function on the host; returns the node's name.

        Args:
            function: A function of a module, which is registered so that this graph may call it; or
                ``module:function``, which only runs if the module is trusted (see :mod:`forerun.ir.trust`).
            reads: Buffers that it reads: its arguments.
            writes: Buffers that it writes: its results.
            pure: Whether it does nothing else. Across a call that is not pure nothing moves.
            node: The node's name.
            after: The nodes that it comes after; by default the one before it.

        Raises:
            InvalidInput: If it is not a function at the top of a module.
        """
        if not isinstance(function, str):
            function = name_of(register_function(function))
        views = tuple(map(BufferView, _several(reads))), tuple(map(BufferView, _several(writes)))
        return self.add(HostCallbackNode(node or self._fresh("host"), function, *views, pure=pure), after=after)

    def join(self, sources: str | Iterable[str], *, node: str | None = None) -> str:
        """An empty node after ``sources``; returns its name."""
        return self.add(EmptyNode(node or self._fresh("join")), after=sources)

    def add(self, node: Node, *, after: str | Iterable[str] | None = None) -> str:
        """Add any node, in stream order or after named nodes; returns its name."""
        if after is None:
            after = [next(reversed(self._nodes))] if self._nodes else []
        _claim(self._nodes, node.name, "node")
        for source in dict.fromkeys(_several(after)):
            self.depend(source, node.name, _target_exists=False)
        self._nodes[node.name] = node
        return node.name

    def depend(
        self, source: str, target: str, kind: DependencyKind = DependencyKind.FULL, *, _target_exists: bool = True
    ) -> None:
        """Add a dependency between two nodes."""
        for name in (source, target) if _target_exists else (source,):
            if name not in self._nodes:
                raise InvalidInput(f"no node '{name}'", hint=did_you_mean(name, self._nodes))
        self._dependencies.append(_edge(source, target, kind))

    def build(self, *, verify: bool = True) -> Graph:
        """The graph.

        Raises:
            InvalidInput: If the verifier finds errors (unless ``verify`` is false).
        """
        graph = Graph(
            self.name,
            self._allocations.values(),
            self._buffers.values(),
            self._kernels.values(),
            self._nodes.values(),
            self._dependencies,
        )
        if verify:
            from forerun.ir.verify import require_valid

            require_valid(graph)
        return graph

    def _argument(
        self, kernel: Kernel, parameter: Parameter, value: str | int | float | ScalarLoad | ConstantArgument
    ) -> Argument:
        place = f"launch of kernel '{kernel.name}': argument '{parameter.name}'"
        buffer = value if isinstance(value, str) else value.buffer if isinstance(value, ScalarLoad) else None
        if buffer is not None and buffer not in self._buffers:
            raise InvalidInput(f"{place}: no buffer '{buffer}'", hint=did_you_mean(buffer, self._buffers, sigil="%"))
        if isinstance(value, str):
            is_load = isinstance(parameter, ScalarParameter) and self._buffers[value].count == 1
            return ScalarLoad(value) if is_load else BufferArgument(value)
        if isinstance(value, ScalarLoad):
            return value
        if isinstance(value, ConstantArgument) and isinstance(parameter, ScalarParameter):
            return value
        if isinstance(parameter, ScalarParameter):
            return ConstantArgument(number_of(place, value, parameter.dtype.is_float))
        hint = "declare an input or a weight, and give its values to run() or compile()"
        raise InvalidInput(f"{place} is a buffer's name, not {what_of(value)}", hint=hint)

    def _fresh(self, stem: str) -> str:
        number = len(self._nodes)
        while f"{stem}.{number}" in self._nodes:
            number += 1
        return f"{stem}.{number}"


_edge = lru_cache(1 << 14)(Dependency)


@lru_cache(1 << 14)
def _shared(bound: tuple[tuple[str, Argument], ...]) -> tuple[tuple[str, Argument], ...]:
    """One value for all that are equal, so that a graph that is built once more is compared by identity mostly."""
    return bound


def _claim(table: Collection[str], name: str, what: str) -> None:
    if name in table:
        raise InvalidInput(f"{what} '{name}' exists already")


def _several(names: str | Iterable[str]) -> Iterable[str]:
    return (names,) if isinstance(names, str) else names
