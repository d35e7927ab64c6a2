"""``forerun.optimize`` on the fake driver: its clones, what it proves again, and what it measures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forerun
from forerun.captured.graph import digest_of
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.external.reasons import reasons_of
from forerun.frontends.captured import import_capture
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.capture import code_maker
from forerun.runtime.cuda.capture import session as sessions
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.timing import Timing
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.captured.samples import BLOCKS
from tests.runtime.cuda.capture.fake import FakeCuda, handle
from tests.runtime.cuda.capture.scale_graph import PIPELINE, cuda, live, pointer

__all__ = ["cuda"]


def test_optimize_makes_a_clone_with_certified_code(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = live(cuda, monkeypatch)
    unfit = iter(["it spills"])

    def make(text: Any, assembler: Any, body: Any, *rest: Any, **more: Any) -> MadeCode | str:
        return next(unfit, MadeCode(b"code", 1))

    monkeypatch.setattr(code_maker, "known_code", make)
    # What has no fit code keeps its own, and its full dependencies, which is proved once more.
    with forerun.optimize(captured, pipeline=CAPTURED_PIPELINE) as optimized:
        assert optimized.graph.count_dependencies()["programmatic"] == 0
        assert optimized.unfit == {"scale": "it spills"}
    with forerun.optimize(captured, pipeline=CAPTURED_PIPELINE) as optimized:
        assert optimized.graph.count_dependencies()["programmatic"] == 1
        assert str(optimized).startswith(
            "2 nodes, 2 kernels with new code; dependencies: 0 full (was 1), 1 programmatic"
        )
        optimized.replay(stream=4)
        assert cuda.calls[-1][0] == "cuGraphLaunch"
    assert captured.driver.handles.live() == ()
    cuda.edges.clear()
    with pytest.raises(forerun.Refuted, match="RAW race"):
        forerun.optimize(live(cuda, monkeypatch), pipeline=CAPTURED_PIPELINE)


def test_what_the_program_changes_is_proved_again(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = live(cuda, monkeypatch)
    monkeypatch.setattr(code_maker, "known_code", lambda *arguments, **more: MadeCode(b"code", 1))
    optimized = forerun.optimize(captured, pipeline=CAPTURED_PIPELINE)
    first = optimized.graph
    assert not optimized.refresh()
    assert optimized.graph is first
    # Another weight, for which the same is proved.
    cuda.add_kernel(2, 7, pointer("w0"), pointer("y"), pointer("z"))
    assert optimized.refresh()
    assert optimized.graph != first
    assert optimized.graph.count_dependencies()["programmatic"] == 1
    assert len([one for one in captured.driver.handles.live() if one.kind == "executable"]) == 1
    optimized.replay(stream=4)
    # A weight that the other node writes: what was proved does not hold, and nothing is loaded ahead of the wait.
    assert optimized.reasons == {"scale": "loaded after the wait: p1, which another node may write"}
    cuda.add_kernel(2, 7, pointer("y"), pointer("x"), pointer("z"))
    assert optimized.refresh()
    assert optimized.reasons == {"scale": "loaded after the wait: p0, which another node may write"}
    # A race is refused, and what was proved for another graph does not go on.
    cuda.edges.clear()
    with pytest.raises(forerun.Refuted, match="RAW race"):
        optimized.refresh()
    with pytest.raises(InvalidInput, match="is closed"):
        optimized.replay()
    with pytest.raises(InvalidInput, match="is closed"):
        optimized.refresh()
    assert captured.driver.handles.live() == ()


def test_each_part_of_a_graph_is_compared(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = live(cuda, monkeypatch)
    assert captured.changes() == ""

    def parts() -> Iterator[str]:
        cuda.nodes[1].params.gridDimX = 5
        yield "grid changed at n0"
        cuda.nodes[1].params.gridDimX = 4
        cuda.nodes[1].attributes = {"priority": -1}
        yield "attribute 'priority' changed at n0"
        cuda.nodes[1].attributes = {}
        cuda.edges[0][2].type = 1
        yield "edge kind changed from n0 to n1"
        cuda.edges[0][2].type = 0
        # The module is loaded again, with other code under the same name and handle.
        captured.session.recorder.images["other"] = b"other"
        captured.session.recorder.by_module[70] = "other"
        yield "code changed at n0, and 1 node more"
        captured.session.recorder.by_module[70] = digest_of(b"image")
        # The same code under another handle: it may be unloaded on its own.
        captured.session.recorder.by_module[80] = digest_of(b"image")
        cuda.add_function(8, "scale", [8, 8, 8])
        cuda.nodes[2].params.func = 8
        yield "module changed at n1"
        cuda.nodes[2].params.func = 7
        # Another node, which does the same: what was made of the one before cannot be found by it.
        before = dict(cuda.nodes), list(cuda.edges)
        cuda.nodes[3] = cuda.nodes.pop(2)
        cuda.edges[0] = (1, 3, cuda.edges[0][2])
        yield "the nodes are other ones, which do the same"
        cuda.nodes, cuda.edges = before

    for expected in parts():
        assert captured.changes() == expected
    assert captured.changes() == ""


def test_code_of_an_image_that_was_replaced_is_not_used(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is that of the image which was loaded before under the same name; the handle has another one."""
    captured = live(cuda, monkeypatch)
    monkeypatch.undo()
    session = captured.session
    session.recorder.images[digest_of(b"newer")] = b"newer"
    session.recorder.by_module[70] = digest_of(b"newer")
    session.compiled = SimpleNamespace(found=lambda stored: None)  # type: ignore[assignment]
    graph = session.graph(handle(3)).graph
    assert (graph.functions[0].image, graph.functions[0].text) == (digest_of(b"newer"), "")
    found = import_capture(graph)
    assert found.reasons["n0"].startswith("its PTX is not known")
    after = PassManager(PIPELINE).run(found.graph).graph
    assert after.count_dependencies()["programmatic"] == 0
    assert "its PTX is not known" in reasons_of(found, after)["scale"]


def test_optimize_takes_a_graph_or_a_callable_and_its_arguments(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="a graph takes no arguments, and 1 are given") as caught:
        forerun.optimize(live(cuda, monkeypatch), CAPTURED_PIPELINE)
    assert "pipeline=" in str(caught.value)
    monkeypatch.setattr(sessions, "_latest", None)
    with pytest.raises(Unsupported, match="were not seen when they were loaded"):
        forerun.optimize(lambda x: x, 1)


def test_optimize_puts_the_order_of_hazards_in_place_of_a_streams(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.add_kernel(3, 7, pointer("w1"), pointer("x"), pointer("x"))
    cuda.connect(2, 3)
    before = len(cuda.calls)
    with forerun.optimize(live(cuda, monkeypatch), pipeline="infer-dependencies") as optimized:
        assert sorted(one.pair for one in optimized.graph.dependencies) == [("n0", "n1"), ("n0", "n2")]
        assert optimized.made == {}
    removed, added = (
        [call[2:4] for call in cuda.calls[before:] if call[0] == f"cuGraph{verb}Dependencies"]
        for verb in ("Remove", "Add")
    )
    assert (removed, added) == ([([502], [503])], [([501], [503])])


def test_optimize_by_measuring(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path))
    captured = live(cuda, monkeypatch)
    monkeypatch.setattr(code_maker, "known_code", lambda *arguments, **more: MadeCode(b"code", 1))
    monkeypatch.setattr(Timing, "_block", lambda self, executable: float(kinds(cuda)))
    with forerun.optimize(captured) as optimized:
        assert optimized.search is not None
        # In this clock full dependencies are the fastest.
        assert optimized.graph == optimized.imported.graph
        assert optimized.search.seconds == 0
    copies = [call for call in cuda.calls if call[0] == "cuMemcpyDtoDAsync"]
    written = {BLOCKS["y"], BLOCKS["z"]}
    assert {call[2] for call in copies[:2]} == written == {call[1] for call in copies[-2:]}
    # The second time it is remembered; what is not understood is measured again.
    with forerun.optimize(captured) as again:
        assert again.search is not None
        assert (again.search.trials, again.search.choices) == ((), optimized.search.choices)
    (entry,) = (tmp_path / "captured").glob("*/*.entry")
    entry.write_bytes(b"damaged")
    with forerun.optimize(captured) as measured:
        assert measured.search is not None
        assert measured.search.trials
    assert captured.driver.handles.live() == ()


def kinds(cuda: FakeCuda) -> int:
    """How many programmatic edges the latest clone got."""
    latest = max(i for i, call in enumerate(cuda.calls) if call[0] == "cuGraphClone")
    return sum(call[0] == "cuGraphAddDependencies" for call in cuda.calls[latest:])
