"""Sizes of sections, of an ELF file made by hand."""

from __future__ import annotations

import struct

import pytest

from forerun.runtime.toolchain.elf import architecture, constant_bytes, section_sizes


def elf() -> bytes:
    """A file with a table of names and a bank of constants of 552 bytes."""
    names = b"\0.shstrtab\0.nv.constant0.k\0"
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 0x28, 64 + len(names))
    struct.pack_into("<HHH", header, 0x3A, 64, 3, 1)
    sections = [(0, 0, 0), (1, 64, len(names)), (11, 0, 552)]
    table = b"".join(struct.pack("<IIQQQQIIQQ", name, 0, 0, 0, at, size, 0, 0, 0, 0) for name, at, size in sections)
    return bytes(header) + names + table


def test_sizes():
    sizes = section_sizes(elf())
    assert sizes[".nv.constant0.k"] == 552
    assert constant_bytes(sizes, "k") == 552
    assert constant_bytes(sizes, "other") == 0


@pytest.mark.parametrize("code", [b"", b"MZ", elf()[:50], elf()[:-70]])
def test_no_cubin(code):
    with pytest.raises(ValueError, match="cubin"):
        section_sizes(code)


@pytest.mark.parametrize("code", [b"", b"MZ", elf()[:40], elf()])
def test_no_architecture(code):
    with pytest.raises(ValueError, match="cubin"):
        architecture(code)


@pytest.mark.parametrize(("abi", "flags", "number"), [(7, 0x5A055A, 90), (8, 0x9005A04, 90), (8, 0x9007802, 120)])
def test_architecture(abi, flags, number):
    header = bytearray(elf())
    header[8] = abi
    struct.pack_into("<H", header, 0x12, 190)
    struct.pack_into("<I", header, 0x30, flags)
    assert architecture(bytes(header)) == number


@pytest.mark.parametrize("at", [0x20, 0x28])
def test_tables_outside_the_file(at):
    header = bytearray(elf())
    struct.pack_into("<Q", header, at, 2**63)
    with pytest.raises(ValueError, match="too early"):
        section_sizes(bytes(header))
