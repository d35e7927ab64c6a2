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
from forerun.ir.text.value_reader import LANGUAGES
from forerun.support.diagnostics import InvalidInput

__all__ = ["KernelReader", "read_accesses", "read_parameters", "read_signature"]

_T = TypeVar("_T")


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
        if self.token not in self._SPANS:
            self.fail(f"'any', or what is accepted: {', '.join(self._SPANS)}")
        return Launches(**self.clauses(self._SPANS, "; a launch has one of each"))

    def _span(self) -> Span:
        start = self.integer()
        if not self.accept(".."):
            return Span(start, start)
        stop = self.integer()
        return Span(start, stop, self.integer() if self.accept("step") else 1)

    _SPANS: dict[str, tuple[str, Callable[[KernelReader], Span]]] = {  # noqa: RUF012 - a constant
        name: (name, lambda self: self.parenthesised(self._span)) for name in ("grid", "block", "shared", "cluster")
    }

    def parameter(self) -> Parameter:
        """Read ``x: f32[N] align 16`` or ``eps: scalar f32``."""
        name = self.word("the name of a parameter")
        self.expect(":")
        return self.typed(name)

    def signature(self) -> tuple[tuple[Parameter, ...], tuple[Access, ...]]:
        """Read ``x: f32[N] -> y: f32[N]``: the parameters, and those of them that are written."""
        taken = () if self.token in ("->", END) else self.several(self.parameter)
        known = {parameter.name: parameter for parameter in taken}
        if len(known) < len(taken):
            self.fault_at(self.ordinal - 1, "P7", "two parameters have the same name")
        if self.token not in ("->", END):
            self.fail("',', '->' or the end")
        outputs = self.several(lambda: self._output(known)) if self.accept("->") else ()
        return tuple(known.values()), outputs

    def _output(self, known: dict[str, Parameter]) -> Access:
        name = self.word("the name of what is written")
        if name not in known:
            if not self.accept(":"):
                self.fail("':'", f"{name} is new, so say what it is, such as {name}: f32[N]")
            known[name] = self.typed(name)
        elif self.token == ":":
            self.fail("',' or a region", f"{name} has its type already")
        if isinstance(known[name], ScalarParameter):
            self.fault_at(self.ordinal - 1, "P5", f"scalar '{name}' cannot be written: it is passed by value")
        return Access(name, self.region())

    def typed(self, name: str) -> Parameter:
        """Read what follows the name of a parameter and its colon."""
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
        fields = self.clauses(self._CLAUSES, "; a phase has one list of each")
        self.places.setdefault(("phase", f"{self._kernel}.{name}"), ordinal)
        self._steps.append(Phase(name, **fields))

    def access(self) -> Access:
        """Read an access, such as ``cache[0:pos]``."""
        return Access(self.word("the name of a parameter"), self.region())

    def _accesses(self) -> tuple[Access, ...]:
        return self.several(self.access)

    def _locals(self) -> tuple[str, ...]:
        return self.several(lambda: self.word("a name"))

    _CLAUSES: dict[str, tuple[str, Callable[[KernelReader], Any]]] = {  # noqa: RUF012 - a constant
        "reads": ("reads", _accesses),
        "writes": ("writes", _accesses),
        "uses": ("uses", _locals),
        "defines": ("defines", _locals),
        "scalars": ("scalars", _locals),
        "async": ("asynchronous", lambda _: True),
        "ref": ("reference", lambda self: self.string('the function in quotes, "module:function"')),
    }


def read_signature(text: str, about: str) -> tuple[tuple[Parameter, ...], tuple[Access, ...]]:
    """Parameters, and those of them, or regions of them, that are written: ``"x: f32[N] -> y: f32[N]"``.

    What stands on the right is a parameter of its own, or one of the left: ``"m: f32[R, N], row: scalar i32 ->
    m[row:row + 1]"``.

    Raises:
        InvalidInput: If it cannot be read.
    """
    return _read(text, about, KernelReader.signature)


def read_parameters(text: str, about: str) -> tuple[Parameter, ...]:
    """Parameters as they stand between a kernel's parentheses, such as ``"x: f32[N], eps: scalar f32"``.

    Messages begin with ``about``.

    Raises:
        InvalidInput: If it cannot be read.
    """
    return _read(text, about, lambda reader: () if reader.token == END else reader.several(reader.parameter))


def read_accesses(text: str, about: str) -> tuple[Access, ...]:
    """Accesses as they stand behind ``reads``, such as ``"q, cache[0:pos]"``; see :func:`read_parameters`."""
    return _read(text, about, lambda reader: () if reader.token == END else reader.several(reader.access))


def _read(text: str, about: str, rule: Callable[[KernelReader], _T]) -> _T:
    reader = KernelReader(text, "")
    try:
        reader.seek(0)
        found = rule(reader)
        if reader.token != END:
            reader.fail("',' or the end")
    except Fault as fault:
        message = f"{about}: {fault.diagnostic.message}, at column {fault.offset + 1} of {text!r}"
        raise InvalidInput(message, hint=fault.diagnostic.hint) from None
    finally:
        reader.close()
    return found
