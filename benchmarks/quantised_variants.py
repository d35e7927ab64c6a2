"""Variants of the kernels that read quantised blocks, for ``quantised.py --variants``: what may be faster.

A variant is another constant in a header of the kernels, or another number of warps. Graphs that are compiled in it
have it. Predictions are in NOTES.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

from forerun.kernels import row_stream
from forerun.runtime.cuda.codegen import sources

__all__ = ["VARIANTS", "Variant", "variant"]

_HEADER = "forerun.kernels.cuda:packed_rows.cuh"
_REGISTERS = ("vector_in_registers = false", "vector_in_registers = true")
_ONE_ROW = ("rows_at_once = 2", "rows_at_once = 1")
_FOUR_ROWS = ("rows_at_once = 2", "rows_at_once = 4")


@dataclass(frozen=True)
class Variant:
    """Replacements in the text of the header, and the warps of a CTA."""

    edits: tuple[tuple[str, str], ...] = ()
    warps: int = row_stream.WARPS_OF_BLOCKS


VARIANTS = {
    "one_row": Variant((_ONE_ROW,)),
    "four_rows": Variant((_FOUR_ROWS,)),
    "registers": Variant((_REGISTERS,)),
    "registers_four_rows": Variant((_REGISTERS, _FOUR_ROWS)),
    "eight_warps": Variant(warps=8),
}
"""The default has 16 warps, which read the vector from shared memory once for two rows that they multiply at once."""


@contextlib.contextmanager
def variant(chosen: Variant) -> Iterator[None]:
    """Compiles kernels as the variant has them, in the block.

    Raises:
        ValueError: If the header does not have each text that is to be replaced exactly once.
    """
    read = sources.read_source
    header = read(_HEADER).decode()
    for old, _ in chosen.edits:
        if header.count(old) != 1:
            message = f"the header has {old!r} {header.count(old)} times"
            raise ValueError(message)

    def edited(location: str) -> bytes:
        text = read(location)
        for old, new in chosen.edits if location == _HEADER else ():
            text = text.replace(old.encode(), new.encode())
        return text

    sources.included.cache_clear()
    try:
        with patch.object(sources, "read_source", edited), patch.object(row_stream, "WARPS_OF_BLOCKS", chosen.warps):
            yield
    finally:
        sources.included.cache_clear()
