"""Captured graphs run again from their folders: memory, nodes and edges as they were, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import forerun
from forerun.captured import (
    AssembledText,
    CapturedEdge,
    CapturedGraph,
    CapturedNode,
    MemoryRange,
    Transfer,
    save_capture,
)
from forerun.captured.graph import digest_of
from forerun.frontends.captured import import_capture
from forerun.runtime.cuda import CudaError
from forerun.runtime.cuda.capture import verified
from forerun.runtime.cuda.capture.clone import make_clone
from forerun.runtime.cuda.capture.reserved import spans
from forerun.runtime.cuda.capture.restored import restore
from forerun.runtime.cuda.driver.driver import Driver, use_driver
from forerun.support.diagnostics import InvalidInput, Unsupported
from tests.captured.samples import SCALE, kernel
from tests.runtime.cuda.capture.restoring import GRANULARITY, IMAGE, PLACES, RestoringCuda, launch, program
from tests.runtime.cuda.fake_graphs import CHILD, COPY, EMPTY, FILL, R


@pytest.fixture
def cuda() -> Iterator[RestoringCuda]:
    found = RestoringCuda()
    with use_driver(Driver(found)) as own:
        yield found
        assert own.handles.live() == ()
        assert found.leaks() == {}


CHAIN = program(launch("w", "x", "y"), launch("w", "y", "z"), edges=(CapturedEdge(0, 1, "programmatic", 1),))


def word(value: int) -> bytes:
    return value.to_bytes(4, "little")


def test_a_saved_graph_computes_what_it_did(cuda: RestoringCuda, tmp_path: Path) -> None:
    save_capture(CHAIN, tmp_path / "capture")
    with forerun.restore(tmp_path / "capture") as live:
        assert live.read(PLACES["z"], 4) == word(0)
        live.write(PLACES["w"], word(5))
        live.write(PLACES["x"], word(30))
        live.replay(stream=7)
        assert cuda.launches == [7]
        assert live.read(PLACES["z"], 4) == word(40)
        first, second = next(iter(cuda.executables.values()))
        assert (first.after, second.after) == ([], [(first.handle, 1, 1)])
    live.close()
    for use in (live.replay, lambda: live.read(PLACES["z"], 4), lambda: live.write(PLACES["z"], b"")):
        with pytest.raises(InvalidInput, match="is closed"):
            use()


def test_all_kinds_of_nodes(cuda: RestoringCuda) -> None:
    copy = CapturedNode("memcpy", transfer=Transfer(PLACES["y"], PLACES["z"], 4, 2, 8))
    fill = CapturedNode("memset", transfer=Transfer(None, PLACES["x"], 4, 1, 4, 0xFFFF0007, 2))
    nothing = CapturedNode("memset", transfer=Transfer(None, PLACES["x"], 0, 1, 0, 1, 1))
    child = CapturedNode(
        "graph", body=CapturedGraph((launch("w", "y", "y"), launch("w", "x", "y")), (CapturedEdge(1, 0),))
    )
    graph = program(copy, child, fill, CapturedNode("empty"), nothing,
                    edges=(CapturedEdge(2, 1), CapturedEdge(1, 3), CapturedEdge(3, 0), CapturedEdge(2, 4)))  # fmt: skip
    with restore(graph) as live:
        live.write(PLACES["w"], word(1))
        live.replay()
        # x = 7 7 in halves; y = 1 + x, y = 1 + y; z = y.
        assert live.read(PLACES["z"], 4) == word(0x70009)
        nodes = {node.handle: node for node in next(iter(cuda.executables.values()))}
        kinds = [nodes[handle].kind for handle in live.handles.nodes]
        assert kinds == [COPY, CHILD, FILL, EMPTY, EMPTY]


def test_attributes_of_functions_and_nodes(cuda: RestoringCuda) -> None:
    attributes = {"cooperative": 1, "cluster_x": 2, "cluster_y": 1, "cluster_z": 1, "priority": -3, "carveout": 40,
                  "sync_domain": 1}  # fmt: skip
    graph = program(launch("w", "x", "y", attributes=attributes), attributes={"max_dynamic_shared_bytes": 65536})
    with restore(graph):
        (set_,) = cuda.function_attributes.values()
        assert set_ == {"MAX_DYNAMIC_SHARED_SIZE_BYTES": 65536}
        found = {kind.name.removeprefix("CU_LAUNCH_ATTRIBUTE_"): value for _, kind, value in cuda.values}
        assert found["COOPERATIVE"].cooperative == 1
        assert (found["CLUSTER_DIMENSION"].clusterDim.x, found["CLUSTER_DIMENSION"].clusterDim.y) == (2, 1)
        assert found["PRIORITY"].priority == -3
        assert found["PREFERRED_SHARED_MEMORY_CARVEOUT"].sharedMemCarveout == 40
        assert int(found["MEM_SYNC_DOMAIN"].memSyncDomain) == 1


def body(*nodes: CapturedNode) -> CapturedNode:
    return CapturedNode("graph", body=CapturedGraph(nodes))


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (program(CapturedNode("host", unsupported=("nodes of the kind 'host'",))), "'n0': nodes of the kind"),
        (program(CapturedNode("conditional")), "nodes of the kind 'conditional' cannot be made again"),
        (program(body(CapturedNode("mem_alloc"))), "node 'n0/n0': nodes of the kind 'mem_alloc'"),
        (program(launch("w", "x", "y", unsupported=("its priority cannot be read",))), "its priority cannot be read"),
        (program(launch("w", "x")), "its parameters are not known"),
        (program(launch("w", "x", "y", attributes={"access_policy_bytes": 9})), "attribute 'access_policy_bytes'"),
        (program(CapturedNode("memcpy", transfer=Transfer(1, 2, 4, 2, 12))), "was not captured wholly"),
        (program(CapturedNode("memcpy", transfer=Transfer(None, 2, 4, 1, 4))), "a copy has a source"),
        (program(CapturedNode("memset", transfer=Transfer(None, 2, 9, 1, 9, 0, 3))), "with elements of 3"),
        (program(CapturedNode("memset", transfer=Transfer(None, 2, 9, 1, 9, 0, 4))), "fills 9 bytes"),
        (program(CapturedNode("memset", transfer=Transfer(None, PLACES["z"], 1 << 40, 1, 1 << 40))), "captured memory"),
        (program(CapturedNode("memcpy", transfer=Transfer(1, PLACES["z"], 4, 1, 4))), "its bytes at 0x1 do not lie"),
        (program(replace(launch("w", "x", "y"), grid=(1 << 40, 1, 1))), "its launch is out of range"),
        (program(replace(launch("w", "x", "y"), shared_bytes=1 << 40)), "its launch is out of range"),
        (program(launch("w", "x", "y", attributes={"priority": 1 << 40})), "its launch is out of range"),
        (program(launch("w", "x", "y", attributes={"cluster_x": -1})), "its launch is out of range"),
        (program(launch("w", "x", "y", attributes={"sync_domain": 2})), "its launch is out of range"),
        (program(attributes={"shared_carveout": 1 << 40}), "has attributes out of range"),
        (replace(CHAIN, edges=(CapturedEdge(0, 1, "programmatic", 999),)), "of a kind that is not known"),
        (replace(CHAIN, memory=(MemoryRange(1 << 40, 1 << 60),)), "reaches behind all addresses"),
        (program(CapturedNode("graph")), "its child graph was not captured"),
        (replace(CHAIN, edges=(CapturedEdge(0, 1, "other"),)), "from 'n0' to 'n1' is of a kind that is not known"),
        (replace(CHAIN, memory=(*CHAIN.memory, MemoryRange(1 << 50, 1, "managed"))), "memory of the kind 'managed'"),
        (replace(CHAIN, functions=(replace(CHAIN.functions[0], image=""),)), "the image of kernel 'add' was not seen"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_again_is_told(cuda: RestoringCuda, graph: CapturedGraph, reason: str) -> None:
    with pytest.raises(Unsupported) as caught:
        restore(graph)
    assert reason in str(caught.value)
    assert cuda.log == []


def test_of_many_reasons_the_first_are_told(cuda: RestoringCuda) -> None:
    with pytest.raises(Unsupported, match="and 5 more"):
        restore(program(*[CapturedNode("host")] * 9))


def test_a_cycle_is_refused_before_anything_is_done(cuda: RestoringCuda) -> None:
    with pytest.raises(InvalidInput, match="cycle"):
        restore(replace(CHAIN, edges=(CapturedEdge(0, 1), CapturedEdge(1, 0))))
    assert cuda.log == []


def test_an_address_that_is_taken_is_refused(cuda: RestoringCuda) -> None:
    cuda.taken = {PLACES["y"] // GRANULARITY * GRANULARITY}
    with pytest.raises(Unsupported, match="cannot be had here") as caught:
        restore(CHAIN)
    assert f"{min(cuda.taken):#x}" in str(caught.value)
    cuda.taken.clear()
    restore(CHAIN).close()


def test_memory_may_lie_elsewhere(cuda: RestoringCuda) -> None:
    cuda.taken = {place // GRANULARITY * GRANULARITY for place in PLACES.values()}
    copy = CapturedNode("memcpy", transfer=Transfer(PLACES["y"], PLACES["z"], 4, 1, 4))
    graph = replace(CHAIN, nodes=(CHAIN.nodes[0], copy), edges=(CapturedEdge(0, 1),))
    with restore(graph, elsewhere=True) as live:
        assert not {one.address for one in live.graph.memory} & set(PLACES.values())
        assert live.graph.memory[0].address == live.memory.place(PLACES["w"])
        live.write(PLACES["w"], word(5))
        live.write(PLACES["x"], word(30))
        live.replay(stream=7)
        assert live.read(PLACES["z"], 4) == live.read(PLACES["y"], 4) == word(35)
        with pytest.raises(InvalidInput, match="do not lie in the captured memory"):
            live.read(live.graph.memory[0].address, 4)


def test_other_parameters_than_the_capture_says(cuda: RestoringCuda) -> None:
    cuda.layouts["add"] = [(0, 8), (8, 8), (16, 8), (24, 8)]
    with pytest.raises(InvalidInput, match="has other parameters"):
        restore(CHAIN)


@pytest.mark.parametrize(
    "name", ["cuMemCreate", "cuMemSetAccess", "cuModuleLoadData", "cuGraphInstantiate", "cuMemMap"]
)
def test_what_fails_half_way_gives_all_back(cuda: RestoringCuda, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(cuda, name, lambda *arguments: (R.CUDA_ERROR_OUT_OF_MEMORY, None))
    with pytest.raises(CudaError, match="OUT_OF_MEMORY"):
        restore(CHAIN)


def test_only_its_own_memory_is_written_and_read(cuda: RestoringCuda) -> None:
    with restore(CHAIN) as live:
        for address, size in ((0, 4), (PLACES["w"], GRANULARITY), ((1 << 64) - 4, 4), (PLACES["w"], -1)):
            with pytest.raises(InvalidInput, match="do not lie in the captured memory"):
                live.read(address, size)
        with pytest.raises(InvalidInput, match="do not lie"):
            live.write(PLACES["z"] + GRANULARITY, b"1")
        live.write(PLACES["w"], b"")
        assert live.read(PLACES["w"], 0) == b""


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], []),
        ([(5, 1)], [(0, 16)]),
        ([(5, 1), (6, 20)], [(0, 32)]),
        ([(40, 2), (5, 11)], [(0, 16), (32, 48)]),
        ([(5, 11), (16, 1)], [(0, 32)]),
        ([(0, 64), (16, 1), (70, 1)], [(0, 80)]),
    ],
)
def test_spans(ranges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert list(spans([MemoryRange(at, size) for at, size in ranges], 16)) == expected


TEXT = kernel("add", *SCALE)


def with_text(*options: str) -> CapturedGraph:
    text = AssembledText(TEXT, ("-O3", *options), "13.0", "tests")
    functions = (replace(CHAIN.functions[0], text=digest_of(TEXT)),)
    return replace(CHAIN, functions=functions, texts={digest_of(TEXT): text})


def test_texts_count_if_an_assembler_here_makes_the_image(cuda: RestoringCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def assembled(text: str, options: Any, assembler: str, architecture: str, attempt: int) -> tuple[bytes, str]:
        asked.append((text, options, architecture))
        return IMAGE, ""

    monkeypatch.setattr(verified, "assemble_as", assembled)
    monkeypatch.setattr(verified, "_assemblers", lambda first: ["/bin/ptxas"])
    for same in (True, False):
        monkeypatch.setattr(verified, "same_code", lambda first, second, same=same: same)
        with restore(with_text()) as live:
            assert bool(live.graph.functions[0].text) == same
            assert live.assemblers == ({digest_of(TEXT): ("/bin/ptxas", "sm_90a")} if same else {})
            assert (live.graph.remarks == ()) == same
    assert asked[0] == (TEXT, ("-O3",), "sm_90a")
    # Options are the folder's: none may name a file.
    asked.clear()
    with restore(with_text("--output-file=/tmp/other")) as live:
        assert live.graph.functions[0].text == ""
        assert "keep their code" in live.graph.remarks[0]
    assert asked == []


def test_what_is_closed_is_not_optimized(cuda: RestoringCuda) -> None:
    live, imported = restore(CHAIN), import_capture(CHAIN)
    live.close()
    with pytest.raises(InvalidInput, match="was reset"):
        make_clone(live, imported.graph, imported.graph, imported.names, {})
