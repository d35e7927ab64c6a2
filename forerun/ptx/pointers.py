"""What an address points into. It rests on three rules, which docs/ptx.md states; what they do not decide is unknown.

1. An address that is a pointer plus numbers stays in the memory that the pointer points into.
2. A term is certainly a pointer if the text says so: a parameter that is declared ``.ptr``, what ``cvta`` takes or
   makes, the address of a variable. Another term of 64 bits may be one; what is extended from fewer bits is a number.
3. A sum with one term that is certainly a pointer, and that once, points where it does. A sum with none points where
   its one term with coefficient 1 does that may be a pointer.
"""

from __future__ import annotations

from typing import NamedTuple

from forerun.ptx.provenance import Provenance
from forerun.ptx.values import Term, Value

__all__ = ["Pointers", "Roots"]

_ADDRESS_BITS = 64


class Roots(NamedTuple):
    """What something points into.

    Attributes:
        terms: Parameters, variables and windows, each by its term; ``None`` for what is not known. Nothing: a number.
        is_certain: Whether it is certainly a pointer.
    """

    terms: frozenset[Term | None]
    is_certain: bool


_NUMBER = Roots(frozenset(), False)
_UNKNOWN = Roots(frozenset({None}), False)


class Pointers:
    """Finds the roots of addresses.

    Args:
        provenance: Of the function.
    """

    def __init__(self, provenance: Provenance) -> None:
        self._pointers = provenance.pointers
        self._incoming = provenance.incoming
        self._roots: dict[Term, Roots] = {}
        # Phis refer to each other. Their roots only grow; if not, they are unknown.
        for _ in range(len(provenance.incoming) + 2):
            before = dict(self._roots)
            for term in provenance.terms:
                self._roots[term] = self._of_term(term)
            if self._roots == before:
                return
        self._roots.update(dict.fromkeys(provenance.incoming, Roots(_UNKNOWN.terms, True)))

    def of(self, address: Value | None) -> Roots:
        """The roots of an address."""
        if address is None or address.bits != _ADDRESS_BITS:
            return _UNKNOWN
        return self._of_value(address)

    def is_certain(self, term: Term) -> bool:
        """Whether a term is certainly a pointer."""
        return self._roots.get(term, _NUMBER).is_certain

    def _of_value(self, value: Value) -> Roots:
        certain: list[Roots] = []
        possible: list[Roots] = []
        for term, factor in value.terms:
            roots = self._roots.get(term, _NUMBER)
            if roots.is_certain and factor != 1:
                return Roots(_UNKNOWN.terms, True)
            if roots.terms and factor == 1:
                (certain if roots.is_certain else possible).append(roots)
        if len(certain) > 1:
            return Roots(_UNKNOWN.terms, True)
        chosen = certain or possible
        if not chosen:
            return _NUMBER
        return chosen[0] if len(chosen) == 1 else _UNKNOWN

    def _of_term(self, term: Term) -> Roots:
        is_pointer = term in self._pointers
        match term.kind:
            case "variable" | "generic":
                return Roots(frozenset({term}), True)
            case "param":
                return Roots(frozenset({term}), is_pointer) if term.bits == _ADDRESS_BITS else _NUMBER
            case "select" | "phi":
                return self._of_several(self._incoming.get(term, term.operands), term, is_pointer)
            case "result":
                return Roots(_UNKNOWN.terms, is_pointer) if term.bits == _ADDRESS_BITS else _NUMBER
            case "op" if not term.name.startswith(("zext", "sext")):
                found = [self._of_value(operand) for operand in term.operands]
                if is_pointer or any(roots.terms for roots in found):
                    return Roots(_UNKNOWN.terms, is_pointer or any(roots.is_certain for roots in found))
        return Roots(_UNKNOWN.terms, True) if is_pointer else _NUMBER

    def _of_several(self, values: tuple[Value | None, ...], term: Term, is_pointer: bool) -> Roots:
        if term.bits != _ADDRESS_BITS:
            return _NUMBER
        found = [_UNKNOWN if value is None else self._of_value(value) for value in values]
        roots = frozenset[Term | None]().union(*(one.terms for one in found))
        is_certain = is_pointer or any(one.is_certain for one in found)
        return Roots(roots or _UNKNOWN.terms, True) if is_pointer else Roots(roots, is_certain)
