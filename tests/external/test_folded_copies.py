"""Captured copies of launch parameters: which of them go, what a clone writes once, and what changes are noticed."""

from __future__ import annotations

import ctypes
import json
import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forerun
from forerun.captured import load_capture
from forerun.captured.graph import MOST_SOURCE_BYTES
from forerun.cli import main
from forerun.external.folded_copies import folded_copies
from forerun.external.source_advice import advice_of_copies, changed_between
from forerun.frontends.captured import import_capture
from tests.captured.samples import BLOCKS, SIZE
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
    cuda.nodes[1].params, _ = copy_of(BLOCKS["w0"], bytes(MOST_SOURCE_BYTES + 1))
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


# Who may write a source


class Pinned(FakeCuda):
    """A driver that gave out all memory of the host."""

    def cuPointerGetAttribute(self, name: str, address: int) -> tuple[int, ...]:  # noqa: N802
        error, kind = super().cuPointerGetAttribute(name, address)
        return (0, HOST) if error else (error, kind)

    def cuMemGetAddressRange(self, address: int) -> tuple[int, int, int]:  # noqa: N802
        known = any(begin <= address < begin + SIZE for begin in BLOCKS.values())
        return super().cuMemGetAddressRange(address) if known else (1, 0, 0)


def mapped(flags: int, protection: int, data: bytes = b"0123456789abcdef") -> int:
    """The address of a new page with some bytes, which are there before the protection is."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    page[: len(data)] = data
    KEPT.append(page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, protection) == 0
    return address


def writers(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> str:
    return live(cuda, monkeypatch).graph.host_sources[0].writers


@pytest.mark.parametrize(
    ("flags", "protection", "expected"),
    [
        (mmap.MAP_PRIVATE, mmap.PROT_READ, "nobody"),
        (mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, "program"),
        (mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, "processes"),
        (mmap.MAP_SHARED, mmap.PROT_READ, "processes"),
    ],
)
def test_the_system_is_asked_who_may_write_a_source(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, flags: int, protection: int, expected: str
) -> None:
    cuda.nodes[1].params.srcHost = cuda.nodes[1].params.srcDevice = mapped(flags, protection)
    assert writers(cuda, monkeypatch) == expected
    found = folded(cuda, monkeypatch)
    assert (0 in found.contents) == (expected != "processes")
    if expected == "processes":
        assert found.kept == {"n0": "other processes may write its source"}


def test_a_source_in_two_mappings_is_written_by_those_of_either(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half of a source begins a page that is read-only, or not."""
    page = mmap.mmap(-1, 2 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    KEPT.append(page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    cuda.nodes[1].params.srcHost = cuda.nodes[1].params.srcDevice = start + mmap.PAGESIZE - 8
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), mmap.PAGESIZE, mmap.PROT_READ) == 0
    assert writers(cuda, monkeypatch) == "program"
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), 2 * mmap.PAGESIZE, mmap.PROT_READ) == 0
    assert writers(cuda, monkeypatch) == "nobody"


def test_the_driver_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Pinned()
    cuda.add_function(7, "scale", [8, 8, 8])
    cuda.add(1, "MEMCPY", copy_of(BLOCKS["w0"], b"0123456789abcdef")[0])
    cuda.add_kernel(2, 7, pointer("w0"), pointer("x"), pointer("y"))
    cuda.connect(1, 2)
    assert writers(cuda, monkeypatch) == "kernels"


def test_where_no_system_tells(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forerun.runtime.cuda.capture.host_sources._OWN_MAPPINGS", Path("/nowhere"))
    assert writers(cuda, monkeypatch) == "program"


# What a check tells


def said(found: Any) -> list[tuple[str, str, str]]:
    return [(one.code, one.severity.value, one.location.name) for one in found]


def test_a_check_tells_who_may_write_and_what_changed(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.nodes[1].params.srcHost = mapped(mmap.MAP_PRIVATE, mmap.PROT_READ)
    params, source = copy_of(BLOCKS["w1"], b"old-old-")
    cuda.nodes[3].params = params
    with optimized(cuda, monkeypatch) as graph:
        assert said(graph.check()) == [("A8", "note", "n2")]
        assert "nobody but the program can write its source" in graph.check()[0].message
        source[:] = b"new-new-"  # type: ignore[index]
        assert said(graph.check()) == [("A9", "warning", "n2")]
        assert graph.refresh() is True
        assert said(graph.check()) == [("A8", "note", "n2")]
        cuda.add(5, "EMPTY")
        assert said(graph.check()) == [("A8", "note", "n2"), ("A10", "warning", "captured")]
    with pytest.raises(forerun.support.diagnostics.InvalidInput, match="the graph is closed"):
        graph.check()


def test_a_graph_that_repeats_its_copies_rests_on_no_source(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with optimized(cuda, monkeypatch, fold_params=False) as graph:
        assert graph.check() == ()


def advised(capsys: pytest.CaptureFixture[str], *folders: Path) -> list[tuple[str, str, str]]:
    """What ``forerun check`` says of copies; and that text and JSON say the same."""
    capsys.readouterr()
    main(["check", *map(str, folders), "--json"])
    found = [one for one in json.loads(capsys.readouterr().out).get("advice", ()) if one["code"] in ("A8", "A9")]
    main(["check", *map(str, folders)])
    shown = " ".join(capsys.readouterr().out.replace("|", " ").split())
    assert all(one["message"] in shown for one in found)
    return [(one["code"], one["where"], one["message"]) for one in found]


def test_the_folder_of_a_captured_graph_tells_what_changed(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host_call(cuda)
    params, source = copy_of(BLOCKS["w1"], b"old-old-")
    cuda.nodes[3].params = params
    captured = live(cuda, monkeypatch)
    first = captured.save(tmp_path / "first")
    assert load_capture(first) == captured.graph
    why = "and must: a host function of the graph may write its source"
    copies = [(f"n{at}", f"each replay copies {size} bytes from the host, {why}") for at, size in ((0, 16), (2, 8))]
    assert advised(capsys, first) == [("A8", *copy) for copy in copies]
    source[:] = b"new-new-"  # type: ignore[index]
    second = captured.save(tmp_path / "second")
    changed = ("A9", "n2", "its source does not hold any more what it held when it was captured")
    assert advised(capsys, second) == [("A8", *copies[0]), changed]
    third = live(cuda, monkeypatch).save(tmp_path / "third")
    assert advised(capsys, third) == [("A8", *copy) for copy in copies]
    assert advised(capsys, first, second) == []
    assert advised(capsys, first, third) == [("A9", "n2", "its source holds other bytes than in the first graph")]


def test_advice_on_copies_that_could_go(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = import_capture(live(cuda, monkeypatch).graph)
    found = list(advice_of_copies(imported))
    assert said(found) == [("A8", "note", "n0"), ("A8", "note", "n2")]
    assert all("fold_params=True" in one.hint for one in found)
    assert list(changed_between(imported.captured, imported)) == []


def test_a_graph_without_copies_has_no_advice_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = import_capture(forerun.captured.CapturedGraph(()))
    assert list(advice_of_copies(imported)) == list(changed_between(imported.captured, imported)) == []
