"""What is known of machine code that somebody else compiled."""

from __future__ import annotations

from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.toolchain.cache import cache_at, key_of
from forerun.runtime.toolchain.elf import architecture, symbol_index
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.locate import require_disassembler
from forerun.runtime.toolchain.sass import disassemble, parse_listing

__all__ = ["facts_of_image", "parameters_at"]


def facts_of_image(code: bytes, entry: str, digest: str = "") -> EntryFacts | None:
    """The instructions of one kernel of a cubin; registers and memory are not told. ``None`` if it has no such kernel.

    Listings are kept in the user's cache folder: to disassemble takes a second for a library's large images.

    Args:
        code: The cubin.
        entry: The kernel's name.
        digest: By which the cubin is told apart, of at least 128 bits, where that is known.

    Raises:
        ToolchainMissing: If nvdisasm is missing, or does not know this kind of cubin.
    """
    tool = require_disassembler()
    cache = cache_at(cache_folder() / "toolchain")
    key = key_of("listing", digest or code, entry, str(tool.version))
    kept = cache.get(key)
    if kept is None:
        try:
            symbol = symbol_index(code, entry)
        except ValueError:
            symbol = None
        if symbol is None:
            return None
        kept = disassemble(code, tool.path, symbol).encode()
        cache.put(key, kept)
    found = parse_listing(kept.decode()).get(entry)
    return None if found is None else EntryFacts(0, instructions=found)


def parameters_at(code: bytes) -> int:
    """Where the parameters of a cubin's kernels begin in constant bank 0, in bytes.

    Raises:
        ValueError: If this is not a cubin.
    """
    return 0x380 if architecture(code) >= 100 else 0x210
