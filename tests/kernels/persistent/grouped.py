"""Graphs with a launch for each group of requests of a batch: what ``fuse-persistent`` finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

import forerun
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels.persistent.attention_requests import BATCH, launch_for, launch_requests
from forerun.schedules.attention import Attention
from forerun.schedules.capacity import Capacity
from tests.schedules.batches import Case, make_case, random_values

REQUESTS, ROWS, PAGES, CACHE = 6, 40, 60, 80

FAMILY = Attention(4, 2, 16, 4, CACHE)


def declare_batch(builder: forerun.GraphBuilder, requests: int, rows: int, pages: int) -> dict[str, str]:
    """The batch as inputs, of which both pointers ascend."""
    builder.input("query_pointers", DType.I32, requests + 1, bounds=(0, rows), ascending=True)
    builder.input("kv_lengths", DType.I32, requests)
    builder.input("page_pointers", DType.I32, requests + 1, bounds=(0, pages), ascending=True)
    builder.input("pages", DType.I32, pages)
    return {name: name for name in BATCH}


def grouped_graph(
    groups: Sequence[tuple[int, int]] = ((0, 4), (4, 2)),
    layers: int = 1,
    family: Attention = FAMILY,
    capacity: Capacity | None = None,
    dtype: DType = DType.BF16,
    before: Mapping[str, Callable[[forerun.GraphBuilder], object]] | None = None,
) -> Graph:
    """A launch for each group (first request, count) of each layer, which has values of its own.

    Launch order is one after the other: ``infer-dependencies`` finds that they need no order. ``before`` adds something
    before some of the nodes, which are called ``layer0.0``, ``layer0.1`` and so on.
    """
    room = capacity or Capacity(REQUESTS, ROWS, PAGES, 4, 1, 0)
    builder = forerun.GraphBuilder("grouped")
    batch = declare_batch(builder, room.requests, room.rows, room.pages)
    values = (room.rows, family.heads, family.head_size)
    cache = (family.cache_pages, family.page_size, family.kv_heads, family.head_size)
    launch = launch_for(room.rows, family.heads)
    for layer in range(layers):
        own = {"q": builder.input(f"q{layer}", dtype, values)}
        own |= {name: builder.state(f"{name}{layer}", dtype, cache) for name in ("k_cache", "v_cache")}
        own["y"] = builder.output(f"y{layer}", dtype, values)
        for number, (first, count) in enumerate(groups):
            node = f"layer{layer}.{number}"
            (before or {}).get(node, id)(builder)
            launch_requests(builder, {**batch, **own}, first, count, node, launch, dtype)
    return builder.build()


def case_of(
    queries: list[int], kv: list[int], seed: int, family: Attention = FAMILY, room: Capacity | None = None
) -> Case:
    """A batch of bf16 values for as many requests as there is room for; those that it lacks are empty."""
    room = room or Capacity(REQUESTS, ROWS, PAGES, 4, 100, 20)
    spare = [0] * (room.requests - len(queries))
    values = random_values([*queries, *spare], [*kv, *spare], seed, family)
    for part in (values.queries, values.keys, values.values):
        part[:] = [array.astype(ml_dtypes.bfloat16).astype(np.float32) for array in part]
    return make_case(values, family=family, capacity=room, seed=seed)


def run(program: Any, case: Case, layers: int = 1, replay: Any = None) -> list[np.ndarray]:
    """The results of a replay, by layer; all have the same values. ``replay`` is called instead of the program."""
    q, k, v = (memory.astype(ml_dtypes.bfloat16) for memory in case.memory)
    inputs = {name: getattr(case.batch, name) for name in BATCH}
    for layer in range(layers):
        program.write(f"k_cache{layer}", k)
        program.write(f"v_cache{layer}", v)
        inputs[f"q{layer}"] = q
    found = (replay or program)(**inputs)
    return [found[f"y{layer}"].astype(np.float32) for layer in range(layers)]
