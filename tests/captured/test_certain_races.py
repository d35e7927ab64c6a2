"""Which races of captured graphs are certain: those between accesses of which every byte is known to be touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forerun.captured import CapturedEdge, CapturedGraph, save_capture
from forerun.cli.app import app
from forerun.frontends import captured as frontend
from forerun.frontends.captured import import_capture
from forerun.ir.nodes import BufferArgument, KernelNode
from forerun.ir.semantics import check
from tests.captured.samples import BLOCKS, GUARDED, SCALE, SIZE, captured, kernel, launch

SCATTERED = ("ld.global.u32 %r2, [%rd4];", "mad.wide.s32 %rd8, %r2, 4, %rd3;", "st.global.u32 [%rd8], 1;")
"""Where it stores was loaded."""
SOMETIMES = ("ld.global.u32 %r2, [%rd4];", "setp.lt.s32 %p1, %r2, 0;", "@%p1 st.global.u32 [%rd6], 1;")
"""Whether it stores was loaded."""
ADDED = ("ld.global.u32 %r2, [%rd4];", "red.global.add.u32 [%rd6], %r2;")


def unordered(*texts: tuple[str, ...], opened: bool = True) -> CapturedGraph:
    """Kernels that may store to the same block, with no order between them."""
    functions = [kernel(f"k{number}", *lines) for number, lines in enumerate(texts)]
    return captured(functions, [launch(n, "w0", "x", "y") for n in range(len(texts))], [], opened=opened)


def status(graph: CapturedGraph) -> str:
    return check(import_capture(graph).graph).status


def partial(graph: CapturedGraph) -> list[bool]:
    """Of each buffer argument of the first node, whether only some bytes of it may be touched."""
    node = import_capture(graph).graph.nodes["n0"]
    assert isinstance(node, KernelNode)
    return [argument.partial for _, argument in node.arguments if isinstance(argument, BufferArgument)]


@pytest.mark.parametrize("lines", [SCALE, GUARDED])
def test_a_race_of_what_is_exactly_known_is_certain(lines: tuple[str, ...]) -> None:
    assert partial(unordered(lines, lines)) == [False] * 3
    assert status(unordered(lines, lines)) == "refuted"


@pytest.mark.parametrize("lines", [SCATTERED, SOMETIMES, ADDED])
def test_a_race_that_rests_on_limits_is_not(lines: tuple[str, ...]) -> None:
    assert partial(unordered(lines, lines)) == [False, True]
    assert status(unordered(lines, lines)) == "unsupported"
    assert status(unordered(lines, SCALE)) == status(unordered(SCALE, lines)) == "unsupported"


def test_kernels_of_which_nothing_is_known() -> None:
    assert status(unordered(SCALE, SCALE, opened=False)) == "unsupported"


def test_stores_to_different_halves_of_a_block() -> None:
    """Both are within limits, the whole block; no byte is known that both touch."""
    graph = unordered(SCATTERED, SCATTERED)
    nodes = (graph.nodes[0], launch(1, "w0", "x", (BLOCKS["y"] + SIZE // 2).to_bytes(8, "little")))
    assert status(replace(graph, nodes=nodes)) == "unsupported"


def test_what_would_leave_its_block_is_not_certain() -> None:
    graph = unordered(SCALE, SCALE)
    near = tuple(launch(n, "w0", "x", (BLOCKS["y"] + SIZE - 100).to_bytes(8, "little")) for n in range(2))
    assert partial(replace(graph, nodes=near)) == [False, False, True]
    assert status(replace(graph, nodes=near)) == "unsupported"


def test_a_store_that_may_not_be_there_hides_no_race() -> None:
    """Of three kernels the first and the last store for certain, the last after the one between them."""
    graph = replace(unordered(SCALE, SOMETIMES, SCALE), edges=(CapturedEdge(1, 2),))
    found = check(import_capture(graph).graph)
    assert {(race.earlier.node, race.later.node): race.certain for race in found.races} == {
        ("n0", "n1"): False,
        ("n0", "n2"): True,
    }
    assert found.status == "refuted"


def test_there_is_an_end_to_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend, "_MOST_NUMBERS", 0)
    assert partial(unordered(SCALE, SCALE)) == [True] * 3
    assert status(unordered(SCALE, SCALE)) == "unsupported"


@pytest.mark.parametrize(("lines", "expected", "words"), [(SCALE, 1, "refuted"), (SOMETIMES, 3, "unsupported")])
def test_the_exit_status_says_which(tmp_path: Path, lines: tuple[str, ...], expected: int, words: str) -> None:
    folder = save_capture(unordered(lines, lines), str(tmp_path / "capture"))
    found = CliRunner().invoke(app, ["check", str(folder)])
    assert found.exit_code == expected
    assert words in found.output
