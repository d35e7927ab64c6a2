"""Symbolic byte sets: values of their symbols under which two of them certainly share a byte.

A race is certain only if some run has it. Where bytes depend on loaded scalars, that takes values which the scalars may
have, for which both accesses stay inside their views (what leaves its view is an error of its own) and meet. A few
values are tried for each symbol: its bounds, small ones, and those that bring an end of one set to an end of the other
or of its view; elements of a buffer that ascends do so. If none of them fits, nothing is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import TypeAlias

from forerun.ir.affine import Affine
from forerun.ir.semantics.ascending import ascending_element, ascends
from forerun.ir.semantics.byteset import ByteSet

__all__ = ["can_meet"]

MAX_INSTANCES = 256
"""How many choices of values are tried for two sets."""

_Range: TypeAlias = tuple[int, int]


def can_meet(
    first: ByteSet, view: _Range, second: ByteSet, other_view: _Range, bounds: Callable[[str], _Range]
) -> bool:
    """Whether values are found under which two exact sets lie in their views and have a byte in common.

    A view is its first byte and the one after its last; ``bounds`` gives the values that a symbol can have.
    """
    ends = (*_ends(first), *_ends(second))
    marks = {*view, *other_view, *(end.constant for end in ends if end.is_constant)}
    symbols = sorted({symbol for end in ends for symbol in end.symbols})
    spread = _spread(symbols, bounds)
    choices = [_values(symbol, bounds(symbol), ends, marks, spread[symbol]) for symbol in symbols]
    for values in islice(product(*choices), MAX_INSTANCES):
        chosen = dict(zip(symbols, values, strict=True))
        if not ascends(chosen):
            continue
        a, b = _at(first, chosen), _at(second, chosen)
        if _inside(a, view) and _inside(b, other_view) and a.meets(b):
            return True
    return False


def _ends(found: ByteSet) -> tuple[Affine, Affine]:
    return Affine(found.start, found.start_terms), Affine(found.stop, found.stop_terms)


def _at(found: ByteSet, values: Mapping[str, int]) -> ByteSet:
    start, stop = (end.substitute(values).constant for end in _ends(found))
    return ByteSet(start, stop, run=found.run, levels=found.levels, exact=found.exact)


def _inside(found: ByteSet, view: _Range) -> bool:
    return view[0] <= found.start < found.stop <= view[1]


def _spread(symbols: Sequence[str], bounds: Callable[[str], _Range]) -> dict[str, list[int]]:
    """For each element of a buffer that ascends, its place among the others there, within the bounds."""
    found: dict[str, list[int]] = {symbol: [] for symbol in symbols}
    elements = {symbol: element for symbol in symbols if (element := ascending_element(symbol)) is not None}
    for buffer in {buffer for buffer, _ in elements.values()}:
        inside = sorted((index, symbol) for symbol, (owner, index) in elements.items() if owner == buffer)
        for rank, (_, symbol) in enumerate(inside):
            low, high = bounds(symbol)
            found[symbol] = [low + (high - low) * rank // max(1, len(inside) - 1)]
    return found


def _values(
    symbol: str, bounds: _Range, ends: Iterable[Affine], marks: Iterable[int], first: Iterable[int]
) -> list[int]:
    """Values of a symbol that may matter, those first that bring an end that has no other symbol to a mark."""
    low, high = bounds
    found = [*first, *_solutions(symbol, ends, sorted(marks)), 0, 1, low, high]
    return list(dict.fromkeys(value for value in found if low <= value <= high))


def _solutions(symbol: str, ends: Iterable[Affine], marks: Iterable[int]) -> Iterator[int]:
    for end in dict.fromkeys(ends):
        if end.symbols == (symbol,):
            ((_, coefficient),) = end.terms
            for mark in marks:
                value = (mark - end.constant) // coefficient
                yield from (value, value + 1)
