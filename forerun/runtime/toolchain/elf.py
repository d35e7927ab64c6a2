"""A cubin's architecture, and the sizes of its sections. A cubin is a 64-bit little-endian ELF file."""

from __future__ import annotations

import struct
from collections.abc import Mapping

__all__ = ["architecture", "constant_bytes", "section_sizes", "sections", "symbol_index"]

_MAGIC = b"\x7fELF\x02\x01"
_SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size
_SYMBOL = struct.Struct("<IBBHQQ")  # name, info, other, section, value, size
_MACHINE = 190  # EM_CUDA
_EMPTY_KINDS = (0, 8)  # SHT_NULL, SHT_NOBITS: no bytes of the file belong to them
_NEWER_ABI = 8
_FUNCTION = 2  # STT_FUNC


def architecture(code: bytes) -> int:
    """The number of the architecture that a cubin is for, 90 for instance.

    Raises:
        ValueError: If this is not a cubin.
    """
    if not code.startswith(_MAGIC):
        raise ValueError("not a cubin")
    try:
        (machine,) = struct.unpack_from("<H", code, 0x12)
        (flags,) = struct.unpack_from("<I", code, 0x30)
    except struct.error as error:
        raise ValueError("a cubin that ends too early") from error
    if machine != _MACHINE:
        raise ValueError("not a cubin")
    # NVIDIA does not document the flags; as cubins of CUDA 12 and 13 have them.
    return int(flags >> 8 & 0xFF if code[8] >= _NEWER_ABI else flags & 0xFF)


def section_sizes(code: bytes) -> Mapping[str, int]:
    """The size of each section in bytes, by its name.

    Raises:
        ValueError: If this is not a cubin.
    """
    return {name: header[5] for name, header in _headers(code).items()}


def sections(code: bytes) -> Mapping[str, bytes]:
    """The content of each section that has one, by its name.

    Raises:
        ValueError: If this is not a cubin.
    """
    found = _headers(code).items()
    return {name: code[header[4] : header[4] + header[5]] for name, header in found if header[1] not in _EMPTY_KINDS}


def symbol_index(code: bytes, name: str) -> int | None:
    """The number of the function of that name in the table of symbols, as nvdisasm takes it; ``None`` if there is none.

    Raises:
        ValueError: If this is not a cubin.
    """
    found = sections(code)
    table, names = found.get(".symtab", b""), found.get(".strtab", b"")
    wanted = name.encode()
    for index in range(len(table) // _SYMBOL.size):
        at, info, *_ = _SYMBOL.unpack_from(table, index * _SYMBOL.size)
        if info & 0xF == _FUNCTION and names[at : names.find(b"\0", at)] == wanted:
            return index
    return None


def _headers(code: bytes) -> Mapping[str, tuple[int, ...]]:
    """The header of each section, by its name."""
    if not code.startswith(_MAGIC):
        raise ValueError("not a cubin")
    try:
        (table,) = struct.unpack_from("<Q", code, 0x28)
        size, count, names = struct.unpack_from("<HHH", code, 0x3A)
        headers = [_SECTION.unpack_from(code, table + index * size) for index in range(count)]
        start = headers[names][4]
        (segments,) = struct.unpack_from("<Q", code, 0x20)
        segment_size, segment_count = struct.unpack_from("<HH", code, 0x36)
        ends = (header[4] + header[5] for header in headers if header[1] not in _EMPTY_KINDS)
        if max(ends, default=0) > len(code) or segments + segment_size * segment_count > len(code):
            raise ValueError("a cubin that ends too early")
        return {_name(code, start + header[0]): header for header in headers}
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError("a cubin that ends too early") from error


def constant_bytes(sizes: Mapping[str, int], entry: str) -> int:
    """What a kernel has in constant banks: parameters, and literals that the compiler put there."""
    banks = (f".nv.constant{bank}.{entry}" for bank in range(10))
    return sum(sizes.get(bank, 0) for bank in banks)


def _name(code: bytes, start: int) -> str:
    return code[start : code.index(b"\0", start)].decode(errors="replace")
