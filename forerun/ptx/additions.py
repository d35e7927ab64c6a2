"""Statements that are added to a kernel, as text: before and after instructions, at its front, and as a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from forerun.ptx.cfg import ControlFlow
from forerun.ptx.parser import parse_module
from forerun.ptx.syntax import Declaration, Declarator, Directive, Function, Statement

__all__ = ["additions", "with_parameter"]


def with_parameter(function: Function, name: str) -> Function:
    """A kernel with one more parameter, of 64 bits, behind the others."""
    added = Declaration(".param", (".u64",), (Declarator(name),))
    return replace(function, parameters=(*(function.parameters or ()), added))


def additions(
    flow: ControlFlow,
    body: Sequence[Statement],
    registers: str,
    front: str,
    before: Mapping[int, str],
    after: Mapping[int, str] | None = None,
) -> Iterator[Statement]:
    """A body with statements added.

    Args:
        flow: Of the function.
        body: Of the function.
        registers: Declarations.
        front: What stands before the first instruction.
        before: What stands before instructions, by their numbers in the flow.
        after: What stands after them.
    """
    number = {position: index for index, position in enumerate(flow.positions)}
    first = next((i for i, one in enumerate(body) if not isinstance(one, Declaration | Directive)), len(body))
    yield from _read(registers)
    for position, one in enumerate(body):
        if position == first:
            yield from _read(front)
        index = number.get(position, -1)
        yield from _read(before.get(index, ""))
        yield one
        yield from _read((after or {}).get(index, ""))


def _read(text: str) -> Sequence[Statement]:
    """Statements from their text, to be printed as they are spelled here."""
    if not text:
        return ()
    (function,) = parse_module(f".version 9.0\n.target sm_90\n.entry added()\n{{{text}\n}}\n").functions
    return function.body or ()
