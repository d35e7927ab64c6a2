"""A PTX module to text. What was read and not changed comes out as it was, to the byte."""

from __future__ import annotations

from collections.abc import Iterator

from forerun.ptx.lexer import words
from forerun.ptx.syntax import Function, Module, Statement, TopLevel

__all__ = ["print_module"]

_INDENTED = "\n\t"


def print_module(module: Module, *, plain: bool = False) -> str:
    r"""The text of a module.

    A statement is printed as it was spelled, unless its fields say something else than its spelling: then, and if it
    was never read, it is printed in the usual form on a line of its own.

    Args:
        module: What to print.
        plain: Leave out comments and spellings: all in the usual form.

    Example:
        >>> from forerun.ptx.parser import parse_module
        >>> text = ".version 9.0\n.target sm_90 // here\n.entry k() {  ret ; }\n"
        >>> print_module(parse_module(text)) == text
        True
        >>> print_module(parse_module(text), plain=True)
        '\n.version 9.0\n.target sm_90\n.entry k(\n)\n{\n\tret;\n}\n'
    """
    pieces: list[str] = []
    for statement in module.statements:
        pieces += _pieces(statement, "\n", plain)
        if isinstance(statement, Function) and statement.body is not None:
            for one in statement.body:
                pieces += _pieces(one, _INDENTED, plain)
            pieces.append("\n" if plain or statement.closing is None else statement.closing)
            pieces.append("}")
    pieces.append("\n" if plain else module.trailing)
    return "".join(pieces)


def _pieces(statement: Statement | TopLevel, leading: str, plain: bool) -> Iterator[str]:
    yield leading if plain or statement.leading is None else statement.leading
    usual = str(statement)
    spelled = statement.spelling
    yield spelled if not plain and (spelled == usual or words(spelled) == words(usual)) else usual
