"""How values are spelled: places, types, regions with affine bounds, lists of them; those of wrong types are marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forerun.ir.affine import Affine
from forerun.ir.kernel import Access
from forerun.ir.region import BufferView, Region, Slice
from forerun.ir.text.spelling import integer, reference, unprintable, word
from forerun.ir.types import HOST, BufferRole, DependencyKind, DType, Place

__all__ = [
    "CONDITIONAL_KINDS",
    "HAZARD_KINDS",
    "LANGUAGES",
    "PLACE_KINDS",
    "access",
    "affine_text",
    "bracketed",
    "clause",
    "flag",
    "joined",
    "member",
    "on",
    "signed",
    "view",
]

# Fields that are plain strings in the IR: these words are written bare, all others in quotes.
HAZARD_KINDS = ("RAW", "WAR", "WAW")
PLACE_KINDS = ("device", "host")
LANGUAGES = ("cuda", "ptx", "cubin")
CONDITIONAL_KINDS = ("if", "while", "switch")

# Reading a member's name through Enum.value is the slowest part of printing otherwise.
_MEMBERS: dict[object, str] = {m: str(m) for m in (*DType, *BufferRole, *DependencyKind)}


def joined(items: Any, spell: Callable[[Any], str]) -> str:
    """The items of a tuple with commas between them."""
    return ", ".join(map(spell, items)) if type(items) is tuple else unprintable(items)


def bracketed(items: Any, spell: Callable[[Any], str]) -> str:
    """``[a, b]``."""
    return f"[{joined(items, spell)}]"


def clause(keyword: str, items: Any, spell: Callable[[Any], str]) -> str:
    """`` keyword a, b``; nothing for an empty tuple."""
    return "" if items == () else f" {keyword} {joined(items, spell)}"


def flag(keyword: str, value: Any) -> str:
    """`` keyword`` if the value is true."""
    if type(value) is not bool:
        return f" {keyword} {unprintable(value)}"
    return f" {keyword}" if value else ""


def member(value: Any, kind: type) -> str:
    """A member of one of our enumerations."""
    return _MEMBERS[value] if type(value) is kind else unprintable(value)


def on(place: Any, default: Place | None = None) -> str:
    """`` on device:1``; nothing for the default place, if there is one."""
    if default is not None and (place is default or place == default):
        return ""
    if type(place) is not Place:
        return " on " + unprintable(place)
    return " on host" if place == HOST else f" on {word(place.kind, PLACE_KINDS)}:{integer(place.index)}"


def signed(value: Any) -> str:
    """An integer as a summand: `` + 4`` or `` - 4``."""
    text = integer(value)
    return f" - {text[1:]}" if text[0] == "-" else f" + {text}"


def access(value: Any) -> str:
    """A region of a parameter: ``w[pos:pos + 1, :]``."""
    return word(value.parameter) + _region(value.region) if type(value) is Access else unprintable(value)


def view(value: Any) -> str:
    """A region of a buffer: ``%a[0:4]``."""
    return reference("%", value.buffer) + _region(value.region) if type(value) is BufferView else unprintable(value)


def _region(region: Any) -> str:
    if type(region) is not Region:
        return unprintable(region)
    return "" if region.slices == () else bracketed(region.slices, _slice)


def _slice(part: Any) -> str:
    if part is None:
        return ":"
    return f"{affine_text(part.start)}:{affine_text(part.stop)}" if type(part) is Slice else unprintable(part)


def affine_text(value: Any) -> str:
    """An affine expression: ``4*pos + 8``."""
    if type(value) is not Affine:
        return unprintable(value)
    if value.terms == ():
        return integer(value.constant)
    if value.terms != tuple(sorted({symbol: factor for symbol, factor in value.terms if factor}.items())):
        return unprintable(value)  # built by hand: what is parsed is always sorted, without zeros
    text = "".join([_term(symbol, coefficient) for symbol, coefficient in value.terms])
    if value.constant != 0:
        text += signed(value.constant)
    return text[3:] if text.startswith(" + ") else "-" + text[3:]


def _term(symbol: Any, coefficient: Any) -> str:
    factor = signed(coefficient)
    return factor[:3] + word(symbol) if factor[3:] == "1" else f"{factor}*{word(symbol)}"
