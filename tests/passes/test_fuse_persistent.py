"""``fuse-persistent``: what it makes is proved and computes the same for every batch, and where it does not apply."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.fusion import Rejection
from forerun.ir.graph import Graph
from forerun.ir.grouping import Group, group_rules
from forerun.ir.nodes import BufferArgument, ConstantArgument, EventRecordNode, KernelNode, MemsetNode, ScalarLoad
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.fused import claims
from forerun.ir.verify import verify
from forerun.passes.fuse_persistent import FusePersistent, made_persistent
from forerun.passes.fusion.stated import stated
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.support.diagnostics import InvalidInput
from tests.kernels.persistent.grouped import ROWS, grouped_graph
from tests.passes.grouped_programs import batch_of, grouped_program

SETTINGS = FusePersistent(ctas=3)

PROGRAMS = st.randoms(use_true_random=False).map(grouped_program)


def applied(graph: Graph, subject: FusePersistent = SETTINGS) -> tuple[Graph, PassContext]:
    context = PassContext(subject)
    return subject.apply(graph, context), context


def results(graph: Graph, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The results of the rows that the batch has, of two replays of each layer."""
    rows = int(batch["query_pointers"][-1])
    found = []
    batch = {**batch, "other_pointers": np.zeros_like(batch["page_pointers"])}
    with forerun.compile(graph, forerun.ReferenceTarget("adversarial", 1), "") as program:
        for _ in range(2):
            inputs = {n: v for n, v in batch.items() if v.dtype == np.int32}
            for layer in (0, 1):
                for name in ("k_cache", "v_cache"):
                    program.write(f"{name}{layer}", batch[name].astype(ml_dtypes.bfloat16))
                inputs[f"q{layer}"] = batch["q"].astype(ml_dtypes.bfloat16)
            outputs = program(**inputs)
            found += [outputs[f"y{layer}"][:rows].astype(np.float32) for layer in (0, 1)]
    return found


@given(PROGRAMS)
@settings(max_examples=60)
def test_what_is_made_is_valid_and_proved(graph: Graph) -> None:
    after, context = applied(graph)
    fused = {name: parts for name, parts in claims(after).items() if name not in graph.nodes}
    event(f"fused: {len(fused)}, schedules: {context.statistics['schedules']}")
    assert (after is graph) == (not fused)
    assert context.statistics["groups_fused"] == len(fused)
    assert context.statistics["nodes_removed"] == sum(map(len, fused.values()))
    assert not verify(after)
    verdict = certify(graph, after)
    assert verdict.proved, [str(finding) for finding in verdict.findings]
    assert applied(after)[0] is after


@given(PROGRAMS)
@settings(max_examples=15)
def test_other_passes_follow(graph: Graph) -> None:
    text = "fuse-persistent{ctas=3},infer-dependencies,insert-pdl,hoist-loads,plan-memory,reduce-edges"
    result = PassManager(text).run(graph)
    assert not {record.verdict for record in result.summary.passes} & {"refuted", "unsupported"}


@given(st.randoms(use_true_random=False), st.sampled_from(["shares", "whole", "invariant"]))
@settings(max_examples=15)
def test_it_computes_the_same_for_every_batch(random: Random, cuts: str) -> None:
    graph = grouped_program(random)
    policy = random.choice(["prefix-sums", "longest-first", "round-robin"])
    pipeline = f"fuse-persistent{{ctas=3,policy={policy},cuts={cuts},chunk=64}},infer-dependencies"
    after = PassManager(pipeline).run(graph).graph
    assume(not any(isinstance(node, MemsetNode) and node.destination.buffer == "kv_lengths" for node in graph))
    batch = batch_of(random)
    for wanted, found in zip(results(graph, batch), results(after, batch), strict=True):
        assert np.allclose(wanted, found, rtol=0, atol=0.02, equal_nan=True)


def test_layers_share_a_schedule() -> None:
    after, context = applied(grouped_graph(((2, 4), (0, 2)), layers=3))
    assert context.statistics == {"groups_fused": 3, "nodes_removed": 6, "schedules": 1, "groups_kept": 0}
    assert [*after.nodes] == ["schedule", "layer0.1.persistent", "layer1.1.persistent", "layer2.1.persistent"]
    assert context.tolerance == group_rules()["attention-requests"].tolerance


def test_a_batch_that_is_written_gets_another_schedule() -> None:
    graph = grouped_graph(layers=2, before={"layer1.0": lambda b: b.fill("kv_lengths", 9, node="grow")})
    after, context = applied(graph)
    assert context.statistics["schedules"] == 2
    assert [*after.nodes] == ["schedule", "layer0.1.persistent", "grow", "schedule2", "layer1.1.persistent"]


def test_an_event_gets_another_schedule() -> None:
    graph = grouped_graph(layers=2, before={"layer1.0": lambda b: b.add(EventRecordNode("tell", "e"))})
    after, context = applied(graph)
    assert context.statistics["schedules"] == 2
    assert certify(graph, after).proved


REFUSED = {
    "'layer0.1' is for request 3, which another launch is for, too": grouped_graph(((0, 4), (3, 3))),
    "no launch is for request 2; schedules begin with the first request": grouped_graph(((0, 2), (4, 2))),
    "no launch is for request 0; schedules begin with the first request": grouped_graph(((1, 5),)),
    "'change' writes %k_cache0 in between": grouped_graph(
        before={"layer0.1": lambda b: b.fill("k_cache0", node="change")}
    ),
    "'look' reads %y0 in between": grouped_graph(
        before={"layer0.1": lambda b: b.copy("y0", b.output("z", "bf16", (ROWS, 4, 16)), node="look")}
    ),
    "'tell' lies in between, before which 'layer0.0' must be complete": grouped_graph(
        before={"layer0.1": lambda b: b.add(EventRecordNode("tell", "e"))}
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_it_says_why_it_does_not_apply(reason: str) -> None:
    graph = REFUSED[reason]
    after, context = applied(graph)
    assert after is graph
    assert context.statistics["groups_kept"] == 1
    assert [remark.message for remark in context.remarks] == [f"is not made persistent: {reason}"]


def changed(graph: Graph, **arguments: object) -> Graph:
    """A graph whose last launch has other arguments."""
    node = list(graph)[-1]
    assert isinstance(node, KernelNode)
    edit = graph.edit()
    bound = tuple((name, arguments.get(name, argument)) for name, argument in node.arguments)
    edit.replace_node(replace(node, arguments=bound))  # type: ignore[arg-type]
    return edit.commit()


def test_rows_must_be_those_of_the_requests() -> None:
    graph = changed(grouped_graph(), end=ScalarLoad("query_pointers", 5))
    _, context = applied(graph)
    assert "'end' of 'layer0.1' is not element 6 of %query_pointers" in context.remarks[0].message
    graph = changed(grouped_graph(), begin=ScalarLoad("page_pointers", 4))
    _, context = applied(graph)
    assert "'begin' of 'layer0.1' is not element 4 of %query_pointers" in context.remarks[0].message


def test_launches_on_other_buffers_are_groups_of_their_own() -> None:
    graph = changed(grouped_graph(layers=2), y=BufferArgument("y0"))
    _, context = applied(graph)
    assert context.statistics["groups_fused"] == 2
    assert [remark.location.name for remark in context.remarks] == ["layer1.1"]


def test_loose_dependencies_are_in_the_way() -> None:
    graph = PassManager("insert-pdl").run(grouped_graph(((0, 4), (4, 2)))).graph
    assert graph.count_dependencies()["programmatic"]
    _, context = applied(graph)
    assert context.statistics["groups_fused"] == 0


@pytest.mark.parametrize("options", [{"ctas": -1}, {"ctas": 1025}, {"chunk": -1}])
def test_options_out_of_range_are_errors(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="is from 0 to"):
        FusePersistent(**options)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (FusePersistent(ctas=0), "it is not known how many CTAs the persistent kernel may have"),
        (FusePersistent(cuts="invariant", chunk=0), "cuts: positions of a chunk cannot be 0"),
    ],
)
def test_what_is_not_known_is_in_the_way(subject: FusePersistent, reason: str) -> None:
    graph = grouped_graph()
    after, context = applied(graph, subject)
    assert after is graph
    assert [remark.message for remark in context.remarks] == [f"is not made persistent: {reason}"]


@given(st.integers(0, 2**16))
@settings(max_examples=10)
def test_rules_apply_to_their_examples(seed: int) -> None:
    for rule in group_rules().values():
        graph = rule.example(Random(seed))
        context = PassContext(SETTINGS)
        after = made_persistent(graph, {rule.name: rule}, SETTINGS.settings(), context)
        assert context.statistics["groups_fused"] >= 1
        assert context.statistics["groups_kept"] == 0
        assert certify(graph, after).proved


def test_a_rule_of_somebody_else_may_refuse() -> None:
    rule = replace(group_rules()["attention-requests"], replace=lambda group, _: Rejection(f"{len(group.nodes)} no"))
    context = PassContext(SETTINGS)
    graph = grouped_graph()
    assert made_persistent(graph, {"mine": rule}, SETTINGS.settings(), context) is graph
    assert context.remarks[0].message == "is not made persistent: 2 no"
    assert isinstance(Group(graph, tuple(graph)).buffer("q").name, str)  # type: ignore[arg-type]


@pytest.mark.parametrize("pipeline", ["fuse-persistent{ctas=4,cuts=invariant}", "ragged"])
def test_claims_of_a_whole_pipeline_are_recognised(pipeline: str) -> None:
    graph = grouped_graph(layers=2)
    after = PassManager(pipeline).run(graph).graph
    assert certify(graph, after).proved
    assert dict(stated(graph, after)) == {"layer0.1.persistent": True, "layer1.1.persistent": True}
    for name, parameter in (("schedule", "group"), ("layer0.1.persistent", "slots")):
        node = after.nodes[name]
        assert isinstance(node, KernelNode)
        edit = after.edit()
        bound = tuple((n, ConstantArgument(3) if n == parameter else a) for n, a in node.arguments)
        edit.replace_node(replace(node, arguments=bound))
        assert not dict(stated(graph, edit.commit()))["layer0.1.persistent"]
