"""What small copies bring from the host, read while the program captures them: their sources may be freed after it.

When a call that copies on a capturing stream has returned, the stream's next node would depend on the new one alone
(CUDA Driver API, ``cuStreamGetCaptureInfo``). A call that adds a node to a graph returns it. So each record belongs to
the handle of a node. Parameters of the calls: generated_cuda_meta.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forerun.captured.graph import Transfer
from forerun.runtime.cuda.capture.cupti import DRIVER_API, CallbackData, word_at
from forerun.runtime.cuda.capture.host_sources import is_small, read_source
from forerun.runtime.cuda.capture.reading import copy_of
from forerun.runtime.cuda.driver.driver import Driver

__all__ = ["CopyRecorder"]

_WORD = 8
_STREAMS = {
    277: 3,  # cuMemcpyHtoDAsync_v2
    306: 3,  # cuMemcpyAsync
    289: 1,  # cuMemcpy2DAsync_v2
    291: 1,  # cuMemcpy3DAsync_v2
    776: 8,  # cuMemcpyBatchAsync
    796: 7,  # cuMemcpyBatchAsync_v2
}
"""Calls that copy on a stream, and which of their parameters that is."""

_STREAMS_OF_THREADS = {421: 3, 418: 3, 424: 1, 425: 1, 777: 8, 797: 7}
"""The same calls as programs have them whose default stream is one of the thread's own (``_ptsz``)."""

_ADDED = {504: "cuGraphAddMemcpyNode", 712: "cuGraphAddNode", 723: "cuGraphAddNode_v2"}
_CHANGED = {520: "cuGraphMemcpyNodeSetParams", 713: "cuGraphNodeSetParams"}
_GRAPH_GONE, _NODE_GONE = 517, 522  # cuGraphDestroy, cuGraphDestroyNode

_STREAM_OF_THREAD = 2  # CU_STREAM_PER_THREAD
_ACTIVE = 1  # CU_STREAM_CAPTURE_STATUS_ACTIVE
_BY_HAND = 0
"""In place of a capture's number, which is never 0."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What the source of a node held, and which capture of which graph made the node."""

    capture: int
    graph: int
    source: int
    contents: bytes


class CopyRecorder:
    """Reads the sources of copies as they are captured; a :class:`~forerun.runtime.cuda.capture.cupti.Recorder`.

    Of a copy it keeps up to :data:`~forerun.captured.graph.MOST_SOURCE_BYTES`, until its graph is destroyed. Of copies
    outside captures it asks whether their stream is capturing: about five microseconds.

    Args:
        driver: The driver that the program uses.
    """

    required = ()
    wanted = tuple(
        (DRIVER_API, number)
        for number in (*_STREAMS, *_STREAMS_OF_THREADS, *_ADDED, *_CHANGED, _GRAPH_GONE, _NODE_GONE)
    )

    def __init__(self, driver: Driver) -> None:
        self.failures: list[str] = []
        self._driver = driver
        self._records: dict[int, _Record] = {}

    def contents(self, node: int, transfer: Transfer) -> bytes | None:
        """What a copy was captured with; ``None`` if that was not seen.

        Args:
            node: The handle of its node.
            transfer: What the node copies now.
        """
        record = self._records.get(node)
        if record is None or (record.source, len(record.contents)) != (transfer.source, transfer.width * transfer.rows):
            return None
        return record.contents

    def called(self, domain: int, number: int, data: int) -> None:
        """A call that makes, changes or destroys nodes begins, or has returned."""
        call = CallbackData.from_address(data)
        if not call.has_returned:
            self._begins(number, call.parameters)
        elif number in _STREAMS or number in _STREAMS_OF_THREADS:
            self._copied(number, call)
        elif number in _ADDED and call.succeeded:
            self._read(word_at(word_at(call.parameters)), _BY_HAND, word_at(call.parameters + _WORD))
        elif number in _CHANGED and call.succeeded:
            node = word_at(call.parameters)
            known = self._records.get(node)
            if known is not None:
                self._read(node, _BY_HAND, known.graph)

    def _begins(self, number: int, parameters: int) -> None:
        """Handles of what is destroyed may be given again."""
        if number == _NODE_GONE:
            self._records.pop(word_at(parameters), None)
        elif number == _GRAPH_GONE:
            graph = word_at(parameters)
            for node, record in list(self._records.items()):
                if record.graph == graph:
                    self._records.pop(node, None)

    def _copied(self, number: int, call: CallbackData) -> None:
        """The node is what the stream's next one would depend on."""
        places: Mapping[int, int] = _STREAMS if number in _STREAMS else _STREAMS_OF_THREADS
        stream = word_at(call.parameters + _WORD * places[number])
        if not stream:
            if number in _STREAMS:
                return  # nobody captures the legacy default stream
            stream = _STREAM_OF_THREAD
        if not call.succeeded:
            return
        error, *found = self._driver.function("cuStreamGetCaptureInfo")(stream)
        if error or int(found[0]) != _ACTIVE:
            return
        _, capture, graph, nodes, *_ = found
        for node in nodes:
            known = self._records.get(int(node))
            # A copy of no bytes adds no node: the one before it was read when it was captured.
            if known is None or known.capture != int(capture):
                self._read(int(node), int(capture), int(graph))

    def _read(self, node: int, capture: int, graph: int) -> None:
        self._records.pop(node, None)
        if self._driver.call("cuGraphNodeGetType", node).name != "CU_GRAPH_NODE_TYPE_MEMCPY":
            return
        transfer = copy_of(self._driver, node).transfer
        if transfer is None or transfer.source is None or not is_small(transfer):
            return
        contents = read_source(self._driver, transfer)
        if contents is not None:
            self._records[node] = _Record(capture, graph, transfer.source, contents)
