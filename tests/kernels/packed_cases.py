"""Launches of the kernels that read quantised blocks, as those of :mod:`tests.kernels.cuda_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import norm_gate_up, norm_head, norm_qkv_rope, packed_embedding, packed_gemv, projection_add
from forerun.kernels.packing import PACKINGS, Q4_0, Q4_1, Q4_K, Q6_K, Q8_0, Packing, packed
from forerun.kernels.shapes import elementwise_launch
from tests.kernels.blocks_of_files import random_blocks
from tests.kernels.cuda_cases import Case, Make

__all__ = ["exact_cases", "packed_cases", "packed_cases_of_models"]

_TOLERANCE = 1e-5
"""An element of a vector is off by at most 2^-22 of the greatest of its 32, and results are sums of many."""


def _launch(ctas: int, threads: int, shared: int = 0) -> Launch:
    return Launch((ctas, 1, 1), (threads, 1, 1), shared)


def _blocks(packing: Packing, columns: int, chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return packed(random_blocks(packing, shape[0], columns, chooser), packing)


def _frequencies(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return chooser.uniform(0.0, 1.0, shape) ** 4


def _outliers(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """As residual streams are: a few elements of hundreds; and a block of zeros."""
    values = chooser.normal(size=shape) * np.where(chooser.random(shape) < 0.01, 300.0, 1.0)
    values[:32] = 0.0
    return values


def exact_cases() -> Iterator[Case]:
    """The kernels that widen each weight."""
    for packing in PACKINGS.values():
        columns = 512 if packing is Q4_0 else 8192  # of one tile a row, and of several
        make: Make = partial(_blocks, packing, columns)
        shapes = {"w": (13, packing.row_bytes(columns)), "x": (columns,), "y": (13,)}
        launch = _launch(2, 64) if packing is Q8_0 else packed_gemv.launch_for(13)
        name = f"packed_gemv-{packing}-13x{columns}"
        yield Case(name, packed_gemv.declare(packing), shapes, launch, make={"w": make})
        shapes = {"table": (5, packing.row_bytes(columns)), "y": (columns,)}
        kernel, table = packed_embedding.declare(packing), {"table": make}
        name = f"packed_embedding-{packing}"
        loaded = ({"token": 0}, {"token": 4})
        yield Case(name, kernel, shapes, elementwise_launch(columns), {}, loaded, table, tolerance=0.0)


def packed_cases() -> Iterator[Case]:
    """Every packing, and every path of the code, in sizes for the CPU."""
    yield _projection(Q8_0, 19, 576, _launch(2, 64, 6000))  # lanes without a unit; a ring that is filled anew
    yield _projection(Q4_K, 9, 14336, _launch(2, 256, 80000))  # eight warps a row
    yield _projection(Q4_0, 41, 64, _launch(2, 64, 2500))  # two rows at once, and one
    yield _projection(Q6_K, 7, 1024, _launch(2, 96, 20000), x=_outliers)
    yield _gate_up(Q4_K, 6, 4096, _launch(2, 128, 60000))
    yield _gate_up(Q8_0, 67, 64, _launch(2, 64, 8000))  # two rows at once
    yield _head(Q8_0, 101, 576, 7)
    yield _qkv(Q4_1, 3, 1, 16, 576)


def packed_cases_of_models() -> Iterator[Case]:
    """The shapes of a layer of Llama-3.1-8B and of SmolLM2, as they are launched by default."""
    for packing, width, hidden, heads, kv_heads, size in ((Q4_K, 4096, 14336, 32, 8, 128), (Q4_1, 576, 1536, 9, 3, 64)):
        yield _qkv(packing, heads, kv_heads, size, width, default=True)
        yield _projection(packing, width, heads * size)
        yield _gate_up(packing, hidden, width)
        yield _projection(packing, width, hidden)
        yield _head(Q8_0, 5000, width, norm_head.PARTS)


def _projection(packing: Packing, rows: int, columns: int, launch: Launch | None = None, x: Make | None = None) -> Case:
    launch = launch or projection_add.launch_for(rows, columns, packing)
    shapes = {"w": (rows, packing.row_bytes(columns)), "x": (columns,), "residual": (rows,), "y": (rows,)}
    make: dict[str, Make] = {"w": partial(_blocks, packing, columns)} | ({} if x is None else {"x": x})
    name, kernel = f"projection_add-{packing}-{rows}x{columns}", projection_add.declare(packing)
    return Case(name, kernel, shapes, launch, make=make, tolerance=_TOLERANCE, scale=2.0 if x is None else 100.0)


def _gate_up(packing: Packing, rows: int, columns: int, launch: Launch | None = None) -> Case:
    launch = launch or norm_gate_up.launch_for(rows, columns, packing)
    matrices = dict.fromkeys(("w_gate", "w_up"), (rows, packing.row_bytes(columns)))
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | matrices | {"y": (rows,)}
    make: dict[str, Make] = dict.fromkeys(matrices, partial(_blocks, packing, columns))
    name, kernel = f"norm_gate_up-{packing}-{rows}x{columns}", norm_gate_up.declare(packing)
    return Case(name, kernel, shapes, launch, {"eps": 1e-5}, make=make, tolerance=_TOLERANCE, scale=2.0)


def _head(packing: Packing, rows: int, columns: int, parts: int) -> Case:
    launch = norm_head.launch_for(rows, columns, packing, parts)
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | {"w": (rows, packing.row_bytes(columns)), "logits": (rows,)}
    shapes |= dict.fromkeys(("best_value", "best_index"), (parts,))
    make: dict[str, Make] = {"w": partial(_blocks, packing, columns)}
    name, constants = f"norm_head-{packing}-{rows}x{columns}-by-{parts}", {"eps": 1e-5, "parts": parts}
    kernel = norm_head.declare(packing)
    return Case(name, kernel, shapes, launch, constants, make=make, tolerance=_TOLERANCE, scale=2.0)


def _qkv(packing: Packing, heads: int, kv_heads: int, size: int, columns: int, *, default: bool = False) -> Case:
    queries, keys, row = heads * size, kv_heads * size, packing.row_bytes(columns)
    launch = norm_qkv_rope.launch_for(queries, keys, columns, packing) if default else _launch(3, 64, 20000)
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | {"w_q": (queries, row), "w_k": (keys, row), "w_v": (keys, row)}
    shapes |= {"frequencies": (size // 2,), "q_out": (heads, size)}
    shapes |= dict.fromkeys(("k_cache", "v_cache"), (8, kv_heads, size))
    blocks: Make = partial(_blocks, packing, columns)
    make: dict[str, Make] = {"frequencies": _frequencies, "w_q": blocks, "w_k": blocks, "w_v": blocks}
    kernel = norm_qkv_rope.declare(packing, DType.F32)
    name, loaded = f"norm_qkv_rope-{packing}-{heads}-{kv_heads}-{size}x{columns}", ({"pos": 5},)
    return Case(name, kernel, shapes, launch, {"eps": 1e-6}, loaded, make, tolerance=_TOLERANCE, scale=4.0)
