"""Which bytes of a block the nodes of a captured graph reach, and which nodes become independent by that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forerun.captured import CapturedGraph, MemoryRange, save_capture
from forerun.cli.app import app
from forerun.frontends import captured as frontend
from forerun.frontends.captured import import_capture
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.ir.semantics import check
from forerun.ir.verify import require_valid
from forerun.passes.infra.manager import PassManager
from tests.captured.samples import BLOCKS, GUARDED, POOL, SIZE, captured, kernel, launch, two_chains

GATHER = (*GUARDED[:-4], "ld.global.u32 %r2, [%rd5];", "mad.wide.s32 %rd6, %r2, 4, %rd3;", "st.global.u32 [%rd6], 1;")
"""Where it stores was loaded."""


def pairs(graph: CapturedGraph) -> list[tuple[str, str]]:
    """What depends on what once a stream's order is replaced by that of the hazards."""
    before = import_capture(graph).graph
    require_valid(before)
    after = PassManager("infer-dependencies,reduce-edges").run(before).graph
    assert check(after).proved
    assert certify(before, after).proved
    return sorted(dependency.pair for dependency in after.dependencies)


def reached(graph: CapturedGraph, node: str) -> list[tuple[int, int]]:
    """The bytes that the parameters of a node are bound to, counted from the first block."""
    found = import_capture(graph).graph
    made = found.nodes[node]
    assert isinstance(made, KernelNode)
    buffers = [found.buffers[a.buffer] for _, a in made.arguments if isinstance(a, BufferArgument)]
    return [(buffer.offset, buffer.size) for buffer in buffers]


def test_two_chains_in_one_pool_become_independent() -> None:
    assert pairs(two_chains()) == [("n0", "n1"), ("n2", "n3")]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1600, [("n0", "n1"), ("n2", "n3")]), (1599, [("n0", "n1"), ("n1", "n2"), ("n2", "n3")])],
)
def test_tensors_that_touch_and_tensors_that_share_a_byte(size: int, expected: list[tuple[str, str]]) -> None:
    found = pairs(two_chains(size=size))
    assert [pair for pair in expected if pair not in found] == []
    assert (("n1", "n2") in found) is (size == 1599)


def test_bytes_that_are_used_again_keep_their_order() -> None:
    assert pairs(two_chains(tensors=((0, 1), (2, 0)))) == [("n0", "n1")]
    assert pairs(two_chains(tensors=((0, 1), (2, 1)))) == [("n0", "n1")]
    assert pairs(two_chains(tensors=((0, 1), (0, 2)))) == []


def test_what_is_not_known_is_the_whole_block() -> None:
    graph = two_chains(*GATHER)
    assert pairs(graph) == [("n0", "n1"), ("n1", "n2"), ("n2", "n3")]
    pool = BLOCKS["x"] - BLOCKS["w0"]
    assert reached(graph, "n1") == [(pool + 2048, 1600), (pool, SIZE)]


def test_launches_of_one_function_share_a_kernel() -> None:
    graph = two_chains()
    small = replace(graph.nodes[0], grid=(1, 1, 1), block=(64, 1, 1))
    graph = replace(graph, nodes=(small, *graph.nodes[1:]))
    assert len(import_capture(graph).graph.kernels) == 1
    assert [size for _, size in reached(graph, "n0")] == [256] * 3
    assert [size for _, size in reached(graph, "n1")] == [1600] * 3


def test_a_range_ends_where_its_block_ends() -> None:
    """An access stays in the block that its pointer points into."""
    nodes = [launch(0, "w0", "x", (BLOCKS["y"] + SIZE - 100).to_bytes(8, "little"))]
    graph = captured([kernel("scale", *GUARDED)], nodes)
    assert reached(graph, "n0")[2] == (BLOCKS["y"] - BLOCKS["w0"] + SIZE - 100, 100)


def test_scalar_parameters_count() -> None:
    scaled = ("ld.param.u64 %rd8, [n];", "cvt.u32.u64 %r6, %rd8;", "mad.lo.s32 %r1, %r1, 1, %r6;",
              "mul.wide.s32 %rd7, %r1, 4;", "add.s64 %rd6, %rd3, %rd7;", "st.global.u32 [%rd6], %r1;")  # fmt: skip
    head = ", ".join(f".param .u64 .ptr .global {name}" for name in "wxy") + ", .param .u64 n"
    nodes = [launch(0, "w0", "x", "y", number.to_bytes(8, "little")) for number in (0, 128, 1 << 31)]
    graph = captured([kernel("scale", *scaled, parameters=head)], nodes)
    start = BLOCKS["y"] - BLOCKS["w0"]
    assert reached(graph, "n0") == [(start, 512)]
    assert reached(graph, "n1") == [(start + 512, 512)]
    assert reached(graph, "n2") == [(start, SIZE)]
    assert frontend.import_capture(graph).weighed == dict.fromkeys(("n0", "n1", "n2"), frozenset({3}))


def test_a_block_that_is_called_like_a_part_of_another() -> None:
    graph = two_chains()
    start = POOL - BLOCKS["w0"]
    names = {BLOCKS["z"]: "x_0_1600", BLOCKS["y"]: "x_2048_1600"}
    named = tuple(replace(one, name=names.get(one.address, one.name)) for one in graph.memory)
    assert reached(replace(graph, memory=named), "n0")[1:] == [(start, 1600), (start + 2048, 1600)]
    assert pairs(replace(graph, memory=named)) == [("n0", "n1"), ("n2", "n3")]


def test_memory_that_begins_at_the_address_0() -> None:
    below = (*GUARDED[:-1], "st.global.u32 [%rd6+-4096], 1;")
    graph = captured([kernel("scale", *below)], [launch(0, *[(8).to_bytes(8, "little")] * 3)])
    graph = replace(graph, memory=(MemoryRange(0, SIZE),))
    assert reached(graph, "n0")[2] == (0, SIZE)


def test_there_is_an_end_to_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend, "_MOST_INSTRUCTIONS", -1)
    assert [size for _, size in reached(two_chains(), "n0")] == [SIZE] * 3


def test_opt_makes_the_nodes_of_a_folder_independent(tmp_path: Path) -> None:
    save_capture(two_chains(), tmp_path / "capture")
    after = tmp_path / "after.fir"
    command = ["opt", str(tmp_path / "capture"), "--pipeline", "infer-dependencies,insert-pdl", "--output", str(after)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    text = after.read_text()
    assert text.count("after #n") == 2
    assert text.count("programmatic") == 2
    assert CliRunner().invoke(app, ["check", str(after)]).exit_code == 0
