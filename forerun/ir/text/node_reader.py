"""Reads nodes: everything after ``node #name =`` but the bodies, and dependencies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forerun.ir import nodes
from forerun.ir.graph import Dependency, Hazard
from forerun.ir.region import BufferView
from forerun.ir.text.blocks import GRAPH_KEYWORDS
from forerun.ir.text.kernel_reader import KernelReader
from forerun.ir.text.value_reader import HAZARD_KINDS
from forerun.ir.types import DEVICE0, HOST, DependencyKind, Place

__all__ = ["NodeReader"]

_KINDS = {str(kind): kind for kind in DependencyKind}
_AFTER_DEPENDENCY = GRAPH_KEYWORDS | {"after"}
_DEFAULT_LAUNCH = nodes.Launch()


class NodeReader(KernelReader):
    """Nodes and dependencies."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text, name)
        self._launches: dict[tuple[Any, ...], nodes.Launch] = {}

    def simple_node(self, name: str) -> nodes.Node | None:
        """Read a node without bodies; ``None``, and nothing read, if it is of another kind."""
        if self.token[:1] == "@":
            return self._kernel_node(name)
        read = self._SIMPLE.get(self.token)
        if read is None:
            return None
        self.advance()
        return read(self, name)

    def place_or(self, default: Place) -> Place:
        """Read ``on device:1`` if it stands here."""
        return self.place() if self.accept("on") else default

    # Kernel launches

    def _kernel_node(self, name: str) -> nodes.KernelNode:
        kernel = self.reference("@")
        arguments = self.enclosed("(", self._bound, ")")
        launch = self._launch() if self.token in self._LAUNCH else _DEFAULT_LAUNCH
        return nodes.KernelNode(name, kernel, arguments, launch, self.place_or(DEVICE0), self._fuses())

    def _fuses(self) -> tuple[str, ...]:
        if not self.accept("fuses"):
            return ()
        names = self.several(lambda: self.reference("#"))
        if self.token == "fuses":
            self.fault_at(self.ordinal, "P11", "'fuses' is given twice; it lists all nodes, with commas")
        return names

    def _bound(self) -> tuple[str, nodes.Argument]:
        parameter = self.word("the name of a parameter")
        self.expect("=")
        partial = self.accept("some")
        if partial or self.token[:1] == "%":
            return parameter, nodes.BufferArgument(self.reference("%"), partial)
        if self.accept("load"):
            return parameter, self.parenthesised(self._load)
        if self.token[:1].isalpha() and self.token not in ("inf", "nan"):
            self.fail("a buffer, a number, or load(%buffer[0])", f"a buffer is written %{self.token}")
        value = self.number()
        return parameter, nodes.ConstantArgument(value, self.word("a name") if self.accept("as") else "")

    def _load(self) -> nodes.ScalarLoad:
        buffer = self.reference("%")
        self.expect("[")
        index = self.integer()
        self.expect("]")
        return nodes.ScalarLoad(buffer, index, self.summand())

    def _launch(self) -> nodes.Launch:
        fields = self.clauses(self._LAUNCH)
        key = tuple(fields.items())
        launch = self._launches.get(key)
        if launch is None:
            launch = self._launches[key] = nodes.Launch(**fields)
        return launch

    def _extents(self) -> tuple[int, int, int]:
        ordinal = self.ordinal
        dims = self.several(self.integer)
        if len(dims) > 3:
            self.fault_at(ordinal, "P5", f"expected 1 to 3 extents, found {len(dims)}")
        x, y, z = (*dims, 1, 1)[:3]
        return x, y, z

    def _dim3(self) -> tuple[int, int, int]:
        return self.parenthesised(self._extents)

    _LAUNCH: dict[str, tuple[str, Callable[[NodeReader], Any]]] = {  # noqa: RUF012 - a constant
        "grid": ("grid", _dim3),
        "block": ("block", _dim3),
        "shared": ("shared_bytes", lambda self: self.parenthesised(self.integer)),
        "cluster": ("cluster", _dim3),
        "cooperative": ("cooperative", lambda _: True),
    }

    # Other kinds

    def _copy(self, name: str) -> nodes.Node:
        source = self.view()
        self.expect("->")
        return nodes.MemcpyNode(name, source, self.view(), self.place_or(DEVICE0))

    def _fill(self, name: str) -> nodes.Node:
        destination = self.view()
        self.expect("with")
        return nodes.MemsetNode(name, destination, self.integer(), self.place_or(DEVICE0))

    def _host(self, name: str) -> nodes.Node:
        function = self.string('the function in quotes, "module:function"')
        pure = self.accept("pure")
        reads = self._views("reads")
        return nodes.HostCallbackNode(name, function, reads, self._views("writes"), self.place_or(HOST), pure)

    def _views(self, keyword: str) -> tuple[BufferView, ...]:
        return self.several(self.view) if self.accept(keyword) else ()

    def _event(self) -> str:
        return self.string("the event in quotes")

    _SIMPLE: dict[str, Callable[[NodeReader, str], nodes.Node]] = {  # noqa: RUF012 - a constant
        "copy": _copy,
        "fill": _fill,
        "host": _host,
        "empty": lambda self, name: nodes.EmptyNode(name, self.place_or(DEVICE0)),
        "alloc": lambda self, name: nodes.AllocNode(name, self.reference("$"), self.place_or(DEVICE0)),
        "free": lambda self, name: nodes.FreeNode(name, self.reference("$"), self.place_or(DEVICE0)),
        "event_record": lambda self, name: nodes.EventRecordNode(name, self._event(), self.place_or(DEVICE0)),
        "event_wait": lambda self, name: nodes.EventWaitNode(name, self._event(), self.place_or(DEVICE0)),
    }

    # Dependencies

    def dependency(self, source: str, target: str) -> Dependency:
        """Read the kind and the hazards of a dependency."""
        kind = _KINDS.get(self.token)
        if kind is not None:
            self.advance()
        hazards: tuple[Hazard, ...] = ()
        if self.token in HAZARD_KINDS or self.token[:1] == '"':
            hazards = self.several(self._hazard)
        elif self.token[:1].isalpha() and self.token not in _AFTER_DEPENDENCY:
            self.unknown("dependency kind or hazard", (*_KINDS, *HAZARD_KINDS) if kind is None else HAZARD_KINDS)
        return Dependency(source, target, kind or DependencyKind.FULL, hazards)

    def _hazard(self) -> Hazard:
        if (kind := self.token) in HAZARD_KINDS:
            self.advance()
        else:
            kind = self.keyword_or_string("hazard", HAZARD_KINDS)
        return Hazard(kind, self.reference("%"))
