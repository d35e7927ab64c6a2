"""Captured copies of launch parameters: which of them go, what a clone writes once, and what changes are noticed."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

import forerun
from forerun.external.folded_copies import folded_copies
from forerun.frontends.captured import import_capture
from forerun.runtime.cuda.capture.host_sources import MOST_BYTES
from tests.captured.samples import BLOCKS
from tests.runtime.cuda.capture.fake import FakeCuda
from tests.runtime.cuda.capture.test_reading_and_clones import live, pointer

HOST, DEVICE = 1, 2
KEPT: list[Any] = []


def copy_of(destination: int, data: bytes, *, kind: int = HOST) -> tuple[Any, Any]:
    """A copy of bytes of this process, and these."""
    source = ctypes.create_string_buffer(data, len(data))
    KEPT.append(source)
    address = ctypes.addressof(source)
    ends = {
        f"{side}{what}": 0
        for side in ("src", "dst")
        for what in ("MemoryType", "Host", "Device", "Pitch", "Height", "XInBytes", "Y", "Z")
    }
    ends |= {"srcMemoryType": kind, "srcHost": address, "srcDevice": address}
    ends |= {"dstMemoryType": DEVICE, "dstDevice": destination}
    return SimpleNamespace(**ends, WidthInBytes=len(data), Height=1, Depth=1), source


@pytest.fixture
def cuda() -> FakeCuda:
    """Two copies, each before the kernel that reads what it brings."""
    found = FakeCuda()
    found.add_function(7, "scale", [8, 8, 8])
    found.add(1, "MEMCPY", copy_of(BLOCKS["w0"], b"0123456789abcdef")[0])
    found.add_kernel(2, 7, pointer("w0"), pointer("x"), pointer("y"))
    found.add(3, "MEMCPY", copy_of(BLOCKS["w1"], b"fedcba98")[0])
    found.add_kernel(4, 7, pointer("w1"), pointer("y"), pointer("z"))
    for source in (1, 2, 3):
        found.connect(source, source + 1)
    return found


def folded(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    captured = live(cuda, monkeypatch)
    return folded_copies(import_capture(captured.graph), captured.host_sources)


def optimized(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, *, fold_params: bool = True) -> Any:
    return forerun.optimize(live(cuda, monkeypatch), pipeline="", fold_params=fold_params)


def calls(cuda: FakeCuda, name: str) -> list[Any]:
    return [call[1:] for call in cuda.calls if call[0] == name]


def test_values_are_recorded_when_the_graph_is_read(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    params, source = copy_of(BLOCKS["w0"], b"recorded")
    cuda.nodes[1].params = params
    captured = live(cuda, monkeypatch)
    ctypes.memset(source, 0, len(source))
    assert captured.host_sources == {0: b"recorded", 2: b"fedcba98"}


def test_what_is_not_recorded(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.nodes[1].params, _ = copy_of(BLOCKS["w0"], bytes(MOST_BYTES + 1))
    nowhere, _ = copy_of(BLOCKS["w1"], b"12345678")
    nowhere.srcHost = nowhere.srcDevice = 0x10000
    cuda.nodes[3].params = nowhere
    cuda.add(5, "MEMCPY", copy_of(BLOCKS["x"], b"1234")[0])
    cuda.nodes[5].params.srcDevice = BLOCKS["y"]
    cuda.nodes[5].params.srcMemoryType = DEVICE
    assert live(cuda, monkeypatch).host_sources == {}


def test_copies_go_and_their_bytes_are_written_once(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(cuda, monkeypatch) as graph:
        assert (graph.folded, graph.kept_copies, graph.changed_sources()) == (("n0", "n2"), {}, ())
        assert [call[0] for call in calls(cuda, "cuGraphDestroyNode")] == [501, 503]
        (removed,) = calls(cuda, "cuGraphRemoveDependencies")
        assert set(zip(removed[1], removed[2], strict=True)) == {(501, 502), (502, 503), (503, 504)}
        (added,) = calls(cuda, "cuGraphAddDependencies")
        assert (added[1], added[2]) == ([502], [504])
        assert calls(cuda, "cuMemcpyHtoDAsync") == []
        graph.replay(stream=9)
        graph.replay(stream=9)
        written = calls(cuda, "cuMemcpyHtoDAsync")
        assert [(call[0], call[2], call[3]) for call in written] == [(BLOCKS["w0"], 16, 9), (BLOCKS["w1"], 8, 9)]
        names = [call[0] for call in cuda.calls]
        assert names.index("cuMemcpyHtoDAsync") < names.index("cuGraphLaunch")


def test_nothing_is_folded_unless_it_is_asked_for(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(cuda, monkeypatch, fold_params=False) as graph:
        graph.replay(stream=9)
        assert graph.folded == ()
        assert calls(cuda, "cuGraphDestroyNode") == calls(cuda, "cuMemcpyHtoDAsync") == []


def test_a_changed_source_is_noticed_and_taken_over(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    params, source = copy_of(BLOCKS["w1"], b"old-old-")
    cuda.nodes[3].params = params
    with optimized(cuda, monkeypatch) as graph:
        graph.replay(stream=9)
        assert graph.refresh() is False
        source[:] = b"new-new-"  # type: ignore[index]
        assert graph.changed_sources() == ("n2",)
        update = graph.update()
        assert (update.way, update.reason) == ("parameters", "other bytes at the source of n2")
        assert graph.refresh() is False
        assert graph.changed_sources() == ()
        graph.replay(stream=9)
        assert graph.live.host_sources[2] == b"new-new-"
        assert len(calls(cuda, "cuMemcpyHtoDAsync")) == 4


def test_copies_that_are_left_out_may_change(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(cuda, monkeypatch) as graph:
        executable = graph._rewritten.clone.executable
        graph.replay(stream=9)
        cuda.nodes[3].params = copy_of(BLOCKS["w1"], b"another!")[0]  # from another place: no node is left of it
        assert graph.update().way == "parameters"
        assert graph._rewritten.clone.executable == executable
        assert calls(cuda, "cuGraphExecKernelNodeSetParams") == calls(cuda, "cuGraphExecUpdate") == []
        graph.replay(stream=9)
        assert [call[2] for call in calls(cuda, "cuMemcpyHtoDAsync")] == [16, 8, 16, 8]
        cuda.nodes[3].params = copy_of(BLOCKS["w0"], b"another!")[0]  # what the first copy writes, too: it must stay
        update = graph.update()
        assert (update.way, graph.folded) == ("instantiated", ())
        assert update.reason.endswith("other copies are left out")


def test_a_source_that_changed_is_nothing_to_graphs_that_repeat_their_copies(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, source = copy_of(BLOCKS["w1"], b"old-old-")
    cuda.nodes[3].params = params
    with optimized(cuda, monkeypatch, fold_params=False) as graph:
        source[:] = b"new-new-"  # type: ignore[index]
        assert graph.changed_sources() == ()
        assert graph.refresh() is False


def other_copy(cuda: FakeCuda) -> None:
    cuda.add(5, "MEMCPY", copy_of(BLOCKS["w0"] + 8, b"12345678")[0])
    cuda.connect(4, 5)


def other_fill(cuda: FakeCuda) -> None:
    cuda.add(5, "MEMSET", SimpleNamespace(dst=BLOCKS["w0"], pitch=8, value=7, elementSize=4, width=1, height=1))
    cuda.connect(4, 5)


def other_kernel(cuda: FakeCuda) -> None:
    cuda.add_kernel(5, 7, pointer("x"), pointer("x"), pointer("w0"))
    cuda.connect(4, 5)


def early_reader(cuda: FakeCuda) -> None:
    cuda.add_kernel(5, 7, pointer("w0"), pointer("x"), pointer("x"))
    cuda.edges.clear()
    for source, target in ((5, 1), (1, 2), (2, 3), (3, 4)):
        cuda.connect(source, target)


def host_call(cuda: FakeCuda) -> None:
    cuda.add(5, "HOST", SimpleNamespace(fn=1, userData=2))
    cuda.connect(4, 5)


def unknown_destination(cuda: FakeCuda) -> None:
    cuda.nodes[1].params.dstDevice = 0x7E0000000000


def black_box(cuda: FakeCuda) -> None:
    cuda.add_function(8, "closed", [8])
    cuda.add_kernel(5, 8, pointer("w0"))
    cuda.connect(4, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_copy, "'n4' may write its destination"),
        (other_fill, "'n4' may write its destination"),
        (other_kernel, "'n4' may write its destination"),
        (black_box, "'n4' may write its destination"),
        (early_reader, "'n4' may read its destination before"),
        (host_call, "a host function of the graph may write its source"),
        (unknown_destination, "its destination is not memory of the device"),
    ],
)
def test_copies_that_stay(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, change: Any, said: str) -> None:
    change(cuda)
    found = folded(cuda, monkeypatch)
    assert 0 not in found.contents
    assert said in found.kept["n0"]
