"""Graphs are read node by node, and cloned with other code and edges, all else as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import forerun
from forerun.captured import CapturedEdge
from forerun.captured.graph import digest_of
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.frontends.captured import import_capture
from forerun.ir.graph import Dependency
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import DependencyKind
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.capture import code_maker
from forerun.runtime.cuda.capture import session as sessions
from forerun.runtime.cuda.capture.assembled import MadeCode
from forerun.runtime.cuda.capture.clone import CloneForm, clone_with, make_clone
from forerun.runtime.cuda.capture.code_maker import CodeMaker
from forerun.runtime.cuda.capture.images import ImageRecorder
from forerun.runtime.cuda.capture.nvrtc_texts import NvrtcRecorder
from forerun.runtime.cuda.capture.reading import kernel_function
from forerun.runtime.cuda.capture.session import CaptureSession
from forerun.runtime.cuda.driver.driver import Driver
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.captured.samples import BLOCKS
from tests.runtime.cuda.capture.fake import FakeCuda, handle
from tests.runtime.cuda.capture.scale_graph import PIPELINE, TEXT, cuda, live, pointer

__all__ = ["cuda"]


def test_nodes_edges_functions_and_memory(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.edges.clear()
    cuda.connect(1, 2, kind=1, port=1)
    graph = live(cuda, monkeypatch).graph
    first, second = graph.nodes
    assert (first.kind, first.grid, first.block) == ("kernel", (4, 1, 1), (128, 1, 1))
    assert second.parameters == (pointer("w1"), pointer("y"), pointer("z"))
    assert graph.edges == (CapturedEdge(0, 1, "programmatic", 1),)
    (function,) = graph.functions
    assert (function.name, function.image, function.text) == ("scale", digest_of(b"image"), digest_of(TEXT))
    assert function.parameters == ((0, 8), (8, 8), (16, 8))
    assert [memory.address for memory in graph.memory] == sorted(BLOCKS.values())
    assert graph.machine["gpu"] == "NVIDIA Fake"
    assert graph.remarks == ()


def test_functions_of_libraries_have_kernels_in_place_of_functions(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda.add_function(105, "library", [8])
    cuda.add_kernel(3, 0, pointer("x"), kern=5)
    graph = live(cuda, monkeypatch).graph
    assert graph.function_of(graph.nodes[2]).name == "library"
    assert graph.function_of(graph.nodes[2]).image == ""
    assert graph.remarks == ("the images of 1 of 2 functions were not seen",)


def test_functions_outlive_the_parameters_that_they_were_read_from() -> None:
    api = pytest.importorskip("cuda.bindings.driver", reason="needs the bindings; no driver")
    parameters = api.CUDA_KERNEL_NODE_PARAMS()
    parameters.func = api.CUfunction(init_value=0x1234)
    function = kernel_function(SimpleNamespace(api=api), parameters)  # type: ignore[arg-type]
    del parameters
    assert int(function) == 0x1234


def test_attributes_and_what_cannot_be_made_again(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.nodes[1].attributes = {"cooperative": 1, "cluster": (2, 1, 1), "priority": -5}
    cuda.nodes[2].attributes = {"updatable": 1}
    cuda.add_function(8, "packed", [8])
    cuda.add_kernel(3, 8)
    cuda.add(4, "CONDITIONAL")
    cuda.add(5, "EMPTY")
    first, second, packed, conditional, empty = live(cuda, monkeypatch).graph.nodes
    assert first.attributes == {"cooperative": 1, "cluster_x": 2, "cluster_y": 1, "cluster_z": 1, "priority": -5}
    assert second.unsupported == ("device code may change it",)
    assert "packed block" in packed.unsupported[0]
    assert "not made again" in conditional.unsupported[0]
    assert (empty.kind, empty.unsupported) == ("empty", ())
    cuda.unreadable.add("CU_LAUNCH_ATTRIBUTE_PRIORITY")
    assert (
        "its priority cannot be read (CUDA_ERROR_INVALID_VALUE)" in live(cuda, monkeypatch).graph.nodes[0].unsupported
    )


def test_child_graphs_are_read_and_kept(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.add_function(8, "inner", [8, 8, 8])
    cuda.add_kernel(3, 7, pointer("w0"), pointer("z"), pointer("x"))
    cuda.add_kernel(4, 8, pointer("w0"), pointer("x"), pointer("x"))
    cuda.connect(3, 4, kind=1, port=1)
    cuda.add_child(5, 3, 4)
    cuda.connect(2, 5)
    captured = live(cuda, monkeypatch)
    assert [node.kind for node in captured.graph.nodes] == ["kernel", "kernel", "graph"]
    body = captured.graph.nodes[2].body
    assert body is not None
    assert [body.function_of(node).name for node in body.nodes] == ["scale", "inner"]
    assert body.functions == captured.graph.functions
    assert body.edges == (CapturedEdge(0, 1, "programmatic", 1),)
    monkeypatch.setattr(code_maker, "known_code", lambda *arguments, **more: MadeCode(b"code", 1))
    with pytest.raises(forerun.Refuted, match="RAW race"):
        forerun.optimize(captured, pipeline=CAPTURED_PIPELINE)  # the first inside has no wait, nor has the second
    cuda.edges[1] = (3, 4, type(cuda.edges[1][2])())
    with forerun.optimize(live(cuda, monkeypatch), pipeline=CAPTURED_PIPELINE) as optimized:
        assert [str(one.kind) for one in optimized.graph.dependencies] == ["programmatic", "full"]
        assert optimized.graph.nodes["n2"] == optimized.imported.graph.nodes["n2"]


def ends(kind: int, **more: int) -> dict[str, int]:
    found = {}
    for side, name in (("src", "x"), ("dst", "y")):
        found |= {f"{side}MemoryType": kind, f"{side}Device": BLOCKS[name], f"{side}Host": 5, f"{side}Pitch": 64}
        found |= {f"{side}Height": 2, f"{side}XInBytes": 4, f"{side}Y": 1, f"{side}Z": 0}
    return {**found, "WidthInBytes": 16, "Height": 2, "Depth": 1, **more}


def test_copies_and_fills(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.add(3, "MEMCPY", SimpleNamespace(**ends(2)))
    cuda.add(4, "MEMCPY", SimpleNamespace(**ends(3)))
    cuda.add(5, "MEMSET", SimpleNamespace(dst=BLOCKS["z"], pitch=64, value=7, elementSize=4, width=4, height=2))
    _, _, copy, array, fill = live(cuda, monkeypatch).graph.nodes
    assert copy.transfer is not None
    assert (copy.transfer.source, copy.transfer.destination) == (BLOCKS["x"] + 68, BLOCKS["y"] + 68)
    assert (copy.transfer.width, copy.transfer.rows, copy.transfer.extent) == (16, 2, 80)
    assert not copy.transfer.is_contiguous
    assert "array" in array.unsupported[0]
    assert fill.transfer is not None
    assert (fill.transfer.source, fill.transfer.width, fill.transfer.extent) == (None, 16, 80)


def test_a_clone_has_other_code_and_edges(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.attributes[7] = {"CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES": 65536}
    captured = live(cuda, monkeypatch)
    imported = import_capture(captured.graph)
    after = PassManager(PIPELINE).run(imported.graph).graph
    made = {after.nodes[name].kernel: MadeCode(name.encode(), 1) for name in imported.names}  # type: ignore[union-attr]
    clone = make_clone(captured, imported.graph, after, imported.names, made)
    loaded = [call for call in cuda.calls if call[0] == "cuModuleLoadData"]
    assert [call[1] for call in loaded] == [b"n0", b"n1"]
    set_params = [call for call in cuda.calls if call[0] == "cuGraphKernelNodeSetParams"]
    assert [call[1] for call in set_params] == [501, 502]
    assert set_params[0][2].kernelParams == cuda.nodes[1].params.kernelParams
    assert set_params[0][2].func != set_params[1][2].func
    assert len([call for call in cuda.calls if call[0] == "cuFuncSetAttribute"]) == 2
    removed = next(call for call in cuda.calls if call[0] == "cuGraphRemoveDependencies")
    added = next(call for call in cuda.calls if call[0] == "cuGraphAddDependencies")
    assert removed[2:4] == added[2:4] == ([501], [502])
    assert (removed[4][0].type, added[4][0].type, added[4][0].from_port) == (0, 1, 1)
    clone.replay(stream=9)
    assert cuda.calls[-1] == ("cuGraphLaunch", clone.executable, 9)
    clone.close()
    clone.close()
    assert captured.driver.handles.live() == ()
    with pytest.raises(InvalidInput, match="is closed"):
        clone.replay()


def test_edges_of_each_kind_are_changed_in_a_call_of_their_own(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver gives all edges of a call the first one's kind: full ones would become programmatic unseen."""
    cuda.add_kernel(3, 7, pointer("w0"), pointer("y"), pointer("x"))
    cuda.connect(2, 3)
    captured = live(cuda, monkeypatch)
    imported = import_capture(captured.graph)
    edit = imported.graph.edit()
    edit.remove_dependency("n1", "n2")
    edit.set_dependency(Dependency("n0", "n1", DependencyKind.PROGRAMMATIC))
    edit.add_dependency(Dependency("n0", "n2"))
    clone_with(captured, CloneForm(imported.graph, edit.commit(), imported.names, {})).close()
    removed, *added = [call for call in cuda.calls if call[0].endswith("Dependencies")]
    assert removed[2:4] == ([501, 502], [502, 503])
    assert [(call[2:4], [one.type for one in call[4]]) for call in added] == [
        (([501], [502]), [1]),
        (([501], [503]), [0]),
    ]


def test_a_graph_that_was_reset_is_not_replayed(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = [3]

    class Graph:
        def raw_cuda_graph(self) -> int:
            if not raw:
                raise RuntimeError("reset")
            return raw[0]

    captured = live(cuda, monkeypatch, Graph())
    imported = import_capture(captured.graph)
    with_clone = make_clone(captured, imported.graph, imported.graph, imported.names, {})
    with_clone.replay(stream=9)
    for now in ([4], []):
        raw[:] = now
        with pytest.raises(InvalidInput, match="was reset"):
            with_clone.replay(stream=9)
    with_clone.close()


@pytest.mark.parametrize("attribute", ["handle", "graph"])  # as cuda.core and CuPy name it
def test_other_graphs_that_were_closed_are_not_replayed(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    source = SimpleNamespace(**{attribute: 3})
    monkeypatch.setattr(code_maker, "known_code", lambda *arguments, **more: MadeCode(b"code", 1))
    with forerun.optimize(live(cuda, monkeypatch, source), pipeline=CAPTURED_PIPELINE.partition(",")[0]) as optimized:
        optimized.replay(stream=9)
        for now in (4, None):
            setattr(source, attribute, now)
            with pytest.raises(InvalidInput, match="was reset"):
                optimized.replay(stream=9)


def test_clones_are_instantiated_as_torch_does(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = live(cuda, monkeypatch)
    imported = import_capture(captured.graph)
    make_clone(captured, imported.graph, imported.graph, imported.names, {}).close()
    (flags,) = [call[2] for call in cuda.calls if call[0] == "cuGraphInstantiate"]
    assert flags == 0b1001  # AUTO_FREE_ON_LAUNCH, USE_NODE_PRIORITY


@pytest.mark.parametrize("is_inside", [False, True])
@pytest.mark.parametrize("kind", ["CONDITIONAL", "updatable"])
def test_graphs_that_are_not_changed(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, kind: str, is_inside: bool
) -> None:
    if kind == "updatable":
        cuda.add_kernel(3, 7, pointer("w0"), pointer("x"), pointer("x"))
        cuda.nodes[3].attributes = {"updatable": 1}
    else:
        cuda.add(3, kind)
    if is_inside:
        cuda.add_child(4, 3)
    captured = live(cuda, monkeypatch)
    imported = import_capture(captured.graph)
    with pytest.raises(Unsupported, match="checked, but not changed"):
        make_clone(captured, imported.graph, imported.graph, imported.names, {})


def test_what_fails_half_way_gives_all_back(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = live(cuda, monkeypatch)
    imported = import_capture(captured.graph)
    after = PassManager(PIPELINE).run(imported.graph).graph
    with pytest.raises(KeyError):
        make_clone(captured, imported.graph, after, imported.names, {})
    assert captured.driver.handles.live() == ()


def test_each_body_of_a_function_is_made_once(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = live(cuda, monkeypatch)
    imported = import_capture(captured.graph)
    after = PassManager(PIPELINE).run(imported.graph).graph
    made: list[str] = []

    def make(text: Any, assembler: Any, body: Any, *rest: Any, **more: Any) -> MadeCode | str:
        made.append(body.name)
        return "it spills" if "hoisted" in body.name else MadeCode(b"code", 0)

    monkeypatch.setattr(code_maker, "known_code", make)
    maker = CodeMaker(captured, imported.graph, imported.names)
    code = maker.code(after)
    assert sorted(made) == ["scale.pdl", "scale.pdl2.hoisted"]
    assert code.made.keys() == {"scale.pdl"}
    assert code.unfit == {0: "it spills"}
    assert maker.code(after) == code
    assert len(made) == 2
    # A graph may give the names to each other's bodies: code goes by the body.
    first, second = "@scale.pdl(", "@scale.pdl2.hoisted("
    text = print_graph(after).replace(first, "@mine(").replace(second, first).replace("@mine(", second)
    swapped = maker.code(parse_graph(text))
    assert len(made) == 2
    assert swapped.made == {"scale.pdl2.hoisted": code.made["scale.pdl"]}
    assert swapped.unfit == code.unfit


def test_a_late_session_says_what_is_missing(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    session = CaptureSession(ImageRecorder(), NvrtcRecorder(), Driver(cuda), started_late=True)
    (remark,) = session.graph(handle(3)).graph.remarks
    assert "enter forerun.capture() before the program first uses CUDA" in remark


def test_whether_cuda_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    api = SimpleNamespace(cuDeviceGetCount=lambda: (3, 0))
    assert not sessions._is_at_work(Driver(api))
    for active in (0, 1):
        api = SimpleNamespace(
            cuDeviceGetCount=lambda: (0, 1), cuDeviceGet=lambda index: (0, index),
            cuDevicePrimaryCtxGetState=lambda device, active=active: (0, 0, active),
        )  # fmt: skip
        assert sessions._is_at_work(Driver(api)) == bool(active)


def test_what_the_latest_session_saw_is_known_after_it(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_latest", None)
    with pytest.raises(InvalidInput, match="str is not a CUDA graph"):
        sessions.read_graph("graph")
    with pytest.raises(Unsupported, match="were not seen when they were loaded") as caught:
        sessions.read_graph(handle(3))
    assert "forerun.capture()" in str(caught.value)
    latest = CaptureSession(ImageRecorder(), NvrtcRecorder(), Driver(cuda), started_late=False)
    monkeypatch.setattr(sessions, "_latest", latest)
    found = sessions.read_graph(handle(3))
    assert len(found.graph.nodes) == 2
    assert sessions.read_graph(found) is found
