"""Sizes of a cubin's sections. A cubin is a 64-bit little-endian ELF file."""

from __future__ import annotations

import struct
from collections.abc import Mapping

__all__ = ["constant_bytes", "section_sizes"]

_MAGIC = b"\x7fELF\x02\x01"
_SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size


def section_sizes(code: bytes) -> Mapping[str, int]:
    """The size of each section in bytes, by its name.

    Raises:
        ValueError: If this is no cubin.
    """
    if not code.startswith(_MAGIC):
        raise ValueError("not a cubin")
    try:
        (table,) = struct.unpack_from("<Q", code, 0x28)
        size, count, names = struct.unpack_from("<HHH", code, 0x3A)
        headers = [_SECTION.unpack_from(code, table + index * size) for index in range(count)]
        start = headers[names][4]
        return {_name(code, start + header[0]): header[5] for header in headers}
    except (struct.error, IndexError) as error:
        raise ValueError("a cubin that ends too early") from error


def constant_bytes(sizes: Mapping[str, int], entry: str) -> int:
    """What a kernel has in constant banks: parameters, and literals that the compiler put there."""
    banks = (f".nv.constant{bank}.{entry}" for bank in range(10))
    return sum(sizes.get(bank, 0) for bank in banks)


def _name(code: bytes, start: int) -> str:
    return code[start : code.index(b"\0", start)].decode(errors="replace")
