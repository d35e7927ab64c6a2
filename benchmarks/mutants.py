"""Mutants of Python files: each is one change of one place.

What is changed: comparisons (``<`` and ``<=``, ``==`` and ``!=``, ``is`` and ``is not``, ``in`` and ``not in``),
``and`` and ``or``, ``not``, conditions (negated), arithmetic and bit operators, numbers (moved by one, both ways),
truth values, ``return`` (of ``None``), and calls, ``yield``, ``raise``, ``continue`` and ``+=`` that are statements
(left out).

What is not: text, whatever is in braces of f-strings, docstrings, annotations, decorators, chained comparisons,
assignments, ``break``, what a ``lambda`` returns, arguments left out or exchanged, and names in the place of others.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["Mutant", "mutants_of", "mutated"]


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        path: The file, from the root of the repository.
        number: Which change of that file it is.
        line: Where.
        change: What is changed, for people.
        function: The outermost function around it: its name, and its first line (with decorators); ``None`` if the
            change takes effect when the module is imported.
        lines: First and last line of the statement, without the statements inside it.
    """

    path: str
    number: int
    line: int
    change: str
    function: tuple[str, int] | None
    lines: tuple[int, int]


class _Place(NamedTuple):
    """A node of a tree: where it hangs, and what is around it."""

    parent: ast.AST
    field: str
    at: int | None
    function: ast.FunctionDef | None
    statement: ast.stmt

    @property
    def child(self) -> ast.AST:
        value = getattr(self.parent, self.field)
        found = value if self.at is None else value[self.at]
        assert isinstance(found, ast.AST)
        return found

    def put(self, new: ast.AST) -> None:
        if self.at is None:
            setattr(self.parent, self.field, new)
        else:
            getattr(self.parent, self.field)[self.at] = new


_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in the place of one."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=comparators):
            yield ast.Compare(left, [_COMPARISONS[type(op)]()], comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(op)](), right)
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in _OPERATORS:
            yield ast.AugAssign(target, _OPERATORS[type(op)](), value)
            yield ast.Pass()
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.Continue() | ast.Raise():
            yield ast.Pass()


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _places(
    node: ast.AST, function: ast.FunctionDef | None = None, statement: ast.stmt | None = None
) -> Iterator[_Place]:
    """Every place of a tree that may be changed: no annotations, decorators, names of fields and parts of f-strings."""
    for field, value in ast.iter_fields(node):
        skipped = field in ("annotation", "returns", "decorator_list") or isinstance(node, ast.JoinedStr)
        if skipped or (isinstance(node, ast.AnnAssign) and field == "target"):
            continue
        around = node if function is None and field == "body" and isinstance(node, ast.FunctionDef) else function
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                inside = child if isinstance(child, ast.stmt) else statement
                if inside is not None:
                    yield _Place(node, field, index, around, inside)
                yield from _places(child, around, inside)


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """All mutants of a file, whose path is taken from a root."""
    found: list[Mutant] = []
    for place in _places(ast.parse(path.read_text())):
        old = place.child
        for new in _changes(old):
            before, after = (ast.unparse(ast.fix_missing_locations(x)).splitlines()[0] for x in (old, new))
            line = getattr(old, "lineno", 0)
            change = f"{before}  =>  {after}"
            name = path.relative_to(root).as_posix()
            found.append(Mutant(name, len(found), line, change, _start(place.function), _lines(place.statement)))
    return found


def _start(function: ast.FunctionDef | None) -> tuple[str, int] | None:
    if function is None:
        return None
    return function.name, min([function.lineno, *(node.lineno for node in function.decorator_list)])


def _lines(statement: ast.stmt) -> tuple[int, int]:
    """Its lines, down to the first statement inside it; all lines of a statement with several bodies to choose from."""
    end = statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    return statement.lineno, max(statement.lineno, body[0].lineno - 1) if body else end


def mutated(path: Path, number: int) -> ast.Module:
    """A file with the change of that number made; all lines keep their numbers."""
    tree = ast.parse(path.read_text())
    count = 0
    for place in list(_places(tree)):
        old = place.child
        for new in _changes(old):
            if count == number:
                place.put(ast.copy_location(copy.deepcopy(new), old))
                return ast.fix_missing_locations(tree)
            count += 1
    raise IndexError(number)
