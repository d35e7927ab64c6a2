"""On a GPU: what another process captured and saved runs again, and made faster; and what the driver draws of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import forerun
from forerun.captured.dot import captured_from_dot
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.runtime.cuda.capture.restored import RestoredCapture
from forerun.runtime.cuda.driver.driver import driver
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.capture.saving import INPUTS, NAMES, SIZE

pytestmark = pytest.mark.gpu
_VERBOSE = 1  # CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE


def saved(folder: Path, kind: str) -> tuple[dict[str, int], bytes]:
    """Addresses and result of a program that has ended."""
    line = [sys.executable, "-m", "tests.runtime.cuda.capture.saving", str(folder), kind]
    subprocess.run(line, check=True, timeout=300, cwd=Path(__file__).parents[4])
    places = dict(zip(NAMES, map(int, (folder / "places").read_text(encoding="utf-8").split()), strict=True))
    return places, (folder / "z").read_bytes()


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
