"""What ptxas makes of a text, to be compared: the machine code of each kernel."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from forerun.runtime.toolchain.locate import require_compiler
from forerun.runtime.toolchain.ptxas import assemble
from forerun.runtime.toolchain.unit import Source

__all__ = ["at_fixed_addresses", "code_of", "machine_code"]

_ADDRESSES_NOT_RANDOM = 0x0040000
_ASK = 0xFFFFFFFF


@contextmanager
def at_fixed_addresses() -> Iterator[bool]:
    """Within the block, programs that are started have no random addresses, if the system allows it (``personality``).

    ptxas 12.9 and 13.0 choose registers of ``tcgen05`` kernels by where their own memory lies.
    """
    change = ctypes.CDLL(None).personality
    before = change(_ASK)
    change(before | _ADDRESSES_NOT_RANDOM)
    try:
        yield bool(change(_ASK) & _ADDRESSES_NOT_RANDOM)
    finally:
        change(before)


_SECTION = struct.Struct("<IIQQQQIIQQ")


def machine_code(ptx: str, arch: str) -> Mapping[str, bytes]:
    """What ptxas makes of a text, as :func:`code_of` has it."""
    code, _ = assemble(ptx, Source("k", ""), arch, require_compiler().ptxas.path, ())
    return code_of(code)


def code_of(code: bytes) -> Mapping[str, bytes]:
    """The bytes of a cubin's ``.text`` sections, by their names, and the registers' counts (in ``sh_info``)."""
    (table,) = struct.unpack_from("<Q", code, 0x28)
    size, count, names = struct.unpack_from("<HHH", code, 0x3A)
    headers = [_SECTION.unpack_from(code, table + index * size) for index in range(count)]
    start = headers[names][4]
    found = {}
    for name, _, _, _, offset, length, _, info, _, _ in headers:
        text = code[start + name : code.index(b"\0", start + name)].decode()
        if text.startswith(".text."):
            found[text] = code[offset : offset + length] + struct.pack("<I", info >> 24)
    assert found
    return found
