"""The cost model, against what was measured on an H100."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from forerun.frontends.batched_step import batched_decode_graph
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama_config import LLAMA_3_2_1B, SMOLLM2_135M
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DType
from forerun.kernels import add, gemv, rmsnorm
from forerun.kernels.batched.sequences import Sequences
from forerun.kernels.shapes import elementwise_launch
from forerun.passes.infra.manager import PassManager
from forerun.tuner.cost_model import CostModel, cheapest, estimate
from forerun.tuner.gpus import H100

BF16, F32 = DType.BF16, DType.F32


@cache
def gemvs() -> Graph:
    """One decode step of Llama-3.2-1B as the probe had it: GEMVs, and a stub of attention, one after the other."""
    builder, kernel = GraphBuilder("probe"), gemv.declare(BF16)
    rows = {"qkv": (3072, 2048), "o": (2048, 2048), "gate_up": (16384, 2048), "down": (2048, 8192)}
    vectors = {k: builder.state(f"v{k}", F32, (k,)) for k in (2048, 3072, 8192, 16384)}
    for layer in range(16):
        for name, (n, k) in rows.items():
            w = builder.weight(f"{layer}.{name}", BF16, (n, k))
            builder.launch(
                kernel, node=f"n{layer}.{name}", launch=gemv.launch_for(n, k), w=w, x=vectors[k], y=vectors[n]
            )
            if name == "qkv":
                a, y = vectors[3072], builder.temp(f"s{layer}", F32, (3072,))
                builder.launch(add.KERNEL, node=f"n{layer}.att", launch=elementwise_launch(3072), a=a, b=a, y=y)
    head, logits = builder.weight("head", BF16, (128256, 2048)), builder.output("logits", F32, (128256,))
    builder.launch(kernel, node="head", launch=gemv.launch_for(128256, 2048), w=head, x=vectors[2048], y=logits)
    return builder.build()


PROBE = replace(H100, of_registers=H100.bandwidth)
"""The probe's kernels had more L1 than forerun leaves."""


@pytest.mark.parametrize(
    ("pipeline", "measured"),
    [
        ("", 1001.3e-6),
        ("insert-pdl", 984.3e-6),
        ("insert-pdl,hoist-loads", 890.8e-6),
        ("insert-pdl{trigger=after-wait},hoist-loads", 903.3e-6),
    ],
)
def test_the_probe_of_an_h100(pipeline: str, measured: float) -> None:
    graph = PassManager(pipeline, []).run(gemvs()).graph
    found = estimate(graph, PROBE)
    assert len(found.nodes) == 81
    assert found.bytes == pytest.approx(2.4716e9, rel=0.01)
    assert found.seconds == pytest.approx(measured, rel=0.05)


def test_loads_into_registers_are_slower_than_rings() -> None:
    builder = GraphBuilder("one")
    w, x = builder.weight("w", BF16, (16384, 2048)), builder.input("x", F32, (2048,))
    launch = gemv.launch_for(16384, 2048)
    builder.launch(gemv.declare(BF16), node="n", launch=launch, w=w, x=x, y=builder.output("y", F32, (16384,)))
    node = builder.build().nodes["n"]
    assert isinstance(node, KernelNode)
    plain = builder.build()
    edit = plain.edit()
    edit.replace_node(replace(node, launch=replace(launch, shared_bytes=65536)))
    ringed = edit.commit()
    bytes_ = 16384 * 2048 * 2 + 2048 * 4 + 16384 * 4
    slower = estimate(plain, H100).seconds - estimate(ringed, H100).seconds
    assert slower == pytest.approx(bytes_ * (1 + H100.inside) * (1 / H100.of_registers - 1 / H100.bandwidth))


def test_clusters_pay_for_what_they_tell_each_other() -> None:
    found = []
    for cluster in (None, (8, 1, 1)):
        builder = GraphBuilder("one")
        x, y = builder.input("x", F32, (64,)), builder.output("y", F32, (64,))
        launch = replace(elementwise_launch(64), grid=(8, 1, 1), cluster=cluster)
        builder.launch(add.KERNEL, node="add", launch=launch, a=x, b=x, y=y)
        found.append(estimate(builder.build(), H100).seconds)
    assert found[1] - found[0] == pytest.approx(H100.exchange)
    assert found[0] == pytest.approx(H100.latency + H100.tail, rel=0.02)


def test_what_is_cached_costs_a_boundary() -> None:
    builder, launch, last = GraphBuilder("chain"), rmsnorm.launch_for(128), "x"
    builder.input("x", F32, (128,))
    builder.weight("w", F32, (128,))
    for number in range(3):
        y = builder.temp(f"y{number}", F32, (128,)) if number < 2 else builder.output("y", F32, (128,))
        builder.launch(rmsnorm, x=last, w="w", y=y, eps=1e-5, node=f"n{number}", launch=launch)
        last = y
    graph = builder.build()
    nodes = estimate(graph, H100).nodes
    assert nodes["n0"].exposed >= H100.latency
    assert nodes["n1"].exposed == nodes["n2"].exposed == 0.0
    assert nodes["n2"].end - nodes["n1"].end == pytest.approx(H100.full, rel=0.05)
    without = estimate(graph, replace(H100, cache=0)).nodes
    assert without["n2"].exposed == without["n1"].exposed == nodes["n0"].exposed


@pytest.mark.parametrize("sequences", [1, 8])
def test_of_a_table_the_rows_that_are_named_count(sequences: int) -> None:
    config = replace(LLAMA_3_2_1B, layers=1)
    graph = batched_decode_graph(config, Sequences(sequences), context=64)
    found = estimate(graph, H100, {"position": [3] * sequences}).nodes["token_embd"]
    written = 2048 * 4 + 2048 * 4 + 256 * 4  # y, halves, squares
    assert found.bytes == 2048 * 4 + sequences * (4 + 2048 * 2 + written)
    assert found.exposed == pytest.approx(H100.latency + H100.index, rel=0.05)


def test_copies_cost_more_than_their_bytes() -> None:
    builder = GraphBuilder("copy")
    host, there = builder.constant("host", "i32", [1, 2]), builder.output("there", "i32", 2)
    builder.copy(host, there, node="copy")
    graph = builder.build()
    assert estimate(graph, H100).seconds - estimate(graph, replace(H100, copy=0.0)).seconds == pytest.approx(H100.copy)


def test_the_order_of_the_versions_is_right() -> None:
    pipelines = ["insert-pdl{trigger=end},hoist-loads", "", "insert-pdl,hoist-loads", "insert-pdl"]
    graphs = [PassManager(pipeline, []).run(gemvs()).graph for pipeline in pipelines]
    assert cheapest(graphs, H100) == 2
    assert cheapest([graphs[1], graphs[3]], H100) == 1
    times = [estimate(graph, H100).seconds for graph in graphs]
    assert times[2] < times[0] <= times[1]


def test_bytes_are_counted_once_and_follow_the_position() -> None:
    graph = decode_graph(replace(LLAMA_3_2_1B, layers=1), dtype=BF16, cache_dtype=BF16, splits=16, context=2048)
    early, late = (estimate(graph, H100, {"position": [position]}) for position in (160, 2047))
    rows = 2 * 8 * 64 * 2  # keys and values, heads, elements, bytes
    assert late.nodes["blk.0.attention"].bytes - early.nodes["blk.0.attention"].bytes == (2047 - 160) * rows
    q = early.nodes["blk.0.attn_q"]
    assert q.bytes == 2048 * 2048 * 2 + 2 * 2048 * 4
    assert q.exposed == H100.ramp  # nothing programmatic leads to it
    assert late.seconds > early.seconds
    unknown = estimate(graph, H100)
    assert early.seconds < unknown.seconds < late.seconds
    assert CostModel(H100, {"position": [160]})(graph) == early.seconds


def test_parallel_branches_share_the_memory() -> None:
    graph = (
        PassManager("exact")
        .run(decode_graph(replace(LLAMA_3_2_1B, layers=1), dtype=BF16, cache_dtype=BF16, splits=16))
        .graph
    )
    found = estimate(graph, H100)
    q, k = found.nodes["blk.0.attn_q"], found.nodes["blk.0.attn_k"]
    assert k.ready == q.ready
    assert k.end > q.end
    assert q.early_bytes > 0
    assert found.seconds >= found.bytes / 3.13e12


def test_bodies_count_as_one_iteration() -> None:
    config = replace(SMOLLM2_135M, layers=1)
    loop = estimate(generation_graph(config, limit=4, eot=2, context=16), H100)
    step = estimate(decode_graph(config, context=16), H100)
    assert loop.nodes["decode"].end - loop.nodes["decode"].ready == pytest.approx(step.seconds, rel=0.15)


def test_nothing_costs_nothing() -> None:
    assert estimate(Graph("nothing"), H100).seconds == 0.0
