"""A PTX module as values: statements, functions, the module. Each keeps its spelling and what stands before it.

Equality is about what the text says: spelling, white space, comments and lines do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from forerun.ptx.lexer import WHOLE
from forerun.ptx.operands import Immediate, Operand, Register

__all__ = [
    "Brace",
    "Declaration",
    "Declarator",
    "Directive",
    "Function",
    "Guard",
    "Instruction",
    "Label",
    "Module",
    "Section",
    "Statement",
    "TopLevel",
]

SPACES = (".reg", ".sreg", ".const", ".global", ".local", ".param", ".shared", ".tex")
"""State spaces in which a declaration can put something."""

_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}


@dataclass(frozen=True, slots=True)
class _Spelled:
    """What all statements have.

    Attributes:
        leading: White space and comments before it; ``None`` for a line of its own.
        spelling: Its text as it was read. It is printed again only as long as it says what the fields say.
        line: The one-based line that it was read from; 0 if it was not read.
    """

    leading: str | None = field(default=None, compare=False, repr=False, kw_only=True)
    spelling: str = field(default="", compare=False, repr=False, kw_only=True)
    line: int = field(default=0, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Guard:
    """The predicate of an instruction: ``@%p1``, ``@!%p1``."""

    register: Register
    negated: bool = False

    def __str__(self) -> str:
        return f"@{'!' if self.negated else ''}{self.register}"


@dataclass(frozen=True, slots=True)
class Instruction(_Spelled):
    """An instruction: ``@%p1 ld.global.nc.u32 %r1, [%rd1+4];``.

    Attributes:
        opcode: With all its modifiers: ``ld.global.nc.u32``.
        operands: In their order.
        guard: Its predicate, if it has one.
    """

    opcode: str
    operands: tuple[Operand, ...] = ()
    guard: Guard | None = None

    def __str__(self) -> str:
        guard = f"{self.guard} " if self.guard else ""
        operands = f" \t{', '.join(map(str, self.operands))}" if self.operands else ""
        return f"{guard}{self.opcode}{operands};"

    @property
    def parts(self) -> tuple[str, ...]:
        """The opcode at its dots: ``("ld", "global", "nc", "u32")``."""
        return tuple(self.opcode.split("."))

    @property
    def base(self) -> str:
        """The opcode without modifiers: ``ld``."""
        return self.opcode.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Label(_Spelled):
    """``$L__BB0_2:``."""

    name: str

    def __str__(self) -> str:
        return f"{self.name}:"


@dataclass(frozen=True, slots=True)
class Brace(_Spelled):
    """``{`` or ``}`` in a body: the names that are declared between them are known only there."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Directive(_Spelled):
    """A directive word for word, its semicolon too, if it has one: ``.loc 1 49 0``, ``.pragma "nounroll";``."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        text = " ".join(self.words).replace(" ,", ",")
        return text[:-2] + ";" if text.endswith(" ;") else text

    @property
    def name(self) -> str:
        """The first word, with its dot."""
        return self.words[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words after the first, without commas and the semicolon."""
        return tuple(word for word in self.words[1:] if word not in (",", ";"))


@dataclass(frozen=True, slots=True)
class Section(_Spelled):
    """A section of debug information, word for word."""

    name: str
    body: str

    def __str__(self) -> str:
        return f".section \t{self.name}\n\t{{{self.body}}}"


@dataclass(frozen=True, slots=True)
class Declarator:
    """A name in a declaration.

    Attributes:
        name: The name; the part before the number for several registers at once, ``%r<39>``.
        count: How many registers, from number 0; ``None`` if it is one name.
        dimensions: Sizes of an array; ``None`` for one that is left open.
        initial: The words after ``=``.
    """

    name: str
    count: int | None = None
    dimensions: tuple[int | None, ...] = ()
    initial: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = self.name + ("" if self.count is None else f"<{self.count}>")
        text += "".join("[]" if size is None else f"[{size}]" for size in self.dimensions)
        return text + (f" = {' '.join(self.initial).replace(' ,', ',')}" if self.initial else "")


@dataclass(frozen=True, slots=True)
class Declaration(_Spelled):
    """Registers, variables, or a parameter: ``.visible .global .align 4 .b8 name[24] = {1, 2};``.

    Attributes:
        space: The state space: ``.reg``, ``.shared``, ``.param``.
        modifiers: The words between the space and the names: alignment, type, ``.ptr .global .align 1``.
        names: What is declared.
        linkage: ``.visible``, ``.extern``, ``.weak``, ``.common``.
    """

    space: str
    modifiers: tuple[str, ...]
    names: tuple[Declarator, ...]
    linkage: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text};"

    @property
    def text(self) -> str:
        """The declaration without its semicolon, as parameters are written."""
        words = [*self.linkage, self.space, *self.modifiers]
        return f"{' '.join(words)} {', '.join(map(str, self.names))}"

    @property
    def name(self) -> str:
        """The first name."""
        return self.names[0].name

    @property
    def type(self) -> str:
        """The type of one element, with its dot: ``.b8``."""
        return next((word for word in self.modifiers if re.fullmatch(r"\.[bsuf]f?\d+(x\d)?", word)), ".pred")

    @property
    def bytes(self) -> int:
        """The size of the first name; an array that is left open has 0."""
        size = next((_SIZES[bits] for bits in ("128", "16", "32", "64", "8") if self.type.endswith(bits)), 0)
        size *= next((int(word[2:]) for word in self.modifiers if word in (".v2", ".v4", ".v8")), 1)
        for dimension in self.names[0].dimensions:
            size *= dimension or 0
        return size

    @property
    def is_pointer(self) -> bool:
        """Whether it is a parameter that is declared as a pointer (``.ptr``)."""
        return ".ptr" in self.modifiers


Statement = Instruction | Label | Brace | Directive | Declaration
"""What stands in a body."""


@dataclass(frozen=True, slots=True)
class Function(_Spelled):
    """A kernel (``.entry``) or a device function (``.func``).

    The spelling is that of the head, its opening brace included.

    Attributes:
        kind: ``.entry`` or ``.func``.
        name: The name in the image.
        parameters: One declaration for each; ``None`` if there is not even a pair of brackets.
        returns: What a device function returns.
        directives: ``.maxntid``, ``.reqntid``, ``.minnctapersm``, ...
        body: The statements; ``None`` if the function is only declared.
        linkage: As for declarations.
        closing: White space and comments before the closing brace.
    """

    kind: str
    name: str
    parameters: tuple[Declaration, ...] | None = ()
    returns: tuple[Declaration, ...] = ()
    directives: tuple[Directive, ...] = ()
    body: tuple[Statement, ...] | None = ()
    linkage: tuple[str, ...] = ()
    closing: str | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        returns = f" ({', '.join(one.text for one in self.returns)})" if self.returns else ""
        head = " ".join([*self.linkage, self.kind]) + f"{returns} {self.name}"
        if self.parameters is not None:
            head += "(" + ",".join(f"\n\t{one.text}" for one in self.parameters) + "\n)"
        head += "".join(f"\n{directive}" for directive in self.directives)
        return head + (";" if self.body is None else "\n{")

    @property
    def is_entry(self) -> bool:
        """Whether it is a kernel."""
        return self.kind == ".entry"

    def directive(self, name: str) -> tuple[int, ...] | None:
        """The numbers of a directive of the head, such as ``.reqntid``; ``None`` if it is not there."""
        found = next((d for d in self.directives if d.name == name), None)
        words = () if found is None else found.arguments
        return None if found is None else tuple(int(Immediate(word).value) for word in words if WHOLE.fullmatch(word))


TopLevel = Function | Declaration | Directive | Section


@dataclass(frozen=True, slots=True)
class Module:
    """A text of PTX.

    Attributes:
        statements: All of it, in order.
        trailing: White space and comments at the end.
    """

    statements: tuple[TopLevel, ...]
    trailing: str = field(default="\n", compare=False, repr=False)

    def __str__(self) -> str:
        version, target = ".".join(map(str, self.version)), ", ".join(self.target)
        return f"PTX {version} for {target}: {', '.join(f.name for f in self.functions) or 'no functions'}"

    @property
    def version(self) -> tuple[int, int]:
        """The version of the PTX ISA: ``(9, 0)``."""
        major, _, minor = "".join(self._argument(".version", "0.0")[:1]).partition(".")
        return int(major), int(minor)

    @property
    def target(self) -> tuple[str, ...]:
        """The architecture, and options: ``("sm_90a",)``."""
        return self._argument(".target", "")

    @property
    def address_size(self) -> int:
        """32 or 64 bits."""
        return int(self._argument(".address_size", "32")[0])

    @property
    def functions(self) -> tuple[Function, ...]:
        """Kernels and device functions, those that are only declared too."""
        return tuple(one for one in self.statements if isinstance(one, Function))

    @property
    def entries(self) -> tuple[Function, ...]:
        """The kernels."""
        return tuple(one for one in self.functions if one.is_entry and one.body is not None)

    @property
    def variables(self) -> tuple[Declaration, ...]:
        """What is declared outside functions."""
        return tuple(one for one in self.statements if isinstance(one, Declaration))

    def entry(self, name: str) -> Function:
        """A kernel.

        Raises:
            KeyError: If there is none of that name.
        """
        found = next((one for one in self.entries if one.name == name), None)
        if found is None:
            raise KeyError(f"no kernel '{name}': there are {', '.join(one.name for one in self.entries)}")
        return found

    def with_function(self, function: Function) -> Module:
        """The module with another function in place of the one of that name and with a body."""
        changed = (
            function if isinstance(one, Function) and one.name == function.name and one.body is not None else one
            for one in self.statements
        )
        return replace(self, statements=tuple(changed))

    def _argument(self, name: str, default: str) -> tuple[str, ...]:
        found = (one for one in self.statements if isinstance(one, Directive) and one.name == name)
        return next((one.arguments for one in found if one.arguments), (default,))
