"""How quantised matrices lie in memory: the blocks of a GGUF file, rearranged so that kernels read them as they are.

A row is cut into as many tiles as warps share it (:meth:`Packing.tiles`). A tile has its units of 32 weights as planes:
first 16 bytes of quants for each unit, then what else belongs to units. So the lanes of a warp, which have a unit each,
read without gaps, and every tile is a multiple of 16 bytes, which a bulk copy can bring. Rows of files are not: 576
weights in Q8_0 are 612 bytes. ``cuda/packed_rows.cuh`` reads the same planes.

Values are those of the file, bit by bit: :func:`unpacked` gives what the ``gguf`` package makes of the blocks.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from forerun.ir.types import DType
from forerun.kernels import blocks
from forerun.support.diagnostics import InternalError, InvalidInput

__all__ = ["PACKINGS", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q8_0", "Packing", "Storage", "packed", "unpacked"]

Bytes: TypeAlias = NDArray[np.uint8]

UNIT = 32
"""Weights that a lane takes at once."""

_MOST_TILES = 8
_MOST_BYTES = 4096
_MOST_COLUMNS = 2048
_VECTOR = 16
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Packing:
    """One kind of block.

    Attributes:
        name: As kernels are called for it.
        block: Weights of a block in a file.
        block_bytes: Its bytes there.
        planes: Of a tile, in order: bytes, and how many units share them.
        split: The planes of blocks: ``u8[rows, blocks, bytes]`` to ``u8[rows, entries, bytes]`` each.
        values: The weights, f32, of planes.
        scales: Which planes hold f16, from which byte of each entry on.
    """

    name: str
    block: int
    block_bytes: int
    planes: tuple[tuple[int, int], ...]
    split: Callable[[Bytes], tuple[Bytes, ...]] = field(compare=False, repr=False)
    values: Callable[..., NDArray[np.float32]] = field(compare=False, repr=False)
    scales: int = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def dimension(self) -> str:
        """What kernels call the extent of a packed row in bytes; the CUDA C++ knows the packing by that name."""
        return self.name.upper()

    @property
    def alignment(self) -> int:
        """What the address of a row must be a multiple of, to read scales from it. Bulk copies need 16."""
        return max(size for size, _ in self.planes if size <= 4)

    def tiles(self, columns: int) -> int | None:
        """How many tiles a row has: the least power of two that makes them small; ``None`` if it cannot be packed.

        Example:
            >>> Q8_0.tiles(576), Q8_0.tiles(8192), Q4_K.tiles(14336), Q4_K.tiles(576)
            (1, 4, 8, None)
        """
        count = 1
        while count <= _MOST_TILES:
            if columns < 1 or columns % (self.block * count):
                return None
            if columns <= _MOST_COLUMNS * count and self._tile_bytes(columns // count) <= _MOST_BYTES:
                return count
            count *= 2
        return None

    def row_bytes(self, columns: int) -> int:
        """Bytes of a packed row.

        Raises:
            InvalidInput: If rows of that length cannot be packed.
        """
        tiles = self.tiles(columns)
        if tiles is None:
            message = f"rows of {columns} weights cannot be packed as {self}"
            raise InvalidInput(
                message, hint=f"they must be whole blocks of {self.block}, in each of 1, 2, 4 or 8 tiles"
            )
        return tiles * self._tile_bytes(columns // tiles)

    def _tile_bytes(self, columns: int) -> int:
        size = sum(self.plane_bytes(columns))
        return -(-size // _VECTOR) * _VECTOR

    def plane_bytes(self, columns: int) -> list[int]:
        """Bytes of each plane of a tile of that many weights."""
        return [size * (columns // UNIT) // sharing for size, sharing in self.planes]


Storage: TypeAlias = DType | Packing
"""How the elements of a matrix are stored: one by one, or in blocks."""

Q8_0 = Packing("q8_0", 32, 34, ((16, 1), (16, 1), (2, 1)), blocks.split_q8_0, blocks.values_q8_0, 2)
Q4_0 = Packing("q4_0", 32, 18, ((16, 1), (2, 1)), blocks.split_q4_0, blocks.values_q4_0, 1)
Q4_1 = Packing("q4_1", 32, 20, ((16, 1), (4, 1)), blocks.split_q4_1, blocks.values_q4_1, 1)
Q4_K = Packing("q4_k", 256, 144, ((16, 1), (4, 8), (2, 1)), blocks.split_q4_k, blocks.values_q4_k, 1)
Q6_K = Packing("q6_k", 256, 210, ((16, 1), (8, 1), (2, 1), (2, 8)), blocks.split_q6_k, blocks.values_q6_k, 3)

PACKINGS = {packing.dimension: packing for packing in (Q8_0, Q4_0, Q4_1, Q4_K, Q6_K)}
"""By the name that GGUF has for the kind of block."""


def packed(raw: Bytes, packing: Packing) -> Bytes:
    """Rows of blocks, as files have them, rearranged.

    Args:
        raw: ``u8[rows, bytes]``.
        packing: What blocks they are.

    Returns:
        ``u8[rows, packing.row_bytes(columns)]``.

    Raises:
        InvalidInput: If a row is not whole blocks, cannot be packed, or has a scale that is not finite.

    Example:
        >>> raw = np.zeros((3, 612), np.uint8)
        >>> packed(raw, Q8_0).shape
        (3, 624)
    """
    if raw.ndim != 2 or raw.dtype != np.uint8:
        raise InvalidInput(f"blocks are u8[rows, bytes], not {raw.dtype}{list(raw.shape)}")
    rows, size = raw.shape
    if size % packing.block_bytes:
        hint = f"a block of {packing} is {packing.block_bytes} bytes"
        raise InvalidInput(f"rows of {size} bytes are not whole blocks", hint=hint)
    columns = size // packing.block_bytes * packing.block
    found = np.zeros((rows, packing.row_bytes(columns)), np.uint8)
    step = max(1, _CHUNK // size)

    def pack(first: int) -> int | None:
        return _pack_rows(raw[first : first + step], packing, columns, found[first : first + step])

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        wrong = list(pool.map(pack, range(0, rows, step)))
    for number, row in enumerate(wrong):
        if row is not None:
            raise InvalidInput(f"row {number * step + row} has a block whose scale is not finite")
    return found


def _pack_rows(raw: Bytes, packing: Packing, columns: int, to: Bytes) -> int | None:
    """Pack some rows; the first one that has a scale which is not finite, if any."""
    rows, tiles = len(raw), packing.tiles(columns)
    assert tiles is not None
    planes = packing.split(raw.reshape(rows, -1, packing.block_bytes))
    into, start = to.reshape(rows, tiles, -1), 0
    for plane, size in zip(planes, packing.plane_bytes(columns // tiles), strict=True):
        into[:, :, start : start + size] = plane.reshape(rows, tiles, size)
        start += size
    finite = np.isfinite(planes[packing.scales].reshape(rows, -1).view(np.float16)).all(axis=1)
    return None if finite.all() else int(finite.argmin())


def unpacked(rows: Bytes, packing: Packing) -> NDArray[np.float32]:
    """The weights of packed rows, ``f32[rows, columns]``.

    Example:
        >>> unpacked(np.zeros((3, 624), np.uint8), Q8_0).shape
        (3, 576)
    """
    count, columns = len(rows), _columns(packing, rows.shape[1])
    tiles = packing.tiles(columns)
    assert tiles is not None
    parts, start, planes = rows.reshape(count, tiles, -1), 0, list[Bytes]()
    for size, (entry, _) in zip(packing.plane_bytes(columns // tiles), packing.planes, strict=True):
        planes.append(np.ascontiguousarray(parts[:, :, start : start + size]).reshape(count, -1, entry))
        start += size
    return packing.values(*planes).reshape(count, columns)


@functools.cache
def _columns(packing: Packing, row_bytes: int) -> int:
    """How many weights a packed row has: longer rows have more bytes, whatever their padding."""
    least = (row_bytes - _VECTOR * _MOST_TILES) // packing.block_bytes
    for count in range(max(1, least // 2), row_bytes // (packing.block // 2) + 2):
        columns = count * packing.block
        if packing.tiles(columns) is not None and packing.row_bytes(columns) == row_bytes:
            return columns
    raise InternalError(f"no row of {packing} has {row_bytes} bytes")
