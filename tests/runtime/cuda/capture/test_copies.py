"""What a copy from the host brings is read when it is captured; what happens to its source afterwards is told."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forerun
from forerun.captured.graph import MOST_SOURCE_BYTES
from forerun.external.source_advice import advice_of_copies
from forerun.frontends.captured import import_capture
from forerun.runtime.cuda.capture.copies import CopyRecorder
from forerun.runtime.cuda.capture.cupti import CallbackData, Subscription
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.driver.driver import Driver
from tests.captured.samples import BLOCKS
from tests.runtime.cuda.capture.fake import FakeCuda
from tests.runtime.cuda.capture.scale_graph import live, pointer

HOST, DEVICE = 1, 2
GRAPH, STREAM, PER_THREAD, CAPTURE = 3, 0x5000, 2, 17
HTOD, UNIFIED, BATCH, OF_THREAD = 277, 306, 796, 421
ADD_COPY, ADD, SET_COPY, DESTROY, DESTROY_NODE = 504, 723, 520, 517, 522

# The parameters of calls, as generated_cuda_meta.h has them.
LINEAR = ("dstDevice", "srcHost", "ByteCount", "hStream")
BOX = ("pCopy", "hStream")
BATCHED = ("dsts", "srcs", "sizes", "count", "attrs", "attrsIdxs", "numAttrs", "hStream")
OLD_BATCHED = (*BATCHED[:-1], "failIdx", "hStream")
WAYS: list[tuple[int, Sequence[str]]] = [
    (HTOD, LINEAR), (421, LINEAR), (UNIFIED, LINEAR), (418, LINEAR), (289, BOX), (424, BOX), (291, BOX), (425, BOX),
    (776, OLD_BATCHED), (777, OLD_BATCHED), (BATCH, BATCHED), (797, BATCHED),
]  # fmt: skip


class CapturingCuda(FakeCuda):
    """A driver whose streams capture, or do not."""

    def __init__(self) -> None:
        super().__init__()
        self.capturing: dict[int, tuple[int, list[int]]] = {}
        """Of each stream that captures: the number of the capture, and what its next node would depend on."""
        self.asked: list[int] = []

    def cuStreamGetCaptureInfo(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        self.asked.append(stream)
        if stream not in self.capturing:
            return 0, 0, 0, None, [], [], 0
        number, nodes = self.capturing[stream]
        return 0, 1, number, GRAPH, nodes, [], len(nodes)


class Program:
    """A program that copies, and CUPTI, which tells of its calls."""

    def __init__(self) -> None:
        self.cuda = CapturingCuda()
        self.cuda.add_function(7, "scale", [8, 8, 8])
        self.recorder = CopyRecorder(Driver(self.cuda))
        self.subscription = Subscription(self.recorder)
        self.cuda.capturing[STREAM] = CAPTURE, []

    def call(self, number: int, *parameters: int, result: int = 0) -> None:
        """What CUPTI tells of a call, before and after it."""
        words, status = (ctypes.c_uint64 * len(parameters))(*parameters), ctypes.c_int(result)
        for site in (0, 1):
            data = CallbackData(site, b"", ctypes.addressof(words), ctypes.addressof(status))
            self.subscription.called(None, 1, number, ctypes.addressof(data))

    def node(self, handle: int, source: int, size: int, kind: int = HOST) -> None:
        """A copy to a block, as the driver keeps it."""
        ends = {
            f"{side}{what}": 0
            for side in ("src", "dst")
            for what in ("MemoryType", "Host", "Device", "Pitch", "Height", "XInBytes", "Y", "Z")
        }
        ends |= {"srcMemoryType": kind, "srcHost": source, "srcDevice": source, "dstMemoryType": DEVICE}
        params = SimpleNamespace(**ends | {"dstDevice": BLOCKS["w0"]}, WidthInBytes=size, Height=1, Depth=1)
        self.cuda.add(handle, "MEMCPY", params)

    def copy(self, handle: int, source: int, size: int, stream: int = STREAM, number: int = HTOD, **more: int) -> None:
        """A copy on a stream: where that captures, it becomes a node."""
        if stream in self.cuda.capturing and not more.get("result"):
            self.node(handle, source, size)
            self.cuda.capturing[stream][1][:] = [handle]
        parameters = dict.fromkeys(dict(WAYS)[number], 0) | {"hStream": stream}
        self.call(number, *parameters.values(), **more)

    def end(self, monkeypatch: pytest.MonkeyPatch) -> LiveCapture:
        """A kernel reads what the copies bring; then the graph is read."""
        last = max(self.cuda.nodes)
        self.cuda.add_kernel(last + 1, 7, pointer("w0"), pointer("x"), pointer("y"))
        self.cuda.connect(last, last + 1)
        return live(self.cuda, monkeypatch, copies=self.recorder)


def held(data: bytes) -> tuple[Any, int]:
    """Memory with some bytes in it, and its address."""
    buffer = ctypes.create_string_buffer(data, len(data))
    return buffer, ctypes.addressof(buffer)


def optimized(captured: LiveCapture) -> Any:
    return forerun.optimize(captured, pipeline="", fold_params=True)


CHANGED = "its source does not hold any more what it held when it was captured"


@pytest.mark.parametrize(("number", "parameters"), WAYS)
def test_each_way_to_copy_is_seen(monkeypatch: pytest.MonkeyPatch, number: int, parameters: Sequence[str]) -> None:
    program = Program()
    buffer, address = held(b"captured")
    program.copy(1, address, 8, number=number)
    buffer[:] = b"replaced"
    captured = program.end(monkeypatch)
    source = captured.graph.host_sources[0]
    assert (source.contents, source.changed) == (b"captured", True)
    assert captured.graph.remarks == ()


def test_a_source_that_changed_after_the_capture_is_not_folded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = Program()
    buffer, address = held(b"captured")
    program.copy(1, address, 8)
    with optimized(program.end(monkeypatch)) as graph:
        assert (graph.folded, graph.folded_contents) == (("n0",), {0: b"captured"})
    buffer[:] = b"replaced"
    captured = program.end(monkeypatch)
    with optimized(captured) as graph:
        assert (graph.folded, graph.kept_copies) == ((), {"n0": CHANGED})
    (advice,) = advice_of_copies(import_capture(captured.graph))
    assert (advice.code, advice.location.name, advice.message) == ("A9", "n0", CHANGED)
    buffer[:] = b"captured"  # it was seen to change, so that it may do so again
    (kept,) = forerun.captured.load_capture(captured.save(tmp_path / "kept")).host_sources.values()
    assert kept.changed
    assert not program.recorder.failures


def test_a_source_that_was_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[:8] = b"captured"
    view = ctypes.c_char.from_buffer(page)
    program.copy(1, ctypes.addressof(view), 8)
    del view
    page.close()
    captured = program.end(monkeypatch)
    assert captured.host_sources == {0: b"captured"}
    with optimized(captured) as graph:
        assert (graph.folded, graph.kept_copies) == ((), {"n0": CHANGED})


def test_a_graph_that_is_read_again_has_what_sources_hold_then(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    buffer, address = held(b"captured")
    program.copy(1, address, 8)
    captured = program.end(monkeypatch)
    with optimized(captured) as graph:
        buffer[:] = b"replaced"
        assert graph.changed_sources() == ("n0",)
        assert graph.refresh()
        assert (graph.folded_contents, graph.changed_sources()) == ({0: b"replaced"}, ())
        assert graph.live.graph.remarks == ()
    assert captured.host_sources == {0: b"captured"}


def test_copies_of_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    buffer, address = held(b"one-----")
    program.copy(1, address, 8)
    buffer[:] = b"two-----"
    program.copy(2, address, 8)
    assert program.end(monkeypatch).host_sources == {0: b"one-----", 1: b"two-----"}


def test_a_copy_that_adds_no_node_reads_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    buffer, address = held(b"captured")
    program.copy(1, address, 8)
    buffer[:] = b"replaced"
    program.call(HTOD, BLOCKS["x"], address, 0, STREAM)
    assert program.end(monkeypatch).host_sources == {0: b"captured"}


def test_another_capture_may_get_the_same_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first capture failed, and nobody was told that its graph was destroyed."""
    program = Program()
    buffer, address = held(b"first---")
    program.copy(1, address, 8)
    buffer[:] = b"second--"
    program.cuda.capturing[STREAM] = CAPTURE + 1, []
    program.copy(1, address, 8)
    buffer[:] = b"third---"
    assert program.end(monkeypatch).host_sources == {0: b"second--"}


@pytest.mark.parametrize("where", ["not capturing", "default stream", "failed"])
def test_other_copies_are_not_read(where: str) -> None:
    program = Program()
    _, address = held(b"captured")
    more = {"not capturing": {"stream": 0x6000}, "default stream": {"stream": 0}, "failed": {"result": 1}}[where]
    program.copy(1, address, 8, **more)
    assert program.recorder._records == {}
    assert program.cuda.asked == ([0x6000] if where == "not capturing" else [])


def test_the_default_stream_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    buffer, address = held(b"captured")
    program.cuda.capturing[PER_THREAD] = CAPTURE, [1]
    program.node(1, address, 8)
    program.copy(1, address, 8, stream=0, number=OF_THREAD)
    buffer[:] = b"replaced"
    assert program.end(monkeypatch).host_sources == {0: b"captured"}


@pytest.mark.parametrize(("number", "places"), [(ADD_COPY, 6), (ADD, 6), (712, 5)])
def test_nodes_that_are_added_by_hand(monkeypatch: pytest.MonkeyPatch, number: int, places: int) -> None:
    program = Program()
    buffer, address = held(b"by hand-")
    program.node(1, address, 8)
    out = ctypes.c_uint64(1)
    parameters = [ctypes.addressof(out), GRAPH, *[0] * (places - 2)]
    program.call(number, *parameters, result=1)
    assert program.recorder._records == {}
    program.call(number, *parameters)
    buffer[:] = b"replaced"
    program.node(1, address, 8)
    program.call(SET_COPY, 1, 0, result=1)
    assert program.recorder._records[1].contents == b"by hand-"
    program.call(SET_COPY, 1, 0)
    buffer[:] = b"too late"
    assert program.end(monkeypatch).host_sources == {0: b"replaced"}
    program.call(SET_COPY, 9, 0)  # a node that nobody saw when it was made
    assert program.recorder.failures == []


def test_records_go_with_their_nodes_and_graphs() -> None:
    program = Program()
    kept, address = held(b"captured")
    for handle in (1, 2, 3):
        program.copy(handle, address, 8)
    program.call(DESTROY_NODE, 2)
    assert list(program.recorder._records) == [1, 3]
    program.call(DESTROY, GRAPH + 1)
    assert list(program.recorder._records) == [1, 3]
    program.call(DESTROY, GRAPH)
    assert program.recorder._records == {}
    assert kept.raw == b"captured"


def test_what_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    large, address = held(bytes(MOST_SOURCE_BYTES + 1))
    program.copy(1, address, MOST_SOURCE_BYTES + 1)
    program.node(2, BLOCKS["x"], 8, DEVICE)
    program.cuda.capturing[STREAM][1][:] = [2]
    program.call(UNIFIED, 0, BLOCKS["x"], 8, STREAM)
    program.cuda.add(3, "MEMSET", SimpleNamespace(dst=0, pitch=8, value=7, elementSize=4, width=1, height=1))
    program.cuda.capturing[STREAM][1][:] = [3]
    program.call(UNIFIED, 0, BLOCKS["x"], 8, STREAM)
    assert program.recorder._records == {}
    assert program.recorder.failures == []
    assert len(large) == MOST_SOURCE_BYTES + 1


def test_what_was_not_seen_is_read_later_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    first, second = held(b"captured"), held(b"earlier-")
    program.node(1, second[1], 8)
    program.copy(2, first[1], 8)
    captured = program.end(monkeypatch)
    assert captured.host_sources == {0: b"earlier-", 1: b"captured"}
    (remark,) = captured.graph.remarks
    assert remark.startswith("what a copy from the host brings was read after the capture, not within it")
    # A record counts only for the source that it is of.
    program.node(2, second[1], 8)
    assert program.end(monkeypatch).host_sources[1] == b"earlier-"


def test_failures_in_callbacks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    program.cuda.capturing[STREAM][1][:] = [99]
    program.call(HTOD, 0, 0, 8, STREAM)
    _, address = held(b"captured")
    program.copy(1, address, 8)
    assert program.end(monkeypatch).graph.remarks == ("CUPTI: KeyError: 99",)
