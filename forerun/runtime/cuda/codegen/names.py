"""Names in CUDA C++: what is a name in a graph need not be an identifier, and identifiers must not collide."""

from __future__ import annotations

import re
from collections.abc import Iterable

from forerun.ir.types import DType
from forerun.runtime.c_types import C_TYPES
from forerun.support.diagnostics import InternalError

__all__ = ["CONSTANT_TYPES", "entry_name", "identifier", "identifiers"]

CONSTANT_TYPES = frozenset(C_TYPES) - {DType.F16, DType.BF16}
"""What is passed by value."""

_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class
    compl concept const consteval constexpr constinit const_cast continue co_await co_return co_yield decltype
    default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline
    int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
    register reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch
    template this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile
    wchar_t while xor xor_eq
"""
_OURS = """
    Arguments Constant Dims Hash INFINITY Launch Loaded Locals NAN NULL Roles Types arguments bf16 blockDim
    blockIdx cta_barrier delay delay_key dynamic_shared f16 fenced_trigger gridDim is_alone key linux
    load_global locals threadIdx trigger unix wait warp warpSize warp_in_cta word
"""
_RESERVED = frozenset(f"{_KEYWORDS} {_OURS}".split())


def identifier(name: str) -> str:
    """A C++ identifier for a name: itself if it is one, else the nearest one, with ``_`` after a reserved word.

    Example:
        >>> identifier("gemv.pdl"), identifier("float"), identifier("2nd"), identifier("x")
        ('gemv_pdl', 'float_', '_2nd', 'x')
    """
    # Two underscores, or one and a capital, begin what belongs to the compiler.
    text = re.sub(r"_{2,}", "_", re.sub(r"[^0-9A-Za-z_]", "_", name)) or "_"
    if text[0].isdigit():
        text = f"_{text}"
    if re.match(r"_[A-Z]", text):
        text = f"n{text}"
    return f"{text}_" if text in _RESERVED else text


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Different identifiers for different names, most of which keep theirs.

    Raises:
        InternalError: If a name occurs twice.

    Example:
        >>> identifiers(["x.1", "x_1", "int"])
        {'x.1': 'x_12', 'x_1': 'x_1', 'int': 'int_'}
    """
    wanted = list(names)
    if len(set(wanted)) != len(wanted):
        raise InternalError(f"names occur twice: {', '.join(wanted)}")
    found = {name: name for name in wanted if identifier(name) == name}
    for name in wanted:
        if name not in found:
            stem = text = identifier(name)
            number = 2
            while text in found.values():
                text, number = f"{stem}{number}", number + 1
            found[name] = text
    return {name: found[name] for name in wanted}


def entry_name(kernel: str) -> str:
    """The name of a kernel's function. Numbers that only tell variants of a graph apart are left out.

    The suffix keeps it apart from the namespace of the phases, and from functions of C++'s library.

    Example:
        >>> entry_name("gemv_bf16"), entry_name("gemv.pdl2.hoisted")
        ('gemv_bf16_kernel', 'gemv_pdl_hoisted_kernel')
    """
    stem, *variants = kernel.split(".")
    return identifier(".".join([stem, *(v.rstrip("0123456789") for v in variants), "kernel"]))
