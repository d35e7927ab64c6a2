"""``fold-params`` keeps the values of random programs, and what comes after it is proved, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import BufferArgument, KernelNode, MemcpyNode, ScalarLoad
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.folded import folds, rebind
from forerun.ir.verify import verify
from forerun.kernels.builtin import KERNELS
from forerun.passes.fold_params import FoldParams
from forerun.passes.infra.base import PassContext
from forerun.passes.infra.manager import PassManager
from forerun.testing import assert_same_outputs
from tests.passes.uploading_programs import uploading_programs

PROGRAMS = uploading_programs().filter(lambda graph: not verify(graph))


def copies(graph: Graph) -> int:
    return sum(isinstance(node, MemcpyNode) for node in graph)


@given(PROGRAMS)
def test_what_is_folded_is_valid_proved_and_computes_the_same(graph: Graph) -> None:
    context = PassContext(FoldParams())
    after = FoldParams().apply(graph, context)
    gone = copies(graph) - copies(after)
    event(f"folded: {gone}, scalars: {context.statistics['scalars']}")
    assert context.statistics["copies_folded"] == gone == len(graph) - len(after)
    assert context.statistics["copies_kept"] == sum(bool(fold.refusal) for fold in folds(graph).values())
    assert (after is graph) == (not gone)
    if after is graph:
        return
    assert not verify(after)
    assert after.delta is not None
    assert set(graph.nodes) - set(after.nodes) <= set(after.delta.nodes)
    assert set(after.buffers) - set(graph.buffers) <= set(after.delta.buffers)
    verdict = certify(graph, after)
    assert verdict.proved, [str(finding) for finding in verdict.findings]
    assert FoldParams().apply(after, PassContext(FoldParams())) is after
    assert_same_outputs(graph, after, seeds=(0, 1))


@given(PROGRAMS)
def test_other_passes_follow(graph: Graph) -> None:
    result = PassManager("fast").run(graph)
    assert not {record.verdict for record in result.summary.passes} & {"refuted", "unsupported"}
    assert_same_outputs(graph, result.graph, seeds=(0, 1))


@given(PROGRAMS)
def test_changes_can_be_made_one_by_one(graph: Graph) -> None:
    every = PassContext(FoldParams())
    FoldParams().apply(graph, every)
    after = FoldParams().apply(graph, PassContext(FoldParams(), limit=1))
    assert copies(graph) - copies(after) == min(every.statistics["copies_folded"], 1)
    assert certify(graph, after).proved


@given(PROGRAMS, st.data())
def test_certificates_prove_no_fold_that_computes_something_else(graph: Graph, data: st.DataObject) -> None:
    """Any reader of what was copied is bound to any constant: what is proved gives the same values."""
    constants = ("k0", "folded")
    copied = [node for node in graph if isinstance(node, MemcpyNode)]
    if not copied:
        return
    copy = data.draw(st.sampled_from(copied))
    edit = graph.edit()
    contents = data.draw(st.sampled_from([graph.buffers["k0"].contents, graph.buffers["k1"].contents[8:]]))  # type: ignore[index]
    edit.set_allocation(replace(graph.allocations["p"], name="folded"))
    edit.set_buffer(replace(graph.buffers["k0"], name="folded", allocation="folded", contents=contents))
    for node in graph:
        arguments = node.arguments if isinstance(node, KernelNode) else ()
        if isinstance(node, KernelNode) and data.draw(st.booleans()):
            new = [
                (p, BufferArgument(constants[1]) if getattr(a, "buffer", "") == copy.destination.buffer else a)
                for p, a in arguments
            ]
            edit.replace_node(replace(node, arguments=tuple(new)))
    edit.remove_node(copy.name)
    after = edit.commit()
    status = "invalid" if verify(after) else certify(graph, after).status
    event(status)
    if status == "proved":
        assert_same_outputs(graph, after, seeds=(0, 1, 2))


# Scalars


def scaled(
    value: int, *, offset: int = 0, bounds: tuple[int, int] | None = (0, 3), dtype: str = "i32"
) -> Callable[[], Graph]:
    def build() -> Graph:
        builder = GraphBuilder("scaled")
        builder.constant("k", dtype, [value])
        builder.input("x", "i32", 4)
        builder.state("m", "i32", (4, 4))
        builder.temp("n", dtype, 1)
        builder._buffers["n"] = replace(builder._buffers["n"], bounds=bounds)
        builder.copy("k", "n", node="upload")
        builder.launch(KERNELS["scale_row_i32"], node="scale", x="x", m="m", row=ScalarLoad("n", 0, offset))
        return builder.build()

    return build


def row_of(graph: Graph) -> str:
    node = FoldParams().apply(graph, PassContext(FoldParams())).nodes["scale"]
    assert isinstance(node, KernelNode)
    return str(node.argument("row"))


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (scaled(2), "ConstantArgument(value=2, name='')"),
        (scaled(2, offset=1, bounds=(0, 2)), "ConstantArgument(value=3, name='')"),
        (scaled(2, dtype="u8"), "ConstantArgument(value=2, name='')"),
        # A region depends on it, and nobody promised that it fits.
        (scaled(2, bounds=None), "ScalarLoad(buffer='params.0', index=0, offset=0)"),
        # What is copied breaks the promise of who declared the slot: the copy stays.
        (scaled(2, bounds=(0, 1)), "ScalarLoad(buffer='n', index=0, offset=0)"),
    ],
)
def test_loaded_scalars(build: Callable[[], Graph], argument: str) -> None:
    assert row_of(build()) == argument


def test_a_scalar_that_does_not_fit_its_parameter_stays_a_load() -> None:
    graph = scaled(2**40, bounds=None, dtype="i64")()
    assert row_of(graph).startswith("ScalarLoad(buffer='params.0'")


def test_rebinding_leaves_the_others_alone() -> None:
    graph = scaled(2)()
    (use,) = folds(graph)["upload"].uses
    edit = graph.edit()
    rebind(edit, use, BufferArgument("x"))
    node = edit.node("scale")
    assert isinstance(node, KernelNode)
    assert [name for name, _ in node.arguments] == ["x", "m", "row"]
    assert node.argument("x") == BufferArgument("x") == node.argument("row")
