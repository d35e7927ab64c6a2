"""Reads kernels: signature, implementations, and a body of roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from forerun.ir.kernel import (
    Access,
    Barrier,
    BufferParameter,
    Implementation,
    Kernel,
    Parameter,
    Phase,
    Role,
    ScalarParameter,
    Step,
    Trigger,
    Wait,
)
from forerun.ir.launches import Launches, Span
from forerun.ir.text.blocks import GRAPH_KEYWORDS, Block, BlockReader
from forerun.ir.text.lexer import END, Fault
from forerun.ir.text.spelling import reference, word
from forerun.ir.text.values import LANGUAGES
from forerun.support.diagnostics import InvalidInput

__all__ = ["KernelReader", "read_accesses", "read_parameters"]

_Item = TypeVar("_Item", Parameter, Access)

_SPANS = ("grid", "block", "shared", "cluster")


class KernelReader(BlockReader):
    """Kernels; remembers where each phase stands."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text, name)
        self.places: dict[tuple[str, str], int] = {}
        self._roles: list[Role] = []
        self._steps: list[Step] = []
        self._kernel = ""

    def kernel(self, name: str, ordinal: int, path: str) -> Kernel:
        """Read what follows a kernel's name."""
        parameters = self.enclosed("(", self.parameter, ")")
        launches = self._accepted_launches() if self.accept("launches") else None
        is_black_box = self.accept("opaque")
        implementations: tuple[Implementation, ...] = ()
        if self.token in LANGUAGES or self.token[:1] == '"':
            implementations = self.several(self._implementation)
        if is_black_box:
            return Kernel(name, parameters, None, implementations, launches)
        if not self.accept("{"):
            self.fail("'{' and a body, 'opaque', or an implementation such as cuda(\"file\", \"entry\")")
        self._roles, self._kernel = [], path + name
        self.block(Block(f"kernel {reference('@', name)}", ordinal, {"role": self._role}, GRAPH_KEYWORDS))
        return Kernel(name, parameters, tuple(self._roles), implementations, launches)

    def _accepted_launches(self) -> Launches:
        if self.accept("any"):
            return Launches()
        spans: dict[str, Span] = {}
        if self.token not in _SPANS:
            self.fail(f"'any', or what is accepted: {', '.join(_SPANS)}")
        while self.token in _SPANS:
            if self.token in spans:
                self.fault_at(self.ordinal, "P11", f"'{self.token}' is given twice; a launch has one of each")
            name = self.token
            self.advance()
            self.expect("(")
            spans[name] = self._span()
            self.expect(")")
        return Launches(**spans)

    def _span(self) -> Span:
        start = self.integer()
        if not self.accept(".."):
            return Span(start, start)
        stop = self.integer()
        return Span(start, stop, self.integer() if self.accept("step") else 1)

    def parameter(self) -> Parameter:
        """Read a parameter."""
        name = self.word("the name of a parameter")
        self.expect(":")
        if self.accept("scalar"):
            return ScalarParameter(name, self.dtype())
        dtype = self.dtype()
        dims = self.enclosed("[", self._dim, "]") if self.token == "[" else None
        return BufferParameter(name, dtype, dims, self.integer() if self.accept("align") else None)

    def _dim(self) -> int | str | None:
        if self.accept("_"):
            return None
        if self.token == "-" or self.token[:1].isdigit():
            return self.integer()
        return self.word("an integer, a name, or _")

    def _implementation(self) -> Implementation:
        language = self.keyword_or_string("language", LANGUAGES)
        self.expect("(")
        source = self.string("the source in quotes")
        self.expect(",")
        entry = self.string("the entry in quotes")
        self.expect(")")
        return Implementation(language, source, entry)

    # Bodies

    def _role(self) -> None:
        self.advance()
        ordinal = self.ordinal
        name = self.word("the name of the role")
        warps = self.integer() if self.accept("warps") else None
        self.expect("{")
        self._steps = []
        statements = {"phase": self._phase, "wait": self._wait, "trigger": self._trigger, "barrier": self._barrier}
        self.block(Block(f"role {word(name)}", ordinal, statements, GRAPH_KEYWORDS | {"role"}))
        self._roles.append(Role(name, tuple(self._steps), warps))

    def _wait(self) -> None:
        self.advance()
        self._steps.append(Wait())

    def _trigger(self) -> None:
        self.advance()
        self._steps.append(Trigger(self.accept("fence")))

    def _barrier(self) -> None:
        self.advance()
        if self.token == "grid" or self.token[:1] == '"':
            self._steps.append(Barrier(self.word("a scope")))
        else:
            self._steps.append(Barrier())

    def _phase(self) -> None:
        self.advance()
        ordinal = self.ordinal
        name = self.word("the name of the phase")
        fields: dict[str, Any] = {}
        clauses = self._clauses()
        while (clause := clauses.get(self.token)) is not None:
            field, read = clause
            if field in fields:
                self.fault_at(self.ordinal, "P11", f"'{self.token}' is given twice; a phase has one list of each")
            self.advance()
            fields[field] = read()
        self.places.setdefault(("phase", f"{self._kernel}.{name}"), ordinal)
        self._steps.append(Phase(name, **fields))

    def _clauses(self) -> dict[str, tuple[str, Callable[[], Any]]]:
        return {
            "reads": ("reads", self._accesses),
            "writes": ("writes", self._accesses),
            "uses": ("uses", self._locals),
            "defines": ("defines", self._locals),
            "scalars": ("scalars", self._locals),
            "async": ("asynchronous", lambda: True),
            "ref": ("reference", lambda: self.string('the function in quotes, "module:function"')),
        }

    def _accesses(self) -> tuple[Access, ...]:
        return self.several(self.access)

    def access(self) -> Access:
        """Read an access, such as ``cache[0:pos]``."""
        return Access(self.word("the name of a parameter"), self.region())

    def _locals(self) -> tuple[str, ...]:
        return self.several(lambda: self.word("a name"))


def read_parameters(text: str, about: str) -> tuple[Parameter, ...]:
    """Parameters as they stand between a kernel's parentheses.

    Args:
        text: Such as ``"x: f32[N], eps: scalar f32"``.
        about: What messages begin with.

    Raises:
        InvalidInput: If it cannot be read.
    """
    return _all(text, about, KernelReader.parameter)


def read_accesses(text: str, about: str) -> tuple[Access, ...]:
    """Accesses as they stand behind ``reads``, such as ``"q, cache[0:pos]"``; see :func:`read_parameters`."""
    return _all(text, about, KernelReader.access)


def _all(text: str, about: str, item: Callable[[KernelReader], _Item]) -> tuple[_Item, ...]:
    reader = KernelReader(text, "")
    try:
        reader.seek(0)
        if reader.token == END:
            return ()
        found = reader.several(lambda: item(reader))
        if reader.token != END:
            reader.fail("',' or the end")
    except Fault as fault:
        message = f"{about}: {fault.diagnostic.message}, at column {fault.offset + 1} of {text!r}"
        raise InvalidInput(message, hint=fault.diagnostic.hint) from None
    finally:
        reader.close()
    return found
