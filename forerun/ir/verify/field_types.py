"""Whether values have the form that their types declare, so that all else may rely on it.

Python checks no types: a list where a tuple belongs cannot be hashed, and an affine expression whose terms are not in
order is equal to no other. Both would come out much later, and elsewhere.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeAlias

from forerun.ir.affine import Affine
from forerun.ir.analysis import Analysis
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import KernelNode
from forerun.support.diagnostics import Diagnostic, Location

__all__ = ["check"]

_Test: TypeAlias = Callable[[Any], bool]


def check(graph: Graph) -> Iterator[Diagnostic]:
    """Yield violations of G7. The other checks may fail on such a graph."""
    for found in (_tables(graph), _nodes(graph), _dependencies(graph)):
        yield from found


def _of_tables(graph: Graph) -> tuple[Diagnostic, ...]:
    tables = ("allocation", graph.allocations), ("buffer", graph.buffers), ("kernel", graph.kernels)
    return tuple(found for kind, table in tables for found in _malformed(graph, kind, table.items()))


def _of_dependencies(graph: Graph) -> tuple[Diagnostic, ...]:
    return tuple(_malformed(graph, "dependency", ((f"{d.source} -> {d.target}", d) for d in graph.dependencies)))


_tables = Analysis({"allocations", "buffers", "kernels"}, _of_tables)
_nodes = Analysis({"nodes"}, lambda graph: tuple(_malformed(graph, "node", graph.nodes.items())))
_dependencies = Analysis({"nodes", "dependencies"}, _of_dependencies)

_PLAIN = (KernelNode, Dependency, Buffer, Allocation)
"""Values without affine expressions, of which there are many."""

_right: Analysis[dict[tuple[str, str], object]] = Analysis(set(), lambda graph: {})
"""What was found right, by kind and name: kept across all edits, since most of it is the same value afterwards."""


def _malformed(graph: Graph, kind: str, named: Iterable[tuple[str, Any]]) -> Iterator[Diagnostic]:
    right = _right(graph)
    for name, value in named:
        if right.get((kind, name)) is value:
            continue
        declared: Any = type(value)
        if _is_plain(value) or _test_of(declared)(value):
            right[kind, name] = value
            continue
        message = next(_faults(value, declared, ""))
        hint = "tuples, not lists; affine(), +, - and * make affine expressions"
        yield Diagnostic("G7", message, Location(kind, str(name)), hint)


def _is_plain(value: Any) -> bool:
    """A much quicker test for most values: what can be hashed holds no list, and here no expression."""
    if not isinstance(value, _PLAIN):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


@cache
def _test_of(hint: Any) -> _Test:
    """A quick test of a value against a type. Numbers and names are left to the other rules."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _tuple_test(arguments)
    if origin in (typing.Union, UnionType):
        return _union_test(tuple(map(_test_of, arguments)))
    if hint is Affine:
        return _is_canonical
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass_test(hint)
    if hint is type(None):
        return lambda value: value is None
    kinds: tuple[type, ...] = (tuple, list, dict, set, bytearray)
    return lambda value: not isinstance(value, kinds) and not is_dataclass(value)


def _tuple_test(arguments: tuple[Any, ...]) -> _Test:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _test_of(arguments[0])
        return lambda value: isinstance(value, tuple) and all(map(item, value))
    tests = tuple(map(_test_of, arguments))
    return lambda value: (
        isinstance(value, tuple)
        and len(value) == len(tests)
        and all(test(item) for test, item in zip(tests, value, strict=True))
    )


def _union_test(tests: tuple[_Test, ...]) -> _Test:
    return lambda value: any(test(value) for test in tests)


def _dataclass_test(hint: type) -> _Test:
    tests = [(name, _test_of(found)) for name, found in _fields_of(hint).items()]
    return lambda value: isinstance(value, hint) and all(test(getattr(value, name)) for name, test in tests)


@cache
def _fields_of(hint: type) -> dict[str, Any]:
    """The declared type of each field. Names that are imported for type checking only stand for graphs."""
    hints = typing.get_type_hints(hint, localns={"Graph": Graph})
    return {field.name: hints[field.name] for field in fields(hint)}


def _is_canonical(value: Any) -> bool:
    if not isinstance(value, Affine) or not isinstance(value.terms, tuple):
        return False
    if not value.terms:
        return True
    if not all(isinstance(term, tuple) and len(term) == 2 for term in value.terms):
        return False
    symbols = [symbol for symbol, _ in value.terms]
    return symbols == sorted(set(symbols)) and all(coefficient for _, coefficient in value.terms)


# What is wrong, for people: slow, and only for what is wrong


def _faults(value: Any, hint: Any, path: str) -> Iterator[str]:
    """What does not fit, innermost first: ``roles[0].steps[1].reads is a list, not a tuple``."""
    if _test_of(hint)(value):
        return
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        fitting = [a for a in arguments if isinstance(a, type) and isinstance(value, a)]
        fitting += [a for a in arguments if typing.get_origin(a) is tuple and isinstance(value, tuple)]
        for argument in fitting:
            yield from _faults(value, argument, path)
    elif origin is tuple and isinstance(value, tuple):
        hints = [arguments[0]] * len(value) if arguments[1:] == (Ellipsis,) else list(arguments)
        for number, (item, found) in enumerate(zip(value, hints, strict=False)):
            yield from _faults(item, found, f"{path}[{number}]")
    elif isinstance(hint, type) and is_dataclass(hint) and isinstance(value, hint) and hint is not Affine:
        for name, found in _fields_of(hint).items():
            yield from _faults(getattr(value, name), found, f"{path}.{name}" if path else name)
    yield _sentence(value, hint, path or "it")


def _sentence(value: Any, hint: Any, path: str) -> str:
    if hint is Affine and isinstance(value, Affine):
        form = "a tuple, sorted, each symbol once, none zero"
        return f"{path} is not in canonical form: terms {value.terms!r} are {form}"
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
    wanted = " or ".join(getattr(typing.get_origin(option) or option, "__name__", str(option)) for option in options)
    return f"{path} is a {type(value).__name__}, not a {wanted}"
