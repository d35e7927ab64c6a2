"""On a GPU: what another process captured and saved runs again, and made faster; and what the driver draws of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest

import forerun
from forerun.captured import CapturedEdge, load_capture
from forerun.captured.dot import captured_from_dot
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.frontends.captured import import_capture
from forerun.ir.graph import Dependency
from forerun.ir.types import DependencyKind
from forerun.runtime.cuda.capture.clone import CloneForm, Functions, made_graph
from forerun.runtime.cuda.capture.reading import nodes_and_edges
from forerun.runtime.cuda.capture.restored import RestoredCapture
from forerun.runtime.cuda.driver.driver import driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.capture.saving import INPUTS, NAMES, SIZE

pytestmark = pytest.mark.gpu
CHAIN = (CapturedEdge(0, 1), CapturedEdge(1, 2))
_VERBOSE = 1  # CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE


def saved(folder: Path, kind: str) -> tuple[dict[str, int], bytes]:
    """Addresses and result of a program that has ended."""
    line = [sys.executable, "-m", "tests.runtime.cuda.capture.saving", str(folder), kind]
    subprocess.run(line, check=True, timeout=300, cwd=Path(__file__).parents[4])
    places = dict(zip(NAMES, map(int, (folder / "places").read_text(encoding="utf-8").split()), strict=True))
    return places, (folder / "z").read_bytes()


_SAVED: list[Path] = []


def a_saved_graph(factory: pytest.TempPathFactory) -> Path:
    """One for all tests: another process captures and saves it."""
    if not _SAVED:
        _SAVED.append(factory.mktemp("saved") / "capture")
        saved(_SAVED[0], "reserved")
    return _SAVED[0]


def restored(folder: Path) -> RestoredCapture:
    """At the addresses that it had, or where the driver has these, elsewhere."""
    try:
        return forerun.restore(folder)
    except Unsupported:
        return forerun.restore(folder, elsewhere=True)


@pytest.mark.parametrize("kind", ["reserved", "allocated"])
def test_a_saved_graph_runs_again_and_faster(tmp_path: Path, kind: str) -> None:
    places, expected = saved(tmp_path / "capture", kind)
    assert any(expected)
    with restored(tmp_path / "capture") as live:
        for name, data in INPUTS.items():
            live.write(places[name], data)
        assert live.read(places["z"], SIZE) == bytes(SIZE)
        live.replay()
        assert live.read(places["z"], SIZE) == expected
        with forerun.optimize(live, pipeline=CAPTURED_PIPELINE) as faster:
            assert faster.graph.count_dependencies()["programmatic"] == 1, faster.unfit
            live.write(places["z"], bytes(SIZE))
            faster.replay()
            assert live.read(places["z"], SIZE) == expected
    assert driver().handles.live() == ()


_KINDS = list(product([None, DependencyKind.FULL, DependencyKind.PROGRAMMATIC], repeat=3))
"""Of the edges from the first node to the second, from the first to the third, and from the second to the third."""


@pytest.mark.parametrize("kinds", _KINDS, ids=lambda kinds: "-".join(str(kind or "none") for kind in kinds))
def test_a_clone_has_the_edges_that_were_meant(
    tmp_path_factory: pytest.TempPathFactory, kinds: tuple[DependencyKind | None, ...]
) -> None:
    """The driver gives edges another kind than was asked for if one call adds edges of several kinds."""
    captured = load_capture(a_saved_graph(tmp_path_factory))
    nodes = (*captured.nodes, captured.nodes[0])
    with forerun.restore(replace(captured, nodes=nodes, edges=CHAIN), elsewhere=True) as live:
        imported = import_capture(live.graph)
        edit = imported.graph.edit()
        meant = {pair: kind for pair, kind in zip(combinations(range(3), 2), kinds, strict=True) if kind is not None}
        for one in imported.graph.dependencies:
            edit.remove_dependency(*one.pair)
        for (source, target), kind in meant.items():
            edit.add_dependency(Dependency(f"n{source}", f"n{target}", kind))
        form = CloneForm(imported.graph, edit.commit(), imported.names, {})
        scope = Scope(live.driver)
        graph, made = made_graph(live, form, Functions(scope), scope)
        number = {int(node): form.numbers[name] for name, node in made.items()}
        nodes_of, edges = nodes_and_edges(live.driver, graph)
        found = {(number[int(nodes_of[a])], number[int(nodes_of[b])]): int(kind.type) for a, b, kind in edges}
        assert scope.release() is None
    assert found == {pair: int(kind is DependencyKind.PROGRAMMATIC) for pair, kind in meant.items()}


@pytest.mark.parametrize("flags", [0, _VERBOSE])
@pytest.mark.parametrize("port", [0, 1, 2])
def test_what_the_driver_draws_is_read(tmp_path: Path, flags: int, port: int) -> None:
    """An edge that the driver draws as programmatic must not be read as a full one."""
    saved(tmp_path / "capture", "reserved")
    with restored(tmp_path / "capture") as live:
        own = live.driver
        first, second = live.handles.nodes
        before, after = own.api.CUgraphEdgeData(), own.api.CUgraphEdgeData()
        after.type, after.from_port = int(bool(port)), port
        own.call("cuGraphRemoveDependencies", live.handles.graph, [first], [second], [before], 1)
        own.call("cuGraphAddDependencies", live.handles.graph, [first], [second], [after], 1)
        own.call("cuGraphDebugDotPrint", live.handles.graph, str(tmp_path / "graph.dot").encode(), flags)
    text = (tmp_path / "graph.dot").read_text(encoding="utf-8")
    print(text)
    drawn = captured_from_dot(text, "graph.dot")
    assert [node.kind for node in drawn.nodes] == ["kernel", "kernel"]
    assert {drawn.function_of(node).name for node in drawn.nodes} == {"scale"}
    (edge,) = drawn.edges
    draws_ports = "port" in text.lower() or "programmatic" in text.lower()
    assert (edge.kind == "full") == (port == 0 or not draws_ports), text
    if flags:
        assert drawn.nodes[0].block == (SIZE // 4, 1, 1)
