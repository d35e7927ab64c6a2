"""Launches of the batched kernels, as those of :mod:`tests.kernels.fast_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from forerun.frontends.llama_config import LlamaConfig
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels.batched import attention, gate_up, halves, head, projection, qkv_rope, tokens
from forerun.kernels.batched.sequences import Sequences
from tests.kernels.cuda_cases import Case, Make

__all__ = ["cases_of_model", "few_cases"]

F32, BF16, F16 = DType.F32, DType.BF16, DType.F16


def _weights(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Such that the products of normalized vectors have size 1."""
    return chooser.normal(size=shape) / np.sqrt(shape[-1])


def _halves(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Remainders are far smaller than what was rounded; of what size they are exactly is the type's matter."""
    return chooser.normal(size=shape) * np.float32([[1.0], [2.0**-9]])


def _squares(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.square(chooser.normal(size=(*shape, halves.EIGHT))).sum(axis=-1)


def _normalized(vectors: int, columns: int) -> dict[str, tuple[int, ...]]:
    """The shapes of vectors that a kernel normalizes."""
    return {"x": halves.shape_of(vectors, columns), "squares": (vectors, columns // halves.EIGHT)}


def _frequencies(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return chooser.uniform(0.0, 1.0, shape) ** 4


def _named(case: Case) -> Case:
    launch = case.launch
    cluster = f"x{launch.cluster[0]}" if launch.cluster else ""
    return replace(case, name=f"{case.name}-{launch.grid[0]}x{launch.block[0]}{cluster}-{launch.shared_bytes}")


def _projection(vectors: int, rows: int, columns: int, dtype: DType, launch: Launch | None = None) -> Case:
    launch = launch or projection.launch_for(rows, columns, vectors)
    shapes = {"w": (rows, columns), "x": halves.shape_of(vectors, columns), "scale": (rows,)}
    shapes |= dict.fromkeys(("residual", "y"), (vectors, rows))
    shapes |= {"halves": halves.shape_of(vectors, rows), "squares": (vectors, rows // halves.EIGHT)}
    make: dict[str, Make] = {"w": _weights, "x": _halves}
    name, compared = f"batched_projection-{dtype}-{vectors}-{rows}x{columns}", {"halves": halves.joined}
    kernel = projection.declare(dtype)
    return _named(Case(name, kernel, shapes, launch, make=make, scale=4.0, compared=compared))


def _gate_up(vectors: int, rows: int, columns: int, dtype: DType, launch: Launch | None = None) -> Case:
    launch = launch or gate_up.launch_for(rows, columns, vectors)
    shapes = _normalized(vectors, columns) | {"y": halves.shape_of(vectors, rows)}
    shapes |= dict.fromkeys(("w_gate", "w_up"), (rows, columns))
    make: dict[str, Make] = {"x": _halves, "squares": _squares, "w_gate": _weights, "w_up": _weights}
    name, compared = f"batched_gate_up-{dtype}-{vectors}-{rows}x{columns}", {"y": halves.joined}
    kernel, constants = gate_up.declare(dtype), {"eps": 1e-5}
    return _named(Case(name, kernel, shapes, launch, constants, make=make, scale=2.0, compared=compared))


def _head(vectors: int, rows: int, columns: int, parts: int, dtype: DType, launch: Launch | None = None) -> Case:
    launch = launch or head.launch_for(rows, columns, vectors, parts)
    shapes = _normalized(vectors, columns) | {"w": (rows, columns), "logits": (vectors, rows)}
    shapes |= dict.fromkeys(("best_value", "best_index"), (vectors, parts))
    constants = {"eps": 1e-5, "parts": parts}
    name = f"batched_head-{dtype}-{vectors}-{rows}x{columns}-by-{parts}"
    make: dict[str, Make] = {"x": _halves, "squares": _squares, "w": _weights}
    return _named(Case(name, head.declare(dtype), shapes, launch, constants, make=make, scale=2.0))


def _qkv(
    of: Sequences,
    heads: tuple[int, int, int],
    columns: int,
    dtypes: tuple[DType, DType],
    positions: tuple[tuple[int, ...], ...],
    launch: Launch | None = None,
) -> Case:
    (count, kv_heads, size), vectors = heads, of.vectors
    queries, keys = count * size, kv_heads * size
    launch = launch or qkv_rope.launch_for(queries, keys, columns, vectors)
    shapes = _normalized(vectors, columns) | {"w_q": (queries, columns)}
    shapes |= dict.fromkeys(("w_k", "w_v"), (keys, columns))
    shapes |= {"frequencies": (size // 2,), "q_out": (vectors, count, size)}
    shapes |= dict.fromkeys(of.caches, _cache(of, positions, kv_heads, size))
    make: dict[str, Make] = {"x": _halves, "squares": _squares, "frequencies": _frequencies}
    make |= dict.fromkeys(("w_q", "w_k", "w_v"), _weights)
    name = f"batched_qkv_rope-{dtypes[0]}-{dtypes[1]}-{of.count}x{of.tokens}-{count}-{kv_heads}-{size}x{columns}"
    constants = {"eps": 1e-6, "tokens": of.tokens}
    kernel = qkv_rope.declare(*dtypes, of)
    return _named(Case(name, kernel, shapes, launch, constants, _loaded(of, positions), make, scale=4.0))


def _attention(
    of: Sequences,
    heads: tuple[int, int, int],
    dtypes: tuple[DType, DType],
    positions: tuple[tuple[int, ...], ...],
    launch: Launch | None = None,
) -> Case:
    (count, kv_heads, size), (dtype, halves_dtype) = heads, dtypes
    shapes: dict[str, tuple[int, ...]] = {"q": (of.vectors, count, size)}
    shapes["y"] = halves.shape_of(of.vectors, count * size)
    shapes |= dict.fromkeys(of.caches, _cache(of, positions, kv_heads, size))
    launch = launch or attention.launch_for(kv_heads, shapes["k_cache0"][0], size, of.vectors)
    name = f"batched_attention-{dtype}-{of.count}x{of.tokens}-{count}-{kv_heads}-{size}"
    kernel, compared = attention.declare(dtype, of, halves_dtype), {"y": halves.joined}
    return _named(Case(name, kernel, shapes, launch, {}, _loaded(of, positions), compared=compared))


def _cache(of: Sequences, positions: tuple[tuple[int, ...], ...], kv_heads: int, size: int) -> tuple[int, ...]:
    return max(map(max, positions)) + of.tokens, kv_heads, size


def _loaded(of: Sequences, positions: tuple[tuple[int, ...], ...]) -> tuple[dict[str, int], ...]:
    return tuple(dict(zip(of.positions, those, strict=True)) for those in positions)


def _embedding(vectors: int, width: int, dtype: DType) -> Case:
    shapes = {"tokens": (3, vectors), "table": (9, width), "scale": (width,), "y": (vectors, width)}
    shapes |= {"halves": halves.shape_of(vectors, width), "squares": (vectors, width // halves.EIGHT)}
    make: dict[str, Make] = {"tokens": lambda chooser, shape: chooser.integers(0, 9, shape)}
    kernel, launch = tokens.declare_embedding(dtype), Launch((2, 1, 1), (8, 1, 1))
    name, compared = f"batched_embedding-{dtype}-{vectors}x{width}", {"halves": halves.joined}
    return Case(name, kernel, shapes, launch, {"index": 2}, make=make, scale=8.0, compared=compared)


def _choose(vectors: int, parts: int, ctas: int) -> Case:
    shapes = {"best": (vectors, parts), "place": (vectors, parts), "token": (2, vectors)}
    make: dict[str, Make] = {
        "best": lambda chooser, shape: chooser.integers(0, 5, shape).astype(np.float32),
        "place": lambda chooser, shape: np.sort(chooser.integers(0, 999, shape)),
    }
    launch = Launch((ctas, 1, 1), (64, 1, 1))
    return Case(f"batched_argmax-{vectors}x{parts}-{ctas}", tokens.CHOOSE, shapes, launch, {"index": 1}, make=make)


def _ctas(ctas: int, threads: int, shared: int, cluster: int = 1) -> Launch:
    return Launch((ctas, 1, 1), (threads, 1, 1), shared, None if cluster == 1 else (cluster, 1, 1))


def few_cases() -> Iterator[Case]:
    """Every batched kernel and every path of its code, in sizes for the CPU."""
    yield _projection(3, 40, 128, BF16, _ctas(2, 64, 12000))  # the ring is refilled
    yield _projection(8, 16, 104, F16, _ctas(2, 64, 9000))  # columns that end within a step
    yield _projection(1, 24, 1104, BF16, _ctas(1, 64, 20000))  # three blocks of columns, warps without any
    yield _projection(1, 24, 1024, BF16, _ctas(1, 32, 20000))  # four blocks of columns
    yield _projection(2, 56, 512, BF16, _ctas(8, 32, 30000, 4))  # clusters, some rows more for one
    yield _projection(5, 8, 64, BF16, _ctas(8, 32, 9000, 2))  # CTAs without rows of their own
    yield _gate_up(4, 22, 192, BF16, _ctas(3, 64, 16000))  # the last tile is partial
    yield _gate_up(7, 6, 1096, F16, _ctas(1, 32, 60000))  # blocks, the last one not whole
    yield _head(3, 101, 64, 7, BF16, _ctas(7, 32, 16000))
    yield _head(8, 50, 136, 9, F16, _ctas(4, 128, 60000))  # several parts a CTA
    yield _qkv(Sequences(2, 2), (4, 2, 6), 96, (BF16, BF16), ((0, 900), (5, 0)), _ctas(3, 64, 16000))
    yield _qkv(Sequences(3), (2, 2, 64), 64, (F16, F32), ((3, 0, 7),), _ctas(2, 32, 30000))
    yield _qkv(Sequences(1, 8), (6, 1, 10), 64, (BF16, F16), ((11,),), _ctas(1, 64, 40000))
    yield _attention(Sequences(2), (4, 1, 64), (BF16, BF16), ((0, 7), (63, 600)), _ctas(16, 128, 0, 8))
    yield _attention(Sequences(1, 3), (6, 2, 32), (F32, F16), ((0,), (77,)), _ctas(8, 64, 0, 4))  # clusters take turns
    yield _attention(Sequences(3, 2), (2, 1, 128), (F16, BF16), ((0, 40, 299),), _ctas(12, 64, 0, 2))
    yield _attention(Sequences(1), (8, 1, 32), (BF16, BF16), ((90,),), _ctas(2, 32, 0, 2))  # eight heads
    yield _attention(Sequences(1), (2, 2, 16), (F16, F16), ((33,),), _ctas(4, 64, 0, 2))  # short rows
    yield _attention(Sequences(1), (2, 1, 64), (BF16, BF16), ((1600,),), _ctas(16, 32, 0, 16))  # two tiles ahead
    yield _attention(Sequences(1), (2, 1, 64), (BF16, BF16), ((1599,),), _ctas(8, 32, 0, 8))  # two spans ahead
    yield _embedding(5, 40, BF16)
    yield _choose(6, 100, 2)


def cases_of_model(config: LlamaConfig, of: Sequences, position: int) -> Iterator[Case]:
    """The kernels of one layer and of the head, as they are launched by default."""
    heads, vectors = (config.heads, config.kv_heads, config.head_size), of.vectors
    positions = (tuple(position + 3 * i for i in range(of.count)),)
    yield _qkv(of, heads, config.width, (BF16, BF16), positions)
    yield _attention(of, heads, (BF16, BF16), positions)
    yield _projection(vectors, config.width, config.heads * config.head_size, BF16)
    yield _gate_up(vectors, config.hidden, config.width, BF16)
    yield _projection(vectors, config.width, config.hidden, BF16)
    yield _head(vectors, config.vocabulary, config.width, head.PARTS, BF16)
