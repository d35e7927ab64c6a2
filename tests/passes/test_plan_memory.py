"""``plan-memory`` keeps the laws on random programs that hand on temporaries, and makes memory smaller."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.buffer import ALLOCATION_ALIGNMENT, Allocation
from forerun.ir.builder import GraphBuilder
from forerun.ir.explain.witness import witness
from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import event_order
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import BufferRole, DType
from forerun.ir.verify import verify
from forerun.passes.hoist_loads import HoistLoads
from forerun.passes.infer_dependencies import InferDependencies
from forerun.passes.infra.base import Pass, PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.insert_pdl import InsertPdl
from forerun.passes.plan_memory import PlanMemory, coalesced, interference
from forerun.passes.reduce_edges import ReduceEdges
from forerun.runtime.reference import ReferenceTarget
from forerun.testing import assert_refines, assert_roundtrip, assert_same_outputs
from tests.passes.laws import applied, broken_law, input_of, lost_meaning, weakened
from tests.random_graphs import looped, temporaries
from tests.wrong.passes.plan_memory import takes_paths_for_order

TINY = LlamaConfig("tiny", 2, 64, 4, 2, 16, 160, 128, 256)
PROGRAMS = 150


def bytes_of_temporaries(graph: Graph) -> int:
    """The sum of the aligned allocations that hold temporaries."""
    names = {buffer.allocation for buffer in graph.buffers.values() if buffer.role is BufferRole.TEMP}
    return sum(-(-graph.allocations[name].size // ALLOCATION_ALIGNMENT) * ALLOCATION_ALIGNMENT for name in names)


def handed_on(seed: int) -> list[Graph]:
    """Programs on temporaries, from strictly ordered to as weakly ordered as possible."""
    chooser, found = Random(seed), list[Graph]()
    for _ in range(PROGRAMS):
        chain = temporaries(chooser)
        found += [chain, input_of("plan-memory", chain), weakened(applied(InferDependencies(), chain))]
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_laws(seed: int) -> None:
    seen: Counter[str] = Counter()
    for graph in handed_on(seed):
        after = applied(PlanMemory(), graph)
        assert broken_law(PlanMemory(), graph) is None
        assert certify(graph, after).proved
        assert certify(after, graph).proved
        assert parse_graph(print_graph(after)) == after
        seen["changed" if after is not graph else "same"] += 1
        assert after is graph or bytes_of_temporaries(after) < bytes_of_temporaries(graph)
    assert seen["changed"] > 40


def test_laws_in_any_order() -> None:
    """The other passes take planned memory as they find it, and the plan takes what they made."""
    chooser, changed = Random(3), 0
    for _ in range(PROGRAMS):
        graph = temporaries(chooser)
        passes: list[Pass] = [InferDependencies(), InsertPdl(), HoistLoads(), ReduceEdges(), PlanMemory()]
        chooser.shuffle(passes)
        for subject in passes:
            assert broken_law(subject, graph) is None, str(subject)
            after = applied(subject, graph)
            changed += isinstance(subject, PlanMemory) and after is not graph
            graph = after
    assert changed > 20


def test_bodies_keep_what_they_use() -> None:
    chooser = Random(0)
    for _ in range(100):
        graph = looped(chooser)
        roles = {name: replace(b, role=BufferRole.TEMP) for name, b in graph.buffers.items()}
        tables = graph.allocations.values(), roles.values(), graph.kernels.values()
        graph = Graph(graph.name, *tables, graph.nodes.values(), graph.dependencies)
        after = applied(PlanMemory(), graph)
        verdict = certify(graph, after)
        assert after is graph or not any(finding.code in ("C9", "C17") for finding in verdict.findings)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("first", ["", "fuse-kernels,"])
def test_a_decode_step_needs_little_memory(steps: int, first: str) -> None:
    graph = decode_graph(TINY, context=32, steps=steps, splits=2, argmax_parts=4)
    before = PassManager(f"{first}infer-dependencies,insert-pdl,hoist-loads").run(graph).graph
    result = PassManager("plan-memory").run(before)
    record = result.summary.passes[0]
    assert record.verdict == "proved"
    old, new = record.statistics["bytes_before"], record.statistics["bytes_after"]
    assert new == result.graph.allocations["arena"].size < old / (2 * steps)
    assert record.statistics["buffers_kept"] == 0
    assert any(f"{old} bytes of allocations became {new} bytes in $arena" in remark for remark in record.remarks)
    reduced = PassManager("reduce-edges").run(result.graph).graph
    assert_refines(before, reduced)
    assert_roundtrip(reduced)
    assert_same_outputs(before, reduced)


def test_a_loop_keeps_its_temporaries_and_says_so() -> None:
    graph = generation_graph(TINY, limit=4, eot=-1, context=16)
    record = PassManager("plan-memory").run(graph).summary.passes[0]
    assert not record.changed
    assert any("a body of a node uses it" in remark for remark in record.remarks)


def test_wide_graphs_are_left_alone_beyond_the_limit() -> None:
    builder = GraphBuilder("wide")
    for i in range(20):
        builder.temp(f"t{i}", DType.F32, (64,))
        builder.output(f"y{i}", DType.F32, (64,))
        builder.fill(f"t{i}", node=f"fill{i}", after=[])
        builder.copy(f"t{i}", f"y{i}", node=f"copy{i}", after=[f"fill{i}"])
    graph = builder.build()
    found, order = coalesced(graph), event_order(graph)
    assert all(len(others) == 19 for others in interference(found, order, 256).values())
    assert len(interference(found, order, 4)) < 10
    assert applied(PlanMemory(), graph) is graph


def test_each_move_can_be_left_out() -> None:
    """What bisect needs: with any limit on the changes the graph is right."""
    graph = PassManager("infer-dependencies,insert-pdl").run(decode_graph(TINY, context=32)).graph
    whole = applied(PlanMemory(), graph)
    moves = sum(whole.buffers[name] != buffer for name, buffer in graph.buffers.items())
    for limit in (0, 1, 5, moves // 2):
        context = PassContext(PlanMemory(), limit=limit)
        after = PlanMemory().apply(graph, context)
        assert (after is graph) == (limit == 0)
        assert context.changes < moves
        assert certify(graph, after).proved


EAGER = """\
forerun 1
graph eager
buffer %x : f32[64] input
buffer %u : f32[64] input
buffer %old : f32[64] temp
buffer %new : f32[64] temp
buffer %y : f32[64] output
buffer %z : f32[64] output
kernel @late(a: f32[D], b: f32[D], y: f32[D]) {
  role main {
    wait
    trigger
    phase load reads a defines first ref "forerun.kernels.add:load"
    phase add reads b uses first writes y ref "forerun.kernels.add:add"
  }
}
kernel @eager(a: f32[D], b: f32[D], y: f32[D]) {
  role main {
    trigger
    phase load reads a defines first ref "forerun.kernels.add:load"
    phase add reads b uses first writes y ref "forerun.kernels.add:add"
    wait
  }
}
node #first = @late(a=%x, b=%x, y=%old)
node #second = @late(a=%old, b=%old, y=%y)
  after #first programmatic
node #third = @eager(a=%u, b=%u, y=%new)
  after #second programmatic
node #fourth = @late(a=%new, b=%new, y=%z)
  after #third programmatic
"""


def outputs(graph: Graph) -> set[bytes]:
    """What a replay computes, under some adversarial schedules."""
    x = np.arange(64, dtype=np.float32)
    programs = (ReferenceTarget("adversarial", seed).load(graph, {}) for seed in range(20))
    return {
        b"".join(found.tobytes() for found in program.run({"x": x, "u": 1000 + x}).values()) for program in programs
    }


def test_a_wrong_plan_shows_under_adversarial_schedules() -> None:
    """The wrong twin takes a path of programmatic dependencies for an order."""
    graph = parse_graph(EAGER)
    assert applied(PlanMemory(), graph) is graph
    wrong = applied(takes_paths_for_order(), graph)
    assert wrong.buffers["old"].allocation == wrong.buffers["new"].allocation == "arena"
    assert len(outputs(graph)) == 1
    assert len(outputs(wrong)) > 1
    verdict = certify(graph, wrong)
    assert verdict.status == "refuted"
    assert "'third' writes %new" in str(witness(wrong, verdict.races[0]))


def shuffled(chooser: Random, graph: Graph) -> Graph:
    """The graph with some temporaries anywhere in an arena or in each other's allocations."""
    edit = graph.edit()
    edit.set_allocation(Allocation("anywhere", 64))
    for buffer in graph.buffers.values():
        if chooser.random() < 0.5:
            home = chooser.choice(["anywhere", "anywhere", buffer.allocation, chooser.choice([*graph.allocations])])
            room = 64 if home == "anywhere" else graph.allocations[home].size
            edit.set_buffer(replace(buffer, allocation=home, offset=4 * chooser.randint(0, (room - buffer.size) // 4)))
    used = {buffer.allocation for buffer in edit.buffers.values()}
    for name in [*graph.allocations, "anywhere"]:
        if name not in used:
            edit.remove_allocation(name)
    return edit.commit()


def test_certificates_agree_with_the_laws_on_random_places() -> None:
    chooser, seen = Random(4), Counter[str]()
    for graph in handed_on(5):
        after = shuffled(chooser, graph)
        if verify(after) or set(after.buffers) != set(graph.buffers):
            continue
        lost, verdict = lost_meaning(graph, after), certify(graph, after)
        seen[f"{'wrong' if lost else 'right'}: {verdict.status}"] += 1
        assert not (lost and verdict.proved), (lost, print_graph(after))
        assert not (verdict.status == "refuted" and not lost), (verdict.findings, print_graph(after))
    assert seen["wrong: proved"] == seen["right: refuted"] == 0
    assert min(seen["right: proved"], seen["wrong: refuted"]) > 20, seen
