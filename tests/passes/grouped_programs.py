"""Random graphs with launches over groups of the requests of a batch: such that are one kernel's work, and others."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import EventRecordNode
from forerun.ir.types import DType
from forerun.kernels.persistent.attention_requests import BATCH, launch_for, launch_requests
from forerun.schedules.attention import Attention
from forerun.schedules.capacity import Capacity
from tests.kernels.persistent.grouped import case_of, declare_batch

__all__ = ["FAMILY", "ROOM", "batch_of", "grouped_program"]

FAMILY = Attention(heads=2, kv_heads=1, head_size=16, page_size=4, cache_pages=24)
ROOM = Capacity(requests=4, rows=12, pages=24, ctas=3, items=40, partials=8)


def grouped_program(random: Random) -> Graph:
    """A graph in launch order: groups of one or two layers, and among them now and then something in the way."""
    builder = forerun.GraphBuilder("grouped")
    batch = declare_batch(builder, ROOM.requests, ROOM.rows, ROOM.pages)
    values, cache = (ROOM.rows, 2, 16), (24, 4, 1, 16)
    for layer in range(2):
        builder.input(f"q{layer}", DType.BF16, values)
        builder.state(f"k_cache{layer}", DType.BF16, cache)
        builder.state(f"v_cache{layer}", DType.BF16, cache)
        builder.output(f"y{layer}", DType.BF16, values)
    builder.output("copied", DType.BF16, values)
    builder.state("spare", DType.I32, 4)
    builder.input("other_pointers", DType.I32, ROOM.requests + 1)
    builder.fill("copied", node="clear")
    launch = launch_for(4, 2)
    for layer in range(2):
        own = {"q": f"q{layer}", "y": f"y{layer}", **{n: f"{n}{layer}" for n in ("k_cache", "v_cache")}}
        for number, (first, count) in enumerate(_groups(random)):
            if number or layer:
                _between(random, builder, f"between{layer}.{number}", layer)
            launch_requests(builder, {**batch, **own}, first, count, f"layer{layer}.{number}", launch)
    return builder.build()


def _groups(random: Random) -> list[tuple[int, int]]:
    """Ranges of requests: most often all of them, each once, in any order."""
    borders = sorted({0, ROOM.requests, *(random.randint(0, ROOM.requests) for _ in range(random.randint(0, 2)))})
    groups = [(a, b - a) for a, b in pairwise(borders)]
    if random.random() < 0.1:
        groups[random.randrange(len(groups))] = random.choice([(0, 2), (1, 2), (1, 1)])
    random.shuffle(groups)
    return groups


def _between(random: Random, builder: forerun.GraphBuilder, name: str, layer: int) -> None:
    """Nothing, something that is in the way, or something that is not."""
    match random.randrange(16):
        case 0:
            builder.fill(f"k_cache{layer}", node=name)
        case 1:
            builder.copy(f"y{layer}", "copied", node=name)
        case 2:
            builder.add(EventRecordNode(name, "event"))
        case 3:
            builder.fill("kv_lengths", 9, node=name)
        case 4 | 5:
            builder.fill("spare", node=name)


def batch_of(random: Random) -> dict[str, np.ndarray]:
    """A batch that fits; some requests have no rows."""
    queries = [random.choice([0, 1, 1, 2, 4]) for _ in range(random.randint(1, ROOM.requests))]
    while sum(queries) > ROOM.rows:
        queries[queries.index(max(queries))] = 1
    kv = [q + random.randint(not q, 12) for q in queries]
    case = case_of(queries, kv, random.randrange(100), FAMILY, ROOM)
    found = {name: getattr(case.batch, name) for name in BATCH}
    return {**found, **dict(zip(("q", "k_cache", "v_cache"), case.memory, strict=True))}
