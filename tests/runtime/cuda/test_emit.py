"""The CUDA graph that is made, as the fake driver sees it: nodes, edges, parameters, bodies."""

from __future__ import annotations

import ctypes
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import synthetic_decode_graph
from forerun.ir.buffer import Allocation, Buffer
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.nodes import (
    AllocNode,
    ChildGraphNode,
    ConditionalNode,
    EventRecordNode,
    FreeNode,
    Launch,
    MemcpyNode,
    ScalarLoad,
)
from forerun.ir.region import BufferView, region
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.kernels.builtin import KERNELS
from forerun.runtime.cuda import CudaError, CudaTarget
from forerun.runtime.cuda.codegen.saved_state import SAVE_ENTRY
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.driver.driver import Driver
from forerun.runtime.cuda.driver.scope import Scope
from forerun.runtime.cuda.emit.emitter import Emitter
from forerun.runtime.cuda.emit.functions import load_functions
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.cuda.emit.pitched import Rows, matched, rows_of
from forerun.runtime.reference import ReferenceTarget
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.fake_graphs import BAD, CONDITIONAL, COPY, EMPTY, FILL, HOST, KERNEL, Node
from tests.runtime.cuda.graphs import CASES, I32, N, body, branch, case, decode, numbers, started
from tests.runtime.cuda.graphs import add as add_node
from tests.runtime.cuda.support import fake_code, i32_at, load, on_fake, rich


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    api = FakeCuda()
    with on_fake(monkeypatch, api):
        yield api


def nodes_of(api: FakeCuda) -> list[Node]:
    (nodes,) = api.executables.values()
    return nodes


def test_kinds_and_edges(api: FakeCuda) -> None:
    program = load(rich(), {"w": numbers(1)})
    nodes = nodes_of(api)
    assert [node.kind for node in nodes] == [KERNEL, KERNEL, KERNEL, COPY, COPY, HOST, FILL, EMPTY]
    assert nodes[0].entry == SAVE_ENTRY
    chain = [node.handle for node in nodes]
    assert [node.after for node in nodes] == [[], *([(handle, 0, 0)] for handle in chain[:-1])]
    program.close()


def test_typed_edges(api: FakeCuda) -> None:
    builder, x, y = started("edges")
    kernel = KERNELS["accumulate_i32"]
    for name, kind in (("p", DependencyKind.PROGRAMMATIC), ("o", DependencyKind.LAUNCH_ORDER)):
        builder.launch(kernel, x=x, y=y, node=name, after=[])
        builder.depend("first", name, kind)
    builder.depend("p", "o")
    program = load(builder.build())
    first, p, o = nodes_of(api)
    assert (p.after, o.after) == ([(first.handle, 1, 1)], [(first.handle, 1, 2), (p.handle, 0, 0)])
    program.close()


def test_parameters_of_kernels(api: FakeCuda) -> None:
    builder = GraphBuilder("parameters")
    x = builder.input("x", I32, (N,))
    builder.input("row", I32, (3,), bounds=(0, 1))
    m, y = builder.state("m", I32, (4, N)), builder.output("y", I32, (4, N))
    launch = Launch((3, 2, 1), (64, 1, 1))
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=3, launch=launch)
    builder.launch(KERNELS["scale_row_i32"], x=x, m=m, row=ScalarLoad("row", 2, -1 + 2), launch=launch)
    builder.copy(m, y)
    program = load(builder.build())
    at = {name: program.buffer(name).address for name in ("x", "m", "row")}
    constant, loaded, _ = nodes_of(api)
    assert constant.words == (at["x"], at["m"], 3)
    assert loaded.words == (at["x"], at["m"], at["row"] + 8, 1)
    fields = constant.unpack(nodeparams._KERNEL)
    assert fields[1:8] == (3, 2, 1, 64, 1, 1, 0)
    assert constant.entry == "scale_row_i32_kernel"
    program.close()


def test_seeds_of_delays_are_one_a_node_and_change(api: FakeCuda) -> None:
    program = load(rich(), {"w": numbers(1)}, delays=9)
    kernels = [node for node in nodes_of(api) if node.kind == KERNEL]
    seeds = [node.words[-1] for node in kernels if node.entry != SAVE_ENTRY]
    assert seeds[1] - seeds[0] == 4
    seen = set()
    api.kernels["add_i32_kernel"] = lambda *words: seen.add(i32_at(words[-1], 1).item())
    for _ in range(3):
        program.launch()
    assert len(seen) == 3
    program.close()


def test_attributes(api: FakeCuda) -> None:
    builder, x, y = started("attributes")
    launch = Launch((32, 1, 1), (32, 1, 1), 1024, cluster=(16, 1, 1), cooperative=True)
    builder.launch(KERNELS["accumulate_i32"], x=x, y=y, launch=launch)
    program = load(builder.build())
    first, second = nodes_of(api)
    assert first.attributes == []
    assert [kind.name.rpartition("ATTRIBUTE_")[2] for kind in second.attributes] == ["COOPERATIVE", "CLUSTER_DIMENSION"]
    plain, large = api.function_attributes.values()
    assert plain == {"PREFERRED_SHARED_MEMORY_CARVEOUT": 100}
    assert large == {**plain, "MAX_DYNAMIC_SHARED_SIZE_BYTES": 1024, "NON_PORTABLE_CLUSTER_SIZE_ALLOWED": 1}
    program.close()


@pytest.mark.parametrize("name", CASES)
def test_values(api: FakeCuda, name: str) -> None:
    chosen = case(name)
    program, expected = load(chosen.graph, chosen.weights), ReferenceTarget().load(chosen.graph, chosen.weights)
    for inputs in chosen.inputs:
        given, wanted = program.run(inputs), expected.run(inputs)
        for key, value in wanted.items():
            np.testing.assert_array_equal(given[key], value, err_msg=f"{key} of {inputs}")
    program.close()
    assert api.leaks() == {}


@pytest.mark.parametrize(("steps", "dtype"), [(1, DType.F32), (3, DType.BF16)])
def test_decode_steps_after_all_passes(api: FakeCuda, steps: int, dtype: DType) -> None:
    chosen = decode(steps, dtype)
    with (
        forerun.compile(chosen.graph, CudaTarget(), weights=chosen.weights) as program,
        forerun.compile(chosen.graph, weights=chosen.weights) as expected,
    ):
        assert any(kind == 1 for node in nodes_of(api) for _, kind, _ in node.after)
        for inputs in chosen.inputs:
            given, wanted = program.run(inputs), expected.run(inputs)
            for key, value in wanted.items():
                np.testing.assert_array_equal(given[key], value, err_msg=key)


def test_emitting_costs_little_beside_the_driver(api: FakeCuda) -> None:
    """Figure emit.nodes_2000_ms leaves 5 us a node; twice that here, for slow machines. The best of many counts."""
    graph = synthetic_decode_graph(2000, steps=4, context=64)
    code = fake_code(graph, "sm_90")
    scope, times = Scope(Driver(api)), []
    api.current = api.context
    functions = load_functions(scope, code)
    memory = SimpleNamespace(addresses=lambda: dict.fromkeys(graph.buffers, 4096))
    for _ in range(40):
        emitter = Emitter(scope, graph, memory, functions, 1, HostCalls())
        emitter._add_node = lambda *arguments: (0, 5)
        began = time.process_time()
        emitter.emit()
        times.append(time.process_time() - began)
    scope.release()
    assert min(times) / len(graph) < 10e-6


def test_the_condition_is_set_before_the_node_and_after_all_sinks_of_the_body(api: FakeCuda) -> None:
    builder, x, y = started("sinks")
    left = builder.temp("left", I32, (N,))
    builder.copy(y, left)
    loose = Graph("body", nodes=[add_node("a", left, x, left), add_node("b", left, x, left)])
    builder.add(ConditionalNode("loop", "while", left, (loose,)))
    program = load(builder.build())
    nodes = nodes_of(api)
    setter, loop = nodes[-2:]
    assert (setter.entry, loop.kind) == ("forerun_set_condition", CONDITIONAL)
    assert [handle for handle, _, _ in setter.after] == [nodes[-3].handle]
    assert loop.after == [(setter.handle, 0, 0)]
    *inner, last = api.graphs[loop.bodies[0]]
    assert last.entry == "forerun_set_condition"
    assert [handle for handle, _, _ in last.after] == [node.handle for node in inner]
    handle = loop.unpack(nodeparams._CONDITIONAL)[0]
    assert last.words == setter.words == (handle, program.buffer(left).address, 4, 1, 0)
    program.close()


def test_typed_edges_in_a_loop(api: FakeCuda) -> None:
    found = case("programmatic_loop")
    program = load(found.graph, found.weights)
    (loop,) = (node for node in nodes_of(api) if node.kind == CONDITIONAL)
    up, sum_, down, last = api.graphs[loop.bodies[0]]
    assert (up.after, sum_.after, down.after) == ([], [(up.handle, 1, 1)], [(sum_.handle, 1, 1)])
    assert (last.entry, last.after) == ("forerun_set_condition", [(down.handle, 0, 0)])
    program.close()


def test_a_switch_tells_how_many_bodies_it_has(api: FakeCuda) -> None:
    program = load(branch("switch", 3).graph)
    setter = next(node for node in nodes_of(api) if node.entry == "forerun_set_condition")
    assert setter.words[2:] == (4, 1, 3)
    program.close()


def test_memory_of_alloc_nodes_is_there_anyway(api: FakeCuda) -> None:
    builder, _, y = started("alloc")
    builder.add(AllocNode("begin", "spare"))
    builder._allocations["spare"] = Allocation("spare", 4 * N)
    builder._buffers["spare"] = Buffer("spare", I32, (N,), BufferRole.TEMP, "spare")
    builder.copy(y, "spare")
    builder.add(FreeNode("end", "spare"))
    program = load(builder.build())
    assert [node.kind for node in nodes_of(api)] == [KERNEL, EMPTY, COPY, EMPTY]
    program.close()


def test_what_cuda_graphs_cannot_do(api: FakeCuda) -> None:
    events, _, _ = started("events")
    events.add(EventRecordNode("record", "e"))
    nested, _, y = started("nested")
    condition = nested.input("condition", I32, (1,))
    choice = ConditionalNode("choice", "if", condition, (body(add_node("a", y, y, y)),))
    nested.add(ChildGraphNode("child", body(choice)))
    odd, _, _ = started("odd")
    cube, out = odd.input("cube", I32, (4, 4, 4)), odd.output("out", I32, (2, 2, 2))
    odd.add(MemcpyNode("corner", BufferView(cube, region((0, 2), (0, 2), (0, 2))), BufferView(out)))
    for builder, expected in (
        (events, "node 'record': target 'cuda' has no EventRecordNode"),
        (nested, "node 'child': CUDA allows no conditional nodes in child graphs"),
        (odd, r"node 'corner': %cube\[0:2, 0:2, 0:2\] is neither contiguous nor rows at one distance"),
    ):
        with pytest.raises(Unsupported, match=expected):
            load(builder.build())
        assert api.leaks() == {}


BUFFER = Buffer("b", DType.I16, (4, 5, 6), BufferRole.TEMP, "b")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (region(), Rows(0, 1, 240, 240)),
        (region((1, 3)), Rows(60, 1, 120, 120)),
        (region((1, 3), (2, 4)), Rows(84, 2, 24, 60)),
        (region((1, 2), (2, 4), (1, 3)), Rows(86, 2, 4, 12)),
        (region((0, 4), (0, 5), (1, 3)), Rows(2, 20, 4, 12)),
        (region(None, (4, 5), (5, 6)), Rows(58, 4, 2, 60)),
        (region((3, 4), (4, 5), (5, 6)), Rows(238, 1, 2, 2)),
        (region((2, 2)), Rows(120, 0, 0, 0)),
    ],
)
def test_rows_of_a_box(box: Any, expected: Rows) -> None:
    assert rows_of(BUFFER, box, "n") == expected
    elements = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    index = tuple(slice(None) if s is None else slice(s.start.constant, s.stop.constant) for s in box.slices)
    raw = elements.tobytes()
    rows = (raw[expected.offset + i * expected.pitch :][: expected.width] for i in range(expected.count))
    assert b"".join(rows) == elements[index].tobytes()


def test_ends_of_a_copy_are_cut_alike() -> None:
    one, two = Rows(0, 1, 24, 24), Rows(4, 3, 8, 20)
    assert matched(one, two, "n") == (Rows(0, 3, 8, 8), two)
    assert matched(two, one, "n") == (two, Rows(0, 3, 8, 8))
    assert matched(Rows(0, 3, 8, 8), one, "n") == (one, one)
    with pytest.raises(Unsupported, match="node 'n' copies 3 rows of 8 bytes to 2 rows of 12"):
        matched(two, Rows(0, 2, 12, 16), "n")


def test_a_driver_that_refuses_a_node_or_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(FakeCuda):
        def cuGraphInstantiateWithParams(self, graph: int, params: Any) -> Any:  # noqa: N802
            view = (ctypes.c_uint64 * 3).from_address(params.getPtr())
            view[2] = self.graphs[graph][2].handle  # hErrNode_out
            return (BAD,)

    with on_fake(monkeypatch, Refusing()), pytest.raises(CudaError) as caught:
        load(rich(), {"w": numbers(1)})
    assert caught.value.node == "accumulate"
    assert "node 'accumulate': cuGraphInstantiateWithParams: CUDA_ERROR_INVALID_VALUE" in str(caught.value)
