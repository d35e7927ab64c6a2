"""What opcodes do: which registers they write, and which memory they touch (PTX ISA 9.0, "Instructions")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forerun.ptx.operands import Address, Group, Immediate, Operand, Register, Symbol, registers_of
from forerun.ptx.syntax import Instruction

__all__ = ["COMPUTING", "Effect", "effects", "is_trigger", "is_wait", "source_limit", "type_bits", "uses", "writes"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WITHOUT_RESULT = frozenset({"bra", "brx", "nanosleep", "pmevent", "ret", "setmaxnreg", "stackrestore"})
_BARRIERS = frozenset({"bar", "barrier"})

COMPUTING = _words(
    """
    abs activemask add addc and bfe bfi bfind bmsk brev clz cnot copysign cos createpolicy cvt cvta
    div dp2a dp4a elect ex2 fma fns getctarank isspacep istypep lg2 lop3 mad mad24 madc mapa match
    max min mma mov movmatrix mul mul24 neg not or popc prmt rcp redux rem rsqrt sad selp set setp
    shf shfl shl shr sin slct sqrt stacksave sub subc szext tanh testp vadd vote vset vsub wmma xor
    """
)
"""Opcodes that compute results from registers alone. Of ``wmma``, loads and stores touch memory."""

_CONTROL = _words(
    """
    bar barrier bra brkpt brx exit fence griddepcontrol membar nanosleep pmevent ret setmaxnreg
    stackrestore trap
    """
)
_ENDING = frozenset({"__assertfail"})
"""Functions of CUDA's own that end the grid, and touch nothing that a program can see before."""

_SPACES = ("global", "shared", "local", "const", "param")
_UNKNOWN_SIZE = None
_BYTES_OF_A_TENSOR_MAP = 128
_WIDTHS = ("8", "16", "32", "64", "128")


@dataclass(frozen=True, slots=True)
class Effect:
    """What an instruction does to memory.

    Attributes:
        kind: ``read``, ``write``, ``update`` (both), ``prefetch`` or ``unknown``.
        space: A state space, ``generic``, or ``any`` if that is not known.
        operand: The number of the operand that is its address; ``None`` if none is.
        bytes: How many; ``None`` if that is not known.
        is_asynchronous: Whether it may happen after the next instruction.
    """

    kind: str
    space: str
    operand: int | None = None
    bytes: int | None = None
    is_asynchronous: bool = False


def is_wait(one: Instruction) -> bool:
    """Whether it is ``griddepcontrol.wait``."""
    return one.opcode == "griddepcontrol.wait"


def is_trigger(one: Instruction) -> bool:
    """Whether it is ``griddepcontrol.launch_dependents``."""
    return one.opcode == "griddepcontrol.launch_dependents"


def ends_grid(one: Instruction) -> bool:
    """Whether it ends the grid with an error: ``trap``, or a failed assertion."""
    return one.base == "trap" or (one.base == "call" and bool(one.operands) and str(one.operands[0]) in _ENDING)


def writes(one: Instruction) -> tuple[Register, ...]:
    """The registers that an instruction writes: those of its first operand, unless that is an address or a name."""
    if one.base in _WITHOUT_RESULT or not one.operands:
        return ()
    if one.base in _BARRIERS and ".red" not in one.opcode:
        return ()
    first = one.operands[0]
    if one.base == "call":
        return tuple(registers_of(first)) if isinstance(first, Group) and len(one.operands) > 1 else ()
    if isinstance(first, Address | Immediate | Symbol):
        return ()
    return tuple(registers_of(first))


def uses(one: Instruction) -> Iterator[Register]:
    """The registers that an instruction reads, its guard included."""
    if one.guard is not None:
        yield one.guard.register
    # Accumulators of wgmma are read, too.
    rest = one.operands if not writes(one) or one.base == "wgmma" else one.operands[1:]
    for operand in rest:
        yield from registers_of(operand)


def type_bits(word: str) -> int:
    """The bits of a type: 32 for ``u32`` and ``bf16x2``; 0 if it is not a type.

    Example:
        >>> type_bits("u32"), type_bits("bf16x2"), type_bits("v4"), type_bits("pred")
        (32, 32, 0, 0)
    """
    head, _, count = word.partition("x")
    digits = head.lstrip("bsufe")
    if head == digits or digits not in _WIDTHS or count not in ("", "2", "4"):
        return 0
    return int(digits) * int(count or 1)


def effects(one: Instruction) -> tuple[Effect, ...]:
    """What an instruction does to memory; an opcode that is not known here may do anything."""
    base, parts = one.base, one.parts
    if base in ("wmma", "wgmma", "multimem", "cp", "tensormap", "mbarrier"):
        return _of_families(one)
    if base in COMPUTING or base in _CONTROL:
        return ()
    match base:
        case "ld" | "ldu":
            return (_at("read", one, 1, _space(parts), _size(parts)),)
        case "st" if "bulk" not in parts:
            return (_at("write", one, 0, _space(parts), _size(parts), is_asynchronous="async" in parts),)
        case "atom":
            return (_at("update", one, 1, _space(parts), _size(parts)),)
        case "red":
            return (_at("update", one, 0, _space(parts), _size(parts), is_asynchronous="async" in parts),)
        case "prefetch" | "prefetchu" | "applypriority":
            return (_at("prefetch", one, 0, _space(parts), _UNKNOWN_SIZE),)
        case "discard":
            return (_at("write", one, 0, _space(parts), _number(one, 1)),)
        case "ldmatrix":
            return (_at("read", one, 1, "shared", 16),)
        case "stmatrix":
            return (_at("write", one, 0, "shared", 16),)
        case "tex" | "tld4" | "suld":
            return (Effect("read", "global"),)
        case "sust":
            return (Effect("write", "global"),)
        case "call" if ends_grid(one):
            return ()
    return (Effect("unknown", "any"),)


def _of_families(one: Instruction) -> tuple[Effect, ...]:
    """The effects of an opcode whose second word says what it does."""
    parts = one.parts
    match parts[:3]:
        case ("wmma", "load", _):
            return (_at("read", one, 1, _space(parts), _UNKNOWN_SIZE),)
        case ("wmma", "store", _):
            return (_at("write", one, 0, _space(parts), _UNKNOWN_SIZE),)
        case ("wmma", *_):
            return ()
        case ("wgmma", "mma_async", *_):
            return (Effect("read", "shared", is_asynchronous=True),)
        case ("wgmma", *_):
            return ()
        case ("mbarrier", *_):
            return (Effect("update", "shared"),)
        case ("multimem", "ld_reduce", *_):
            return (_at("read", one, 1, _space(parts), _UNKNOWN_SIZE),)
        case ("multimem", *_):
            return (_at("update", one, 0, _space(parts), _UNKNOWN_SIZE),)
        case ("cp", "async", "commit_group" | "wait_group" | "wait_all"):
            return ()
        case ("cp", "async", "mbarrier"):
            return (Effect("update", "shared", is_asynchronous=True),)
        case ("cp", "async", "bulk"):
            return _bulk_copy(one)
        case ("cp", "reduce", "async"):
            return _bulk_copy(one)
        case ("cp", "async", *_):
            return tuple(_thread_copy(one))
    return (Effect("unknown", "any"),)


def _thread_copy(one: Instruction) -> Iterator[Effect]:
    """A copy of one thread's: what it does not read of the source is filled with zeros."""
    size, limit = _number(one, 2), source_limit(one)
    most = limit.value if isinstance(limit, Immediate) else None
    read = most if isinstance(most, int) and size is not None and 0 <= most <= size else size
    if read != 0:
        yield _at("read", one, 1, "global", read, is_asynchronous=True)
    yield _at("write", one, 0, "shared", size, is_asynchronous=True)


def source_limit(one: Instruction) -> Operand | None:
    """What limits how much a ``cp.async`` that copies a thread's few bytes reads of them; ``None`` if nothing does.

    It is a number of bytes, or a predicate, with which nothing is read (PTX ISA, "cp.async": ``src-size``,
    ``ignore-src``).
    """
    is_copy = one.parts[:2] == ("cp", "async") and one.parts[2:3] in (("ca",), ("cg",))
    operands = one.operands[3:] if is_copy else ()
    return operands[0] if len(operands) > ("L2::cache_hint" in one.parts) else None


def _bulk_copy(one: Instruction) -> tuple[Effect, ...]:
    """Copies by the copy engine; those that a tensor map describes reach what it says, which is not known here."""
    parts = one.parts
    if parts[-1] in ("commit_group", "read") or "wait_group" in parts:
        return ()
    stored = "update" if parts[1] == "reduce" else "write"
    spaces = [part.partition("::")[0] for part in parts if part.partition("::")[0] in ("global", "shared")]
    if "tensor" in parts:
        return _tensor_copy(one, spaces, stored)
    if "prefetch" in parts:
        return (_at("prefetch", one, 0, "global", _number(one, 1), is_asynchronous=True),)
    if len(spaces) < 2:
        return (Effect("unknown", "any"),)
    size = _number(one, 2)
    return (
        _at("read", one, 1, spaces[1], size, is_asynchronous=True),
        _at(stored, one, 0, spaces[0], size, is_asynchronous=True),
    )


def _tensor_copy(one: Instruction, spaces: list[str], stored: str) -> tuple[Effect, ...]:
    """A copy that a tensor map describes, which is itself read."""
    if "prefetch" in one.parts:
        return (_global("prefetch"), _map(one, 0))
    if spaces[:1] == ["shared"]:
        return (_at("write", one, 0, "shared", None, is_asynchronous=True), _global("read"), _map(one, 1))
    return (_at("read", one, 1, "shared", None, is_asynchronous=True), _global(stored), _map(one, 0))


def _global(kind: str) -> Effect:
    return Effect(kind, "global", is_asynchronous=True)


def _map(one: Instruction, number: int) -> Effect:
    return _at("read", one, number, "generic", _BYTES_OF_A_TENSOR_MAP, is_asynchronous=True)


def _at(
    kind: str, one: Instruction, number: int, space: str, size: int | None, *, is_asynchronous: bool = False
) -> Effect:
    has_address = number < len(one.operands) and isinstance(one.operands[number], Address)
    return Effect(kind, space, number if has_address else None, size, is_asynchronous)


def _space(parts: tuple[str, ...]) -> str:
    return next((name for name in (part.partition("::")[0] for part in parts[1:]) if name in _SPACES), "generic")


def _size(parts: tuple[str, ...]) -> int | None:
    """Bytes of one thread's access: of the type, which comes last, times the length of the vector."""
    bits = next((bits for bits in map(type_bits, reversed(parts)) if bits), 0)
    if not bits:
        return None
    count = next((int(part[1:]) for part in parts if part in ("v2", "v4", "v8")), 1)
    return bits // 8 * count


def _number(one: Instruction, number: int) -> int | None:
    operand = one.operands[number] if number < len(one.operands) else None
    value = operand.value if isinstance(operand, Immediate) else None
    return value if isinstance(value, int) else None
