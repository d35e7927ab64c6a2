"""A fake CUDA driver whose executable graphs can be updated: as the documents say, and as inexactly as real ones."""

# ruff: noqa: N802 - the driver's names

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from cuda.bindings import driver as real

from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.driver import Driver
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import BAD, KERNEL, OK, Node, R
from tests.runtime.cuda.support import on_fake
from tests.runtime.plans.samples import N

NODE_BYTES = 1000
"""What a node of an executable takes of the device's memory."""


class UpdatableCuda(FakeCuda):
    """Launches are over at once, unless ``hold`` is set: then an event that is recorded is not reached before a wait.

    ``refuse`` names nodes' parameters, by how many calls from now on, that are refused.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.hold = False
        self.pending: dict[int, int] = {}
        self.foreign_streams: set[int] = set()
        self.waits: list[tuple[int, int]] = []
        self.refuse_after: int | None = None
        self.values: dict[int, list[tuple[str, tuple[int, ...]]]] = {}

    def new_stream(self) -> int:
        """A stream of the caller's."""
        return self._new(self.streams)

    # Work that is not over

    def cuEventRecord(self, event: int, stream: int) -> Any:
        if event not in self.events or not self._is_stream(stream):
            return (BAD,)
        if self.hold:
            self.pending[event] = stream
        return (OK,)

    def cuEventQuery(self, event: int) -> Any:
        if event not in self.events:
            return (BAD,)
        return (R.CUDA_ERROR_NOT_READY,) if event in self.pending else (OK,)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        self.waits.append((stream, event))
        return (OK,) if event in self.events else (BAD,)

    def cuStreamSynchronize(self, stream: int) -> Any:
        self.pending = {event: where for event, where in self.pending.items() if where != stream}
        return super().cuStreamSynchronize(stream)

    def cuCtxSynchronize(self) -> Any:
        self.pending.clear()
        return super().cuCtxSynchronize()

    def cuStreamGetCtx(self, stream: int) -> Any:
        if stream in self.foreign_streams:
            return OK, 0xBAD
        return (OK, self.context) if self._is_stream(stream) else (R.CUDA_ERROR_INVALID_HANDLE,)

    CUpointer_attribute = real.CUpointer_attribute

    def cuPointerGetAttribute(self, kind: Any, address: int) -> Any:
        return (OK, 2) if self.inside(address, 1) else (BAD,)

    # Launches without a graph

    def cuMemcpyAsync(self, destination: int, source: int, size: int, stream: int) -> Any:
        return self._copy(destination, source, size, (destination, source)) if self._is_stream(stream) else (BAD,)

    def cuLaunchHostFunc(self, stream: int, function: int, argument: int) -> Any:
        if not self._is_stream(stream):
            return (BAD,)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)(argument)
        return (OK,)

    # Updates

    def cuMemGetInfo(self) -> Any:
        error, free, total = super().cuMemGetInfo()
        return error, free - NODE_BYTES * sum(map(len, self.executables.values())), total

    def cuGraphKernelNodeSetAttribute(self, node: int, kind: Any, value: Any) -> Any:
        dims = value.clusterDim
        self.values.setdefault(node, []).append((kind.name, (dims.x, dims.y, dims.z)))
        return super().cuGraphKernelNodeSetAttribute(node, kind, value)

    def cuGraphExecNodeSetParams(self, executable: int, node: int, params: Any) -> Any:
        if executable not in self.executables or self._refuses():
            return (BAD,)
        nodes = self.executables[executable]
        place = next((i for i, known in enumerate(nodes) if known.handle == node), None)
        if place is None:
            return (BAD,)
        made = replace(nodes[place], params=ctypes.string_at(params.getPtr(), nodeparams.SIZE))
        if made.kind != nodes[place].kind:
            return (BAD,)
        if made.kind == KERNEL:
            self._capture(made)
        nodes[place] = made
        return (OK,)

    def _refuses(self) -> bool:
        if self.refuse_after is None:
            return False
        self.refuse_after -= 1
        return self.refuse_after == -1

    def cuGraphExecUpdate(self, executable: int, graph: int) -> Any:
        """Checks what the documents say is checked; a cluster is kept as it was, and success is reported."""
        old, new = self.executables[executable], self.graphs[graph]
        if len(old) != len(new) or not all(map(self._may_update, old, new)) or _edges(old) != _edges(new):
            return R.CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, None
        self.executables[executable] = [
            replace(made, handle=known.handle, after=known.after, attributes=known.attributes)
            for known, made in zip(old, new, strict=True)
        ]
        return OK, None

    def _may_update(self, old: Node, new: Node) -> bool:
        return old.kind == new.kind

    def clusters(self, executable: int) -> list[tuple[int, ...]]:
        """The cluster of each node that an executable launches with; empty for none."""
        found = (self.values.get(node.handle, []) for node in self.executables[executable])
        return [next((dims for kind, dims in values if "CLUSTER" in kind), ()) for values in found]


def _edges(nodes: list[Node]) -> list[list[tuple[int, int, int]]]:
    place = {node.handle: i for i, node in enumerate(nodes)}
    return [[(place[handle], kind, port) for handle, kind, port in node.after] for node in nodes]


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[UpdatableCuda, Driver]]:
    """Within the block, graphs run on a fake GPU."""
    api = UpdatableCuda()
    with on_fake(monkeypatch, api) as driver:
        yield api, driver


class Array:
    """An array of a library that frees by hand."""

    def __init__(self, api: UpdatableCuda, offset: int = 0) -> None:
        _, self.block = api._allocate(api.memory, 4 * N + offset)
        self.address = self.block + offset
        described = {"shape": (N,), "typestr": "<i4", "data": (self.address, False), "version": 3}
        self.__cuda_array_interface__ = described
