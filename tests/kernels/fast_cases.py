"""Launches of the fused kernels, as those of :mod:`tests.kernels.cuda_cases`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from forerun.frontends.llama_config import LLAMA_3_2_1B, QWEN2_5_0_5B, SMOLLM2_135M, LlamaConfig
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.kernels import attention_cluster, norm_gate_up, norm_head, norm_qkv_rope, projection_add
from tests.kernels.cuda_cases import Case

__all__ = ["cases_of_model", "every_case", "few_cases"]

F32, BF16, F16 = DType.F32, DType.BF16, DType.F16

Make = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _weights(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Such that the products of normalized vectors have size 1."""
    return chooser.normal(size=shape) / np.sqrt(shape[-1])


def _positive(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.abs(chooser.normal(size=shape))


def _zero_or_less(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows whose products with positive vectors are exactly zero, or less: many are greatest."""
    return np.where(chooser.random((shape[0], 1)) < 0.3, 0.0, -_positive(chooser, shape) / shape[-1])


def _frequencies(chooser: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return chooser.uniform(0.0, 1.0, shape) ** 4


def _named(case: Case) -> Case:
    launch = case.launch
    cluster = f"x{launch.cluster[0]}" if launch.cluster else ""
    return replace(case, name=f"{case.name}-{launch.grid[0]}x{launch.block[0]}{cluster}-{launch.shared_bytes}")


def _projection(rows: int, columns: int, dtype: DType, launch: Launch | None = None) -> Case:
    launch = launch or projection_add.launch_for(rows, columns, dtype)
    shapes = {"w": (rows, columns), "x": (columns,), "residual": (rows,), "y": (rows,)}
    name = f"projection_add-{dtype}-{rows}x{columns}"
    return _named(Case(name, projection_add.declare(dtype), shapes, launch, make={"w": _weights}, scale=2.0))


def _gate_up(rows: int, columns: int, dtype: DType, launch: Launch | None = None) -> Case:
    launch = launch or norm_gate_up.launch_for(rows, columns, dtype)
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | dict.fromkeys(("w_gate", "w_up"), (rows, columns))
    make: dict[str, Make] = {"w_gate": _weights, "w_up": _weights}
    name = f"norm_gate_up-{dtype}-{rows}x{columns}"
    kernel = norm_gate_up.declare(dtype)
    return _named(Case(name, kernel, shapes | {"y": (rows,)}, launch, {"eps": 1e-5}, make=make, scale=2.0))


def _head(
    rows: int, columns: int, parts: int, dtype: DType, launch: Launch | None = None, *, equal: bool = True
) -> Case:
    launch = launch or norm_head.launch_for(rows, columns, dtype, parts)
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | {"w": (rows, columns), "logits": (rows,)}
    shapes |= dict.fromkeys(("best_value", "best_index"), (parts,))
    name = f"norm_head-{dtype}-{rows}x{columns}-by-{parts}"
    constants = {"eps": 1e-5, "parts": parts}
    ties: dict[str, Make] = {"x": _positive, "scale": _positive, "w": _zero_or_less}
    make = ties if equal else {"w": _weights}
    return _named(Case(name, norm_head.declare(dtype), shapes, launch, constants, make=make, scale=2.0))


def _qkv(
    heads: int,
    kv_heads: int,
    size: int,
    columns: int,
    dtypes: tuple[DType, DType],
    positions: tuple[int, ...],
    *,
    own: Literal["", "bias", "norm"] = "",
    launch: Launch | None = None,
) -> Case:
    queries, keys = heads * size, kv_heads * size
    if launch is None and own == "norm":
        launch = norm_qkv_rope.head_norm_launch_for(heads, kv_heads, size, columns, dtypes[0])
    launch = launch or norm_qkv_rope.launch_for(queries, keys, columns, dtypes[0])
    shapes = dict.fromkeys(("x", "scale"), (columns,)) | {"w_q": (queries, columns)}
    shapes |= dict.fromkeys(("w_k", "w_v"), (keys, columns))
    shapes |= {"b_q": (queries,), "b_k": (keys,), "b_v": (keys,)} if own == "bias" else {}
    shapes |= {"q_scale": (size,), "k_scale": (size,)} if own == "norm" else {}
    shapes |= {"frequencies": (size // 2,), "q_out": (heads, size)}
    shapes |= dict.fromkeys(("k_cache", "v_cache"), (max(positions) + 1, kv_heads, size))
    make: dict[str, Make] = {"frequencies": _frequencies, "w_q": _weights, "w_k": _weights, "w_v": _weights}
    loaded = tuple({"pos": position} for position in positions)
    name = f"norm_qkv_{own and f'{own}_'}rope-{dtypes[0]}-{dtypes[1]}-{heads}-{kv_heads}-{size}x{columns}"
    kernel = norm_qkv_rope.declare(*dtypes, bias=own == "bias", head_norms=own == "norm")
    return _named(Case(name, kernel, shapes, launch, {"eps": 1e-6}, loaded, make, scale=4.0))


def _attention(
    heads: int, kv_heads: int, size: int, dtype: DType, positions: tuple[int, ...], launch: Launch | None = None
) -> Case:
    launch = launch or attention_cluster.launch_for(kv_heads)
    shapes = dict.fromkeys(("q", "y"), (heads, size))
    shapes |= dict.fromkeys(("k_cache", "v_cache"), (max(positions) + 1, kv_heads, size))
    loaded = tuple({"pos": position} for position in positions)
    name = f"attention_cluster-{dtype}-{heads}-{kv_heads}-{size}"
    return _named(Case(name, attention_cluster.declare(dtype), shapes, launch, {}, loaded))


def _clusters(clusters: int, size: int, threads: int = 128, shared: int = 0) -> Launch:
    return Launch((clusters * size, 1, 1), (threads, 1, 1), shared, cluster=(size, 1, 1))


def few_cases() -> Iterator[Case]:
    """Every fused kernel and every path of its code, in sizes for the CPU."""
    yield _projection(37, 64, BF16, Launch((3, 1, 1), (64, 1, 1), 2048))  # a ring that is filled anew
    yield _projection(5, 576, F32, Launch((2, 1, 1), (128, 1, 1), 10000))  # a lane without a piece in the last step
    yield _projection(9, 4864, BF16, Launch((2, 1, 1), (256, 1, 1), 40000))  # four warps a row
    yield _projection(2, 8, F16, Launch((3, 1, 1), (256, 1, 1), 4096))  # CTAs and warps without rows
    yield _projection(300, 8, BF16, Launch((1, 1, 1), (32, 1, 1), 4096))  # several rows a thread
    yield _gate_up(19, 576, BF16, Launch((4, 1, 1), (64, 1, 1), 10000))
    yield _gate_up(6, 2048, F32, Launch((2, 1, 1), (128, 1, 1), 40000))  # two warps a row
    yield _gate_up(140, 8, F16, Launch((1, 1, 1), (64, 1, 1), 4096))
    yield _head(101, 64, 7, BF16, Launch((7, 1, 1), (64, 1, 1), 4096))
    yield _head(101, 64, 9, F16, Launch((4, 1, 1), (128, 1, 1), 4096))  # several parts a CTA
    yield _head(50, 4096, 3, BF16, Launch((5, 1, 1), (64, 1, 1), 40000))  # CTAs without parts
    yield _head(3, 16, 3, F32)
    yield _qkv(3, 1, 16, 64, (BF16, F32), (0, 5), launch=Launch((4, 1, 1), (64, 1, 1), 4096))
    yield _qkv(4, 2, 6, 576, (BF16, BF16), (0, 900), own="bias", launch=Launch((3, 1, 1), (64, 1, 1), 10000))
    yield _qkv(2, 2, 64, 2048, (F32, F16), (3,), launch=Launch((2, 1, 1), (64, 1, 1), 60000))
    yield _qkv(6, 1, 10, 8, (F16, BF16), (0, 7), own="bias", launch=Launch((1, 1, 1), (32, 1, 1), 4096))
    yield _qkv(4, 2, 16, 64, (BF16, F32), (0, 5), own="norm", launch=_clusters(2, 4, 64, 4096))
    yield _qkv(3, 1, 6, 576, (BF16, BF16), (900,), own="norm", launch=_clusters(2, 2, 64, 10000))  # unequal clusters
    yield _qkv(1, 1, 8, 8, (F32, F16), (3,), own="norm", launch=_clusters(4, 8, 32, 4096))  # CTAs without rows
    yield _attention(4, 1, 64, BF16, (0, 1, 7, 63, 200, 600))
    yield _attention(6, 2, 64, F32, (0, 130), _clusters(1, 4))  # a cluster with two KV heads
    yield _attention(7, 1, 128, F16, (0, 300), _clusters(1, 8, 64))
    yield _attention(6, 3, 32, BF16, (0, 77), _clusters(2, 16, 64))  # clusters take turns, two tiles ahead
    yield _attention(2, 1, 128, F32, (40,), _clusters(3, 2, 32))  # clusters without a KV head
    yield _attention(3, 3, 8, BF16, (9,), _clusters(3, 2, 32))
    yield _attention(8, 1, 64, BF16, (35,), _clusters(1, 2, 32))  # as many heads as share a row at most


def cases_of_model(config: LlamaConfig, dtype: DType, cache: DType, positions: tuple[int, ...]) -> Iterator[Case]:
    """The kernels of one layer and of the head, as they are launched by default."""
    heads, kv_heads, size, width = config.heads, config.kv_heads, config.head_size, config.width
    own: Literal["", "bias", "norm"] = "bias" if config.attention_bias else "norm" if config.head_norms else ""
    yield _qkv(heads, kv_heads, size, width, (dtype, cache), positions, own=own)
    for rows in (0, 4096):
        yield _attention(heads, kv_heads, size, cache, positions, attention_cluster.launch_for(kv_heads, rows))
    yield _projection(width, heads * size, dtype)
    yield _gate_up(config.hidden, width, dtype)
    yield _projection(width, config.hidden, dtype)
    yield _head(config.vocabulary, width, norm_head.PARTS, dtype)


def every_case() -> Iterator[Case]:
    """The few, and the shapes of models."""
    yield from few_cases()
    for config in (LLAMA_3_2_1B, SMOLLM2_135M, QWEN2_5_0_5B):
        yield from cases_of_model(config, BF16, BF16, (0, 1, 127, 511, 2100))
    yield from cases_of_model(SMOLLM2_135M, F16, F32, (0, 300))
    yield from cases_of_model(replace(SMOLLM2_135M, heads=8, kv_heads=1, head_size=128), F32, F16, (0, 1999))
    yield _head(SMOLLM2_135M.vocabulary, 576, 132, BF16, equal=False)
    for rows in (1, 131, 133, 576):
        for columns in (8, 1536, 5632):
            yield _projection(rows, columns, BF16)
    for grid in (1, 77, 264):
        yield _gate_up(1000, 896, BF16, Launch((grid, 1, 1), (256, 1, 1), 60000))
