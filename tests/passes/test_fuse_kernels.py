"""``fuse-kernels``: options, remarks, what a whole decode step becomes, and rules of users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir import fusion
from forerun.ir.builder import GraphBuilder
from forerun.ir.fusion import FusionRule, Match, Part, Rejection, Replacement, fusion_rule, fusion_rules
from forerun.ir.graph import Graph
from forerun.ir.nodes import ConditionalNode, KernelNode
from forerun.ir.text import parse_graph
from forerun.ir.types import BufferRole, DType
from forerun.kernels import add, fusion_examples, silu_mul
from forerun.passes.fuse_kernels import FuseKernels, fused
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.named_pipelines import EXACT_PIPELINE, FAST_PIPELINE
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.summary import PassRecord
from forerun.support.diagnostics import InternalError, InvalidInput
from forerun.testing import assert_close_outputs, check_rule
from tests.passes.laws import applied

CASES = Path(__file__).parents[1] / "cases" / "fuse-kernels"
TINY = LlamaConfig("tiny", 2, 16, 4, 2, 8, 24, 40, 64)


def record_of(name: str) -> PassRecord:
    return PassManager("fuse-kernels").run(parse_graph((CASES / f"{name}.in.fir").read_text())).summary.passes[0]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("columns", "projection_add does not take matrices of 10 columns of bf16"),
        ("product_is_read", "'other' reads %product too, which 'project' writes"),
        ("product_is_an_output", "'project' writes %product, which is seen outside the replay"),
        ("operand_is_written", "'clear', which comes in between, accesses %x too"),
        ("in_place", "'add' writes %residual, which 'add' reads as %residual"),
        ("event", "event node 'event' comes in between"),
    ],
)
def test_near_misses_are_remarked(case: str, reason: str) -> None:
    record = record_of(case)
    assert record.remarks[0] == f"node add: rule projection-add does not apply: {reason}"
    misses = len(record.remarks)
    assert record.statistics == {"groups_fused": 0, "nodes_removed": 0, "nodes_recomputed": 0, "near_misses": misses}
    assert record.tolerance == 0.0


def test_after_insert_pdl_nothing_is_fused() -> None:
    graph = fusion_examples.projection_add(Random(0))
    record = PassManager(f"{EXACT_PIPELINE},fuse-kernels").run(graph).summary.passes[-1]
    # The kernels have variants by then, which no rule names.
    assert (record.verdict, record.remarks) == ("unchanged", [])


def test_dependencies_that_are_not_full_are_remarked() -> None:
    text = (CASES / "projection.in.fir").read_text().replace("after #project full", "after #project launch_order")
    context = PassContext(FuseKernels())
    assert fused(parse_graph(text), fusion_rules().values(), context).nodes.keys() == {"project", "add"}
    assert "dependencies that are not full; fuse before insert-pdl" in context.remarks[0].message


def test_a_kernel_of_the_same_name_with_another_body_does_not_match() -> None:
    text = (CASES / "projection.in.fir").read_text()
    assert record_of("projection").applications == {"projection-add": 1}
    other = parse_graph(text.replace("phase load reads a", "phase load reads a[0:1]"))
    assert applied(FuseKernels(), other) is other


def test_another_kernel_of_the_replacements_name_is_in_the_way() -> None:
    graph = fusion_examples.norm_gate_up(Random(2))
    after = applied(FuseKernels(), graph)
    (node,) = (n for n in after if isinstance(n, KernelNode))
    edit = graph.edit()
    edit.set_kernel(replace(silu_mul.KERNEL, name=node.kernel))
    context = PassContext(FuseKernels())
    assert len(fused(edit.commit(), [fusion_rules()["norm-gate-up"]], context)) == 4
    assert f"another kernel named '{node.kernel}'" in context.remarks[0].message


@pytest.mark.parametrize(
    ("own", "steps"), [({}, 1), ({}, 3), ({"attention_bias": True}, 1), ({"head_norms": True}, 1)], ids=str
)
def test_a_decode_step_becomes_five_kernels_a_layer_and_three(own: dict[str, bool], steps: int) -> None:
    config = replace(TINY, **own)  # type: ignore[arg-type]
    graph = decode_graph(config, context=16, splits=2, argmax_parts=4, steps=steps)
    result = PassManager("fast").run(graph)
    assert len(result.graph) == steps * (5 * TINY.layers + 3)
    first = next(record for record in result.summary.passes if record.name == "fuse-kernels")
    assert first.applications == {
        "norm-qkv-rope": 2 * steps,
        "norm-gate-up": 2 * steps,
        "projection-add": 4 * steps,
        "attention-cluster": 2 * steps,
        "norm-head": steps,
    }
    assert first.tolerance == max(fusion_rules()[name].tolerance for name in first.applications)
    assert {record.verdict for record in result.summary.passes if record.changed} == {"proved"}
    assert_close_outputs(graph, result.graph, 10 * first.tolerance)
    assert applied(FuseKernels(), applied(FuseKernels(), graph)) == applied(FuseKernels(), graph)


def test_the_step_in_a_loop_is_fused_too() -> None:
    graph = generation_graph(TINY, limit=4, eot=-1, context=16, splits=2, argmax_parts=4)
    result = PassManager("fast").run(graph)
    (loop,) = (node for node in result.graph if isinstance(node, ConditionalNode))
    assert len(loop.bodies[0]) == 5 * TINY.layers + 4
    assert {record.verdict for record in result.summary.passes if record.changed} == {"proved"}
    assert_close_outputs(graph, result.graph, 10 * max(record.tolerance for record in result.summary.passes))


def test_what_types_and_shapes_do_not_fit_stays() -> None:
    graph = decode_graph(TINY, context=16, dtype=DType.BF16, cache_dtype=DType.F16)
    record = PassManager('fuse-kernels{off="projection-add"}').run(graph).summary.passes[0]
    assert record.applications == {"norm-qkv-rope": 2, "norm-gate-up": 2, "attention-cluster": 2}


def test_limits_stop_after_so_many() -> None:
    graph = decode_graph(TINY, context=16)
    context = PassContext(FuseKernels(), limit=3)
    FuseKernels().apply(graph, context)
    assert context.statistics["groups_fused"] == 3


def test_named_pipelines() -> None:
    planned = EXACT_PIPELINE.replace("reduce-edges", "plan-memory,reduce-edges")
    planned = planned.replace("fold-params", "fold-params,merge-equal-nodes,fuse-kernels")
    assert str(Pipeline.parse("fast")) == FAST_PIPELINE == planned
    with pytest.raises(InvalidInput, match="the fast pipeline has no options"):
        Pipeline.parse("fast{rules=all}")


def test_unknown_rules_are_errors() -> None:
    with pytest.raises(InvalidInput, match="no fusion rule 'norm-haed'") as caught:
        FuseKernels(off="norm-haed")
    assert caught.value.hint == "did you mean 'norm-head'?"
    assert [rule.name for rule in FuseKernels(rules="norm-head projection-add", off="norm-head").chosen()] == [
        "projection-add"
    ]


# Rules of users


@pytest.fixture
def own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that a test declares are forgotten after it."""
    monkeypatch.setattr(fusion, "_rules", dict(fusion_rules()))


def example(random: Random) -> Graph:
    return fusion_examples.projection_add(random)


ADD = Part("add", (add.KERNEL,), {"a": "a", "b": "b", "y": "y"})


@pytest.mark.usefixtures("own_rules")
def test_a_rule_is_declared_by_a_decorator_and_found_by_its_name() -> None:
    def mirrored(match: Match) -> Replacement | Rejection:
        """Sums with their operands exchanged."""
        kernel = replace(add.KERNEL, name="mirrored")
        return Replacement(kernel, match.nodes["add"].launch, {"a": "b", "b": "a", "y": "y"})

    rule = fusion_rule("mirror", (ADD,), tolerance=0.0, example=example)(mirrored)
    assert isinstance(rule, FusionRule)
    assert (rule.summary, fusion_rules()["mirror"]) == ("Sums with their operands exchanged.", rule)
    check_rule("mirror", examples=3)
    assert fusion_rule("mirror", (ADD,), tolerance=0.1, example=example)(mirrored) is fusion_rules()["mirror"]

    def other(match: Match) -> Replacement | Rejection:
        """Another one."""
        return Rejection("never")

    with pytest.raises(InvalidInput, match="two fusion rules are named 'mirror'"):
        fusion_rule("mirror", (ADD,), tolerance=0.0, example=example)(other)


@pytest.mark.usefixtures("own_rules")
def test_a_replacement_that_needs_more_alignment_does_not_fit() -> None:
    def wide(match: Match) -> Replacement | Rejection:
        """Sums of 16 bytes at once."""
        parameters = tuple(replace(p, align=16) for p in add.KERNEL.buffer_parameters)
        kernel = replace(add.KERNEL, name="wide", parameters=parameters, implementations=())
        return Replacement(kernel, match.nodes["add"].launch, {"a": "a", "b": "b", "y": "y"})

    rule = fusion_rule("wide", (ADD,), tolerance=0.0, example=example)(wide)
    for offset, names in ((4, ["add"]), (16, ["add.fused"])):
        build = GraphBuilder("sums")
        build.allocation("both", 64)
        a = build.buffer("a", DType.F32, (4,), BufferRole.INPUT, allocation="both", offset=offset)
        build.launch(add.KERNEL, a=a, b=a, y=build.output("y", DType.F32, (4,)), node="add")
        context = PassContext(FuseKernels())
        assert list(fused(build.build(), [rule], context).nodes) == names
        if offset % 16:
            assert "%a begins at byte 4, not at a multiple of 16" in context.remarks[0].message


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize(
    ("patterns", "tolerance", "said"),
    [
        ((), 0.0, "it has no pattern"),
        (((ADD, ADD),), 0.0, "two parts have the same name"),
        (((ADD,),), 1.0, "a relative tolerance is at least 0"),
        (((replace(ADD, kernels=()),),), 0.0, "part 'add' needs kernels with a body"),
        (((replace(ADD, kernels=(replace(add.KERNEL, roles=None),)),),), 0.0, "part 'add' needs kernels with a body"),
        (((replace(ADD, variables={"a": "a", "c": "c"}),),), 0.0, "do not agree on parameters: b, c, y"),
    ],
)
def test_incomplete_rules_are_errors(patterns: tuple[tuple[Part, ...], ...], tolerance: float, said: str) -> None:
    def never(match: Match) -> Replacement | Rejection:
        """Never."""
        return Rejection("never")

    with pytest.raises(InternalError, match=said):
        fusion_rule("never", *patterns, tolerance=tolerance, example=example)(never)


def test_a_rule_needs_a_summary_and_a_complete_replacement() -> None:
    def partial(match: Match) -> Replacement | Rejection:
        return Replacement(add.KERNEL, match.nodes["add"].launch, {"a": "a", "b": "zero"})

    with pytest.raises(InternalError, match="it has no summary"):
        fusion_rule("partial", (ADD,), tolerance=0.0, example=example)(partial)
    rule = FusionRule("partial", "", ((ADD,),), partial, 0.0, example)
    with pytest.raises(InternalError, match="does not bind the parameters of @add to variables: y, zero"):
        fused(fusion_examples.projection_add(Random(0)), [rule], PassContext(FuseKernels()))
