"""Random blocks of each quantised kind, as files have them."""

from __future__ import annotations

import gguf
import numpy as np

from forerun.kernels.packing import Packing

__all__ = ["SCALES", "dequantised", "random_blocks"]

SCALES = {"q8_0": (0,), "q4_0": (0,), "q4_1": (0, 2), "q4_k": (0, 2), "q6_k": (208,)}
"""At which bytes of a block scales stand, f16."""


def random_blocks(packing: Packing, rows: int, columns: int, chooser: np.random.Generator) -> np.ndarray:
    """``u8[rows, bytes]``: any bytes, but finite scales, with which products over a row have about size 1."""
    blocks = chooser.integers(0, 256, (rows, columns // packing.block, packing.block_bytes), np.uint8)
    greatest = {"q8_0": 128, "q4_0": 8, "q4_1": 8, "q4_k": 8 * 64, "q6_k": 32 * 128}[packing.name]
    for number, place in enumerate(SCALES[packing.name]):
        scale = chooser.uniform(-1, 1, blocks.shape[:2]) / greatest / np.sqrt(columns) * (8 if number else 1)
        blocks[..., place : place + 2] = scale.astype(np.float16)[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)


def dequantised(blocks: np.ndarray, packing: Packing) -> np.ndarray:
    """What the ``gguf`` package makes of them."""
    values: np.ndarray = gguf.dequantize(blocks, gguf.GGMLQuantizationType[packing.dimension])
    return values
