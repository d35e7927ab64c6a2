"""What is known of machine code that somebody else compiled."""

from __future__ import annotations

from forerun.runtime.toolchain.elf import architecture, symbol_index
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.locate import require_disassembler
from forerun.runtime.toolchain.sass import disassemble, parse_listing

__all__ = ["facts_of_image", "parameters_at"]


def facts_of_image(code: bytes, entry: str) -> EntryFacts | None:
    """The instructions of one kernel of a cubin; registers and memory are not told. ``None`` if it has no such kernel.

    Raises:
        ToolchainMissing: If nvdisasm is missing, or does not know this kind of cubin.
    """
    try:
        symbol = symbol_index(code, entry)
    except ValueError:
        symbol = None
    if symbol is None:
        return None
    found = parse_listing(disassemble(code, require_disassembler().path, symbol)).get(entry)
    return None if found is None else EntryFacts(0, instructions=found)


def parameters_at(code: bytes) -> int:
    """Where the parameters of a cubin's kernels begin in constant bank 0, in bytes.

    Raises:
        ValueError: If this is not a cubin.
    """
    return 0x380 if architecture(code) >= 100 else 0x210
