"""A small program of every family of kernels, to be run under compute-sanitizer; needs a GPU, and no torch.

    compute-sanitizer --tool memcheck python -m benchmarks.sanitized [--only PART,PART]

Tools are memcheck, racecheck (hazards in shared memory) and synccheck. Results are checked too: for a tool that finds
nothing must have looked at kernels that did their work. Each part says what it launched.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import forerun
from benchmarks.persistent_programs import graph_of, plan
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LlamaConfig
from forerun.frontends.ragged_batch import Feed, batch_inputs
from forerun.frontends.ragged_step import RaggedCapacity, ragged_step_graph
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DType
from forerun.kernels.persistent import expert_tiles, join_requests
from forerun.kernels.persistent.attention_requests import launch_for, launch_requests
from forerun.kernels.persistent.expert_rows import launch_expert
from forerun.kernels.persistent.ragged_attention import BATCH, RaggedAttention
from forerun.kernels.persistent.ragged_experts import RaggedExperts
from forerun.runtime.cuda import CudaTarget
from forerun.schedules.attention import AttentionBatch, attention_batch
from forerun.schedules.cuts import CutRule, Invariant, Shares, Whole
from forerun.schedules.expert_gemv import ExpertGemv
from forerun.schedules.schedule import capacity_for
from forerun.schedules.status import Status

MODEL = LlamaConfig("sanitized", 2, 512, 8, 2, 64, 1024, 512, 256)
REQUESTS, ROWS, PAGES, CTAS = 8, 300, 120, 12
MIXED = [(1, 300), (1, 17), (5, 64), (130, 200), (1, 1), (40, 333)]
RULES: list[tuple[tuple[int, int, int, int], str, CutRule]] = [
    ((28, 4, 128, 16), "prefix-sums", Shares()),
    ((6, 2, 64, 64), "longest-first", Invariant(128)),
    ((16, 2, 128, 16), "round-robin", Whole()),
    ((8, 2, 64, 16), "prefix-sums", Invariant(64)),
]


TARGETS: list[CudaTarget | str] = [CudaTarget(prove=False)]
"""Where programs run."""


def compiled(graph: Graph, pipeline: str, **more: Any) -> Any:
    """A program; what it launches is told."""
    made = forerun.compile(graph, TARGETS[0], pipeline, tuning=None, **more)
    kernels = sorted({node.kernel for node in made.graph if isinstance(node, KernelNode)})
    print(f"  {pipeline.partition(',')[0]}: {len(made.graph)} nodes; {', '.join(kernels)}", flush=True)
    return made


def short(chooser: np.random.Generator, shape: Sequence[int]) -> NDArray[Any]:
    """Random bf16."""
    return chooser.standard_normal(shape).astype(ml_dtypes.bfloat16)


def attention_by_definition(q: Any, k: Any, v: Any, batch: AttentionBatch, page: int) -> NDArray[np.float32]:
    """Attention of all rows in f32."""
    heads, kv_heads = q.shape[1], k.shape[2]
    rows = []
    for request in range(batch.requests):
        begin, end = (int(x) for x in batch.query_pointers[request : request + 2])
        length, first = int(batch.kv_lengths[request]), int(batch.page_pointers[request])
        own = batch.pages[first : first - (-length // page)]
        keys, values = (cache[own].reshape(-1, *cache.shape[2:])[:length].astype(np.float32) for cache in (k, v))
        for row in range(begin, end):
            seen = length - (end - row) + 1
            queries = q[row].astype(np.float32).reshape(kv_heads, heads // kv_heads, -1)
            scores = np.einsum("kgd,tkd->kgt", queries, keys[:seen]) * q.shape[2] ** -0.5
            weights = np.exp(scores - scores.max(2, keepdims=True))
            weights /= weights.sum(2, keepdims=True)
            rows.append(np.einsum("kgt,tkd->kgd", weights, values[:seen]).reshape(heads, -1))
    return np.stack(rows)


def near(found: Any, expected: Any, what: str, limit: float = 0.01) -> None:
    """Stop if a relative L2 error is too large."""
    difference = np.asarray(found, np.float32) - np.asarray(expected, np.float32)
    error = float(np.linalg.norm(difference) / np.linalg.norm(expected))
    print(f"  {what}: error {error:.4f}", flush=True)
    if not error < limit:
        raise SystemExit(f"{what}: error {error}")


def persistent() -> None:
    """Persistent attention and its schedules: all policies and rules, and bad batches."""
    chooser = np.random.default_rng(0)
    for shapes, policy, cuts in RULES:
        ragged = plan(shapes, REQUESTS, ROWS, PAGES, PAGES, policy, cuts, CTAS)
        with compiled(graph_of(ragged, "saa"), "exact") as program:
            _attend(program, ragged, chooser, f"{shapes}, {policy}")


def _attend(program: Any, ragged: RaggedAttention, chooser: np.random.Generator, what: str) -> None:
    sizes = ragged.shapes()
    caches = {name: short(chooser, sizes[name]) for name in ("k_cache", "v_cache")}
    for name, values in caches.items():
        program.write(name, values)
    for requests in (MIXED, [(1, 1)], [(1, 60)] * REQUESTS):
        pages = chooser.permutation(PAGES)[: sum(-(-kv // ragged.family.page_size) for _, kv in requests)]
        lengths = [q for q, _ in requests], [kv for _, kv in requests]
        batch = attention_batch(ragged.family, ragged.capacity, *lengths, pages.tolist())
        q = short(chooser, sizes["q"])
        inputs = {name: getattr(batch, name) for name in BATCH[1:]}
        found = program(requests=[batch.requests], q=q, **inputs)["y"]
        rows = sum(lengths[0])
        expected = attention_by_definition(q, *caches.values(), batch, ragged.family.page_size)
        near(found[:rows], expected, f"{what}, {len(requests)} requests")
    inputs["kv_lengths"] = inputs["kv_lengths"].copy()
    inputs["kv_lengths"][1] = -5
    program(requests=[batch.requests], q=q, **inputs)
    assert program.read("status").tolist() == [Status.BAD_LENGTH, 1]


def launches() -> None:
    """Launches for groups of requests, and what ``fuse-persistent`` makes of them."""
    chooser, shapes = np.random.default_rng(1), (8, 2, 64, 16)
    ragged = plan(shapes, REQUESTS, ROWS, PAGES, PAGES, ctas=CTAS)
    builder = forerun.GraphBuilder("launches")
    builder.input("query_pointers", "i32", REQUESTS + 1, bounds=(0, ROWS), ascending=True)
    builder.input("page_pointers", "i32", REQUESTS + 1, bounds=(0, PAGES), ascending=True)
    builder.input("kv_lengths", "i32", REQUESTS)
    builder.input("pages", "i32", PAGES)
    ragged.values(builder)
    names = {name: name for name in (*BATCH[1:], "q", "k_cache", "v_cache", "y")}
    for first, count in ((0, 3), (3, REQUESTS - 3)):
        launch_requests(builder, names, first, count, f"requests{first}", launch_for(ROWS, shapes[0]))
    lengths = [q for q, _ in MIXED] + [0, 0], [kv for _, kv in MIXED] + [0, 0]
    batch = attention_batch(ragged.family, ragged.capacity, *lengths)
    graph, sizes = builder.build(), ragged.shapes()
    values = {name: short(chooser, sizes[name]) for name in ("q", "k_cache", "v_cache")}
    for pipeline in ("exact", f"fuse-persistent{{ctas={CTAS}}},infer-dependencies,insert-pdl,hoist-loads"):
        with compiled(graph, pipeline) as program:
            for name in ("k_cache", "v_cache"):
                program.write(name, values[name])
            found = program(q=values["q"], **{name: getattr(batch, name) for name in BATCH[1:]})["y"]
            rows = sum(lengths[0])
            expected = attention_by_definition(*values.values(), batch, shapes[3])
            near(found[:rows], expected, pipeline.partition(",")[0])


def joined() -> None:
    """The batch from arrays of two groups, the second one padded."""
    words = {
        "queries_a": [0, 5, 45, 46], "pointers_a": [0, 6, 9, 10], "pages_a": range(12), "lengths_a": [10, 8, 1],
        "queries_b": [0] * 36, "pointers_b": [0, 3, 40, *[40] * 33], "pages_b": range(50, 90), "lengths_b": [7] * 35,
    }  # fmt: skip
    arrays = {name: np.array(values, np.int32) for name, values in words.items()}
    numbers = {"count_a": 3, "count_b": 35, "has_rows_a": 1, "has_rows_b": 0, "last_pages": 1, "page_size": 16}
    numbers |= {"first_row_b": 46, "most_pages": 52, "page_step": 2}
    expected = join_requests.join(**arrays, **numbers)
    builder = forerun.GraphBuilder("joined")
    for name, array in arrays.items():
        builder.input(name, "i32", array.shape)
    made = ("requests", "query_pointers", "kv_lengths", "page_pointers", "pages")
    for name, array in zip(made, expected, strict=True):
        builder.output(name, "i32", array.shape)
    names = {name: name for name in (*arrays, *made)}
    launch = join_requests.launch_for(38, 52)
    builder.launch(join_requests.KERNEL, node="join", launch=launch, **names, **numbers)
    with compiled(builder.build(), "exact") as program:
        found = program(**arrays)
    for name, array in zip(made, expected, strict=True):
        assert found[name].tolist() == array.tolist(), name


def experts() -> None:
    """Rows of experts: the schedule and the persistent kernel, and a launch for each expert."""
    chooser, counts = np.random.default_rng(2), [3, 0, 9, 17]
    family = ExpertGemv(4, 256, 256)
    ragged = RaggedExperts(family, capacity_for(family, 4, 40, 0, CTAS), "prefix-sums", Shares())
    sizes, pointers = ragged.shapes(), np.cumsum([0, *counts]).astype(np.int32)
    w, x = short(chooser, sizes["w"]), short(chooser, sizes["x"])
    owners = np.repeat(np.arange(4), counts)
    rows = x[: len(owners)].astype(np.float32)
    expected = np.stack([w[e].astype(np.float32) @ row for e, row in zip(owners, rows, strict=True)])
    for kind in ("schedule", "launches"):
        builder = forerun.GraphBuilder(kind)
        if kind == "schedule":
            buffers = {**ragged.batch(builder), **ragged.values(builder), **ragged.workspace(builder)}
            ragged.schedule(builder, buffers)
            ragged.multiply(builder, buffers)
        else:
            builder.input("row_pointers", "i32", 5, bounds=(0, 40), ascending=True)
            buffers = {"row_pointers": "row_pointers", **ragged.values(builder)}
            for expert in range(4):
                launch = expert_tiles.launch_for(family, CTAS)
                launch_expert(builder, buffers, expert, f"expert{expert}", launch)
        with compiled(builder.build(), "exact") as program:
            program.write("w", w)
            found = program(row_pointers=pointers, x=x)["y"]
            near(found[: len(owners)], expected, f"experts, {kind}", 1e-3)


def ragged_step() -> None:
    """A step of a model for several prompts, then for a token of each."""
    weights = dict(RandomWeights(MODEL, DType.BF16))
    capacity = RaggedCapacity(requests=4, rows=160, context=200)
    chooser = np.random.default_rng(3)
    feeds = [Feed(slot, chooser.integers(0, 500, n).tolist(), 0) for slot, n in enumerate((90, 1, 33))]
    later = [Feed(slot, [7 + slot], n) for slot, n in enumerate((90, 1, 33))]
    found = []
    for target in (TARGETS[0], "reference"):
        graph = ragged_step_graph(MODEL, capacity, dtype=DType.BF16)
        with forerun.compile(graph, target, weights=weights, tuning=None) as program:
            steps = [program.run(batch_inputs(capacity, each))["logits"][:3].copy() for each in (feeds, later)]
            found.append(np.concatenate(steps))
            kernels = {node.kernel for node in program.graph if isinstance(node, KernelNode)}
    print(f"  {', '.join(sorted(kernels))}", flush=True)
    near(found[0], found[1], "a step for several prompts", 0.02)


def decode() -> None:
    """The step of one token: small kernels, and fused ones with programmatic dependencies."""
    weights = dict(RandomWeights(MODEL, DType.BF16))
    options = {"dtype": DType.BF16, "cache_dtype": DType.BF16, "splits": 8, "argmax_parts": 132}
    graph, found = decode_graph(MODEL, context=64, **options), []
    for pipeline in ("exact", "fast"):
        with compiled(graph, pipeline, weights=weights) as program:
            found.append([program.run({"token": [3], "position": [n]})["logits"].copy() for n in range(4)])
    near(found[1], found[0], "fused", 0.01)


def bodies() -> None:
    """A loop on the device: conditional bodies."""
    from forerun.frontends.decode import generation_graph

    small = replace(MODEL, layers=1)
    graph = generation_graph(small, context=32, limit=4, eot=-1, dtype=DType.BF16, cache_dtype=DType.BF16)
    for pipeline in ("exact", "fast"):
        with compiled(graph, pipeline, weights=dict(RandomWeights(small, DType.BF16))) as program:
            count = program.run({"token": [3], "position": [0], "limit": [4]})["count"]
        assert count.tolist() == [4]


PARTS: tuple[Callable[[], None], ...] = (persistent, launches, joined, experts, ragged_step, decode, bodies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts to run, with commas between them")
    parser.add_argument("--target", help="where to run instead of a GPU, such as reference")
    options = parser.parse_args()
    if options.target:
        TARGETS[0] = options.target
    for part in PARTS:
        if not options.only or part.__name__ in options.only.split(","):
            print(part.__name__, flush=True)
            part()
    print("all parts ran")


if __name__ == "__main__":
    main()
