"""The blocks of GGUF's quantised kinds, as planes and as values: one pair of functions a kind.

The layouts are those of ggml's ``ggml-common.h`` (``block_q8_0`` and so on). A unit is 32 consecutive weights. Byte i
of a unit's 16 bytes of nibbles has weight i in its low half, and weight 16 + i in its high half.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "split_q4_0",
    "split_q4_1",
    "split_q4_k",
    "split_q6_k",
    "split_q8_0",
    "values_q4_0",
    "values_q4_1",
    "values_q4_k",
    "values_q6_k",
    "values_q8_0",
]

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]


def split_q8_0(blocks: Bytes) -> tuple[Bytes, ...]:
    """Both halves of the 32 quants, and the scale."""
    return blocks[..., 2:18], blocks[..., 18:], blocks[..., :2].copy()


def values_q8_0(first: Bytes, second: Bytes, scale: Bytes) -> Floats:
    """``scale * quant``."""
    quants = np.concatenate((first, second), axis=-1).view(np.int8)
    return _f16(scale) * quants.astype(np.float32)


def split_q4_0(blocks: Bytes) -> tuple[Bytes, ...]:
    """Nibbles, and the scale."""
    return blocks[..., 2:], blocks[..., :2].copy()


def values_q4_0(nibbles: Bytes, scale: Bytes) -> Floats:
    """``scale * (quant - 8)``."""
    return _f16(scale) * (_weights(nibbles) - np.float32(8))


def split_q4_1(blocks: Bytes) -> tuple[Bytes, ...]:
    """Nibbles, and the scale with the minimum."""
    return blocks[..., 4:], blocks[..., :4].copy()


def values_q4_1(nibbles: Bytes, scales: Bytes) -> Floats:
    """``scale * quant + minimum``."""
    pair = _f16(scales)
    return pair[..., :1] * _weights(nibbles) + pair[..., 1:]


def split_q4_k(blocks: Bytes) -> tuple[Bytes, ...]:
    """Nibbles of the 8 units of a block; the two scales of the block; the scale and the minimum of each unit."""
    rows, count, _ = blocks.shape
    nibbles = _paired(np.ascontiguousarray(blocks[..., 16:]).reshape(rows, count, 4, 1, 32))
    scale, minimum, rest = (blocks[..., start : start + 4] for start in (4, 8, 12))
    scales = np.concatenate((scale & 63, rest & 15 | scale >> 2 & 0x30), axis=-1)
    minima = np.concatenate((minimum & 63, rest >> 4 | minimum >> 2 & 0x30), axis=-1)
    of_units = np.stack((scales, minima), axis=-1)
    return nibbles.reshape(rows, -1, 16), blocks[..., :4].copy(), of_units.reshape(rows, -1, 2)


def values_q4_k(nibbles: Bytes, of_blocks: Bytes, of_units: Bytes) -> Floats:
    """``(d * scale) * quant - dmin * minimum``."""
    factors = _f16(of_blocks).repeat(8, axis=-2) * of_units.astype(np.float32)
    return factors[..., :1] * _weights(nibbles) - factors[..., 1:]


def split_q6_k(blocks: Bytes) -> tuple[Bytes, ...]:
    """Low halves of the 8 units of a block; their upper 2 bits; two scales a unit; the scale of the block.

    Bits 2k and 2k + 1 of byte i belong to weight 4k + i, for i < 4, and to weight 16 + 4k + i - 4 else.
    """
    rows, count, _ = blocks.shape
    nibbles = _paired(np.ascontiguousarray(blocks[..., :128]).reshape(rows, count, 2, 2, 32))
    high = np.ascontiguousarray(blocks[..., 128:192]).view(np.uint32).reshape(rows, count, 2, 1, 2, 4)
    bits = high >> np.array([0, 2, 4, 6], np.uint32).reshape(4, 1, 1) & np.uint32(0x03030303)
    upper = bits[..., 0] | bits[..., 1] << 2 | bits[..., 2] << 4 | bits[..., 3] << 6
    scales, scale = blocks[..., 192:208], blocks[..., 208:].copy()
    return nibbles.reshape(rows, -1, 16), upper.view(np.uint8).reshape(rows, -1, 8), scales.reshape(rows, -1, 2), scale


def values_q6_k(nibbles: Bytes, upper: Bytes, of_units: Bytes, of_blocks: Bytes) -> Floats:
    """``(d * scale) * (quant - 32)``; a scale is for 16 weights."""
    halves = upper.reshape(*upper.shape[:-1], 2, 1, 4) >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & 3
    high = halves.reshape(*upper.shape[:-1], 32).astype(np.float32)
    quants = _weights(nibbles) + 16 * high - np.float32(32)
    factors = _f16(of_blocks).repeat(8, axis=-2) * of_units.view(np.int8).astype(np.float32)
    return factors.repeat(16, axis=-1) * quants


def _paired(quants: Bytes) -> Bytes:
    """Groups of 32 bytes, ``[..., groups, 32]``, whose halves of bytes are two units: ``[..., 2, groups, 16]``.

    First come the units of all low halves of bytes, then those of all high ones.
    """
    words = quants.view(np.uint64)
    first, second, mask = words[..., :2], words[..., 2:], np.uint64(0x0F0F0F0F0F0F0F0F)
    low = first & mask | (second & mask) << np.uint64(4)
    high = first >> np.uint64(4) & mask | second & ~mask
    return np.stack((low, high), axis=-3).view(np.uint8)


def _f16(scales: Bytes) -> Floats:
    return np.ascontiguousarray(scales).view(np.float16).astype(np.float32)


def _weights(nibbles: Bytes) -> Floats:
    """The 32 quants of each unit."""
    return np.concatenate((nibbles & 15, nibbles >> 4), axis=-1).astype(np.float32)
