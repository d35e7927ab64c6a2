"""Plans on a fake GPU: which of the driver's updates are asked for, what they would get wrong, and who is in flight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.graph import Graph
from forerun.ir.nodes import BufferArgument, ChildGraphNode, KernelNode, MemsetNode
from forerun.ir.types import HOST, BufferRole, DependencyKind
from forerun.runtime.cuda.driver import nodeparams
from forerun.runtime.cuda.emit.emitter import Emitter
from forerun.runtime.cuda.emit.hostcalls import HostCalls
from forerun.runtime.plans import Plan, Way, compare
from forerun.support.diagnostics import Unsupported
from tests.runtime.cuda.support import LOOP_WEIGHTS, loop, rich
from tests.runtime.plans.fake import Array, UpdatableCuda
from tests.runtime.plans.samples import N, chain, scale, shift, with_argument, with_edge, with_launch

X = {"x": [1, 2, 3, 4]}


def y_of(plan: Plan) -> list[int]:
    return plan.run(X)["y"].tolist()  # type: ignore[no-any-return]


def program(plan: Plan) -> Any:
    return plan._program


# Ways


def test_one_node_is_one_call(api: UpdatableCuda) -> None:
    base = chain([1, 2, 3])
    with Plan(base, "cuda") as plan:
        calls = len(api.log)
        assert plan.update(with_argument(base, "n1", "s", 5)).way is Way.PARAMETERS
        changes = [name for name in api.log[calls:] if not name.startswith("cuCtx")]
        assert changes == ["cuGraphExecNodeSetParams"]
        assert y_of(plan) == [15, 30, 45, 60]
        assert plan.update(chain([7, 8, 9])).changed == 3
        assert y_of(plan) == [504, 1008, 1512, 2016]


def test_a_reused_graph_is_no_call(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2]), "cuda") as plan:
        calls = len(api.log)
        for graph in (plan.graph, chain([1, 2]), chain([1, 2], names="k")):
            assert plan.update(graph).way is Way.REUSED
        assert api.log[calls:] == []


def test_a_function_that_is_loaded_is_set(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2, 3], kernels=[None, shift]), "cuda") as plan:
        assert y_of(plan) == [9, 12, 15, 18]
        assert plan.update(chain([1, 2, 3], kernels=[None, None, shift])).way is Way.PARAMETERS
        assert y_of(plan) == [5, 7, 9, 11]


def test_code_that_is_not_loaded_is_loaded(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2, 3]), "cuda") as plan:
        found = plan.update(chain([1, 2, 3], kernels=[None, shift]))
        assert str(found) == "instantiated: kernel changed at n1; n1 needs code that is not loaded"
        assert y_of(plan) == [9, 12, 15, 18]


def test_other_buffers_of_the_same_shape_are_set(api: UpdatableCuda) -> None:
    base = chain([1, 2, 3])
    node = base.nodes["n2"]
    assert isinstance(node, KernelNode)
    edit = base.edit()
    edit.replace_node(replace(node, arguments=(("x", BufferArgument("t0")), *node.arguments[1:])))
    with Plan(base, "cuda") as plan:
        assert plan.update(edit.commit()).way is Way.PARAMETERS
        assert y_of(plan) == [3, 6, 9, 12]


def test_fills_and_copies_are_set(api: UpdatableCuda) -> None:
    weights = {"w": np.zeros(8, np.int32)}
    base = rich()
    fill = base.nodes["fill"]
    assert isinstance(fill, MemsetNode)
    edit = base.edit()
    edit.replace_node(replace(fill, value=7))
    with Plan(base, "cuda", weights=weights) as plan:
        assert str(plan.update(edit.commit())) == "parameters: value changed at fill"
        assert plan.run({"x": [0] * 8})["zero"].tolist() == [7] * 8


def test_a_call_of_another_function_updates_the_whole_graph(api: UpdatableCuda) -> None:
    def graph(function: str) -> Graph:
        builder = forerun.GraphBuilder("host")
        x = builder.input("x", "i32", N)
        here, there = (builder.buffer(n, "i32", (N,), BufferRole.OUTPUT, place=HOST) for n in ("here", "there"))
        builder.copy(x, here, node="down")
        builder.host(f"tests.runtime.cuda.hosts:{function}", [here], [there], node="call")
        return builder.build()

    with Plan(graph("negative"), "cuda") as plan:
        for function, wanted in (("fail", [1, 2, 3, 4]), ("negative", [-1, -2, -3, -4])):
            assert plan.update(graph(function)).way is Way.WHOLE_GRAPH
            assert plan.run(X)["there"].tolist() == wanted
        assert len(program(plan)._resources.until_idle) == 1


def child(factor: int, cluster: tuple[int, int, int] | None = None) -> Graph:
    inner = chain([2, factor])
    if cluster is not None:
        inner = with_launch(inner, "n1", grid=cluster, cluster=cluster)
    edit = inner.edit()
    for name in inner.nodes:
        edit.remove_node(name)
    edit.add_node(ChildGraphNode("child", inner.without_tables()))
    return edit.commit()


def test_nodes_in_child_graphs_are_updated_with_the_whole_graph(api: UpdatableCuda) -> None:
    with Plan(child(3), "cuda") as plan:
        found = plan.update(child(5))
        assert (found.way, found.proof) == (Way.WHOLE_GRAPH, "scalars")
        assert y_of(plan) == [10, 20, 30, 40]
        assert plan.update(child(5)).way is Way.REUSED


def test_conditional_nodes_are_not_updated(api: UpdatableCuda) -> None:
    base = loop()
    (name,) = [n for n in base.nodes if n == "loop"]
    node = base.nodes[name]
    body = node.bodies[0]  # type: ignore[union-attr]
    inner = body.edit()
    first = next(n for n in body if isinstance(n, KernelNode))
    inner.replace_node(replace(first, fuses=()))
    swapped = (first.arguments[0], ("b", BufferArgument("ones")), first.arguments[2])
    inner.replace_node(replace(first, arguments=swapped))
    edit = base.edit()
    edit.replace_node(replace(node, bodies=(inner.commit().without_tables(),)))
    with Plan(base, "cuda", weights=LOOP_WEIGHTS) as plan:
        assert "the driver updates no conditional nodes" in plan.update(edit.commit()).reason


# What the driver gets wrong


def test_the_driver_would_keep_the_old_cluster(api: UpdatableCuda) -> None:
    before = with_launch(chain([1, 2]), "n1", grid=(4, 1, 1), cluster=(2, 1, 1))
    after = with_launch(chain([1, 2]), "n1", grid=(4, 1, 1), cluster=(4, 1, 1))
    with Plan(before, "cuda") as plan:
        executable = program(plan)._executable
        assert api.clusters(executable) == [(), (2, 1, 1)]
        # The whole-graph update of the driver reports success...
        loaded = program(plan)._loaded
        with Plan(after, "cuda") as other:
            functions = program(other)._loaded.functions
            scope = loaded.resources.scope
            made = Emitter(scope, after, loaded.memory, functions, loaded.resources.context.handle, HostCalls()).emit()
            error, _ = api.cuGraphExecUpdate(executable, made)
            assert not error
            assert api.clusters(executable) == [(), (2, 1, 1)]  # ...and is wrong.
        found = plan.update(after)
        assert found.way is Way.INSTANTIATED
        assert "the driver's update would keep the old cluster of n1" in found.reason
        assert api.clusters(program(plan)._executable) == [(), (4, 1, 1)]


def test_the_same_in_a_child_graph(api: UpdatableCuda) -> None:
    with Plan(child(3), "cuda") as plan:
        found = plan.update(child(3, (2, 1, 1)))
        assert found.way is Way.INSTANTIATED
        assert "would keep the old cluster of child/n1" in found.reason


def test_a_cooperative_launch_is_instantiated(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2]), "cuda") as plan:
        found = plan.update(with_launch(chain([1, 2]), "n1", cooperative=True))
        assert found.way is Way.INSTANTIATED
        assert "cooperative launch" in found.reason


def test_an_edge_of_another_kind_is_instantiated(api: UpdatableCuda) -> None:
    base = with_edge(chain([1, 2, 3]), "n0", "n2", DependencyKind.FULL)
    with Plan(base, "cuda") as plan:
        found = plan.update(with_edge(base, "n0", "n2", DependencyKind.LAUNCH_ORDER))
        assert found.way is Way.INSTANTIATED
        assert found.reason == "edge kind changed at n2: n0 -> n2 was full, is launch_order"


def test_a_refusal_in_the_middle_is_undone(api: UpdatableCuda) -> None:
    with Plan(chain([1, 2, 3]), "cuda") as plan:
        executable = program(plan)._executable
        words = [node.words for node in api.executables[executable]]
        api.refuse_after = 2
        after = chain([4, 5, 6])
        way, reason = program(plan).update_in_place(after, compare(plan.graph, after))
        assert way is Way.INSTANTIATED
        assert "the driver refused the parameters of n2" in reason
        assert [node.words for node in api.executables[executable]] == words
        api.refuse_after = 1
        assert plan.update(after).way is Way.INSTANTIATED
        assert y_of(plan) == [120, 240, 360, 480]


@forerun.kernel("x: i32[N], a: scalar i32, b: scalar i32 -> y: i32[N]", cuda="__device__ void none() {\n}\n")
def line(x: Any, a: int, b: int) -> Any:
    """``y = a * x + b``."""
    return (x * np.int32(a) + np.int32(b)).astype(np.int32)


def lines(a: int, b: int, source: str = "x") -> Graph:
    builder = forerun.GraphBuilder("lines")
    x, z, y = builder.input("x", "i32", N), builder.input("z", "i32", N), builder.output("y", "i32", N)
    builder.launch(line, x={"x": x, "z": z}[source], a=a, b=b, y=y, node="n")
    return builder.build()


def test_numbers_that_change_one_by_one_are_all_told(api: UpdatableCuda) -> None:
    values = {"x": [1, 2, 3, 4], "z": [10, 20, 30, 40]}
    base = lines(1, 0)
    with Plan(base, "cuda") as plan:
        for a, b, source in (
            (2, 0, "x"),
            (2, 5, "x"),
            (3, 5, "x"),
            (3, 5, "z"),
            (3, 6, "z"),
            (-1, 7, "x"),
            (4, 7, "x"),
        ):
            assert plan.update(lines(a, b, source)).way is Way.PARAMETERS
            assert plan.run(values)["y"].tolist() == [a * x + b for x in values[source]]


def test_numbers_that_the_driver_refused_are_not_told_later(api: UpdatableCuda) -> None:
    with Plan(lines(1, 0), "cuda") as plan:
        assert plan.update(lines(2, 0)).way is Way.PARAMETERS
        before = plan.graph
        api.refuse_after = 0
        refused = lines(3, 0)
        assert program(plan).update_in_place(refused, compare(before, refused))[0] is Way.INSTANTIATED
        assert plan.update(lines(2, 9)).way is Way.PARAMETERS
        assert y_of_line(plan) == [11, 13, 15, 17]


def y_of_line(plan: Plan) -> list[int]:
    return plan.run({"x": [1, 2, 3, 4], "z": [0] * N})["y"].tolist()  # type: ignore[no-any-return]


@forerun.kernel("x: i32[N], s: scalar i32 -> y: i32[N]")
def without_code(x: Any, s: int) -> Any:
    """Nothing that a GPU could run."""
    return x


def test_code_that_cannot_be_made_is_no_reason_to_keep_half_an_update(api: UpdatableCuda) -> None:
    base = chain([1, 2, 3])
    with Plan(base, "cuda") as plan:
        with pytest.raises(Unsupported, match="without_code"):
            plan.update(chain([4, 5, 6], kernels=[None, without_code]))
        assert plan.graph is base
        assert y_of(plan) == [6, 12, 18, 24]
        assert plan.update(with_argument(base, "n1", "s", 5)).way is Way.PARAMETERS
        assert y_of(plan) == [15, 30, 45, 60]


def test_a_kernel_of_another_name_is_not_taken_for_what_a_node_launches(api: UpdatableCuda) -> None:
    def swapped(graph: Graph, names: dict[str, Any], node_kernel: str) -> Graph:
        edit = graph.edit()
        for name, kernel in names.items():
            edit.set_kernel(replace(kernel.KERNEL, name=name))
        node = graph.nodes["n1"]
        assert isinstance(node, KernelNode)
        edit.replace_node(replace(node, kernel=node_kernel))
        return edit.commit()

    base = chain([1, 2, 3], kernels=[None, None, shift])
    with Plan(base, "cuda") as plan:
        # The same code under another name: nothing changes, and the program is not told.
        renamed = swapped(base, {"again": scale}, "again")
        assert plan.update(renamed).way is Way.REUSED
        # Now that name is another kernel's, which the program has loaded.
        assert plan.update(swapped(renamed, {"again": shift}, "again")).difference.nodes
        assert y_of(plan) == [6, 7, 8, 9]


def test_memory_of_the_callers_that_is_not_aligned(api: UpdatableCuda) -> None:
    def graph(buffer: str) -> Graph:
        builder = forerun.GraphBuilder("aligned")
        buffers = {name: builder.input(name, "i32", N) for name in ("even", "odd")}
        y = builder.output("y", "i32", N)
        builder.launch(scale, x=buffers[buffer], s=2, y=y, node="n0")
        made = builder.build()
        parameters = tuple(replace(p, align=32) if p.name == "x" else p for p in scale.KERNEL.parameters)
        edit = made.edit()
        edit.set_kernel(replace(scale.KERNEL, parameters=parameters))
        return edit.commit()

    arrays = {"even": Array(api), "odd": Array(api, offset=16)}
    before, after = graph("even"), graph("odd")
    with Plan(before, "cuda", memory=arrays) as plan:
        found = program(plan).update_in_place(after, compare(before, after))
        assert found == (Way.INSTANTIATED, "memory at n0 is not aligned for 'x'")
    for array in arrays.values():
        del api.memory[array.block]


def test_timelines_and_delays_are_instantiated(api: UpdatableCuda) -> None:
    for target in ("cuda{delays=3}", "cuda{timeline=true}"):
        with Plan(chain([1, 2]), target) as plan:
            assert plan.update(chain([1, 5])).way is Way.INSTANTIATED
            assert y_of(plan) == [5, 10, 15, 20]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans(), st.integers(1, 2)), max_size=6))
def test_any_sequence_of_changes(api: UpdatableCuda, changes: list[tuple[int, int, bool, int]]) -> None:
    factors, kernels, grids = [1, 2, 3], [scale, scale, scale], [1, 1, 1]
    with Plan(chain(factors), "cuda") as plan:
        for at, factor, shifts, grid in changes:
            factors[at], kernels[at], grids[at] = factor, shift if shifts else scale, grid
            graph = chain(factors, kernels=kernels)
            for i, count in enumerate(grids):
                graph = with_launch(graph, f"n{i}", grid=(count, 1, 1))
            plan.update(graph)
            wanted = np.array(X["x"])
            for f, kernel in zip(factors, kernels, strict=True):
                wanted = wanted + f if kernel is shift else wanted * f
            assert y_of(plan) == wanted.tolist()
            launched = [node.unpack(nodeparams._KERNEL)[1] for node in api.executables[program(plan)._executable]]
            assert launched == grids
