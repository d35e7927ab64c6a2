"""Whatever edits come, a plan computes what the graph computes that is compiled from nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

import forerun
from forerun.ir.buffer import Buffer
from forerun.ir.graph import Dependency, Graph
from forerun.ir.nodes import BufferArgument, ConstantArgument, KernelNode, MemsetNode, Node
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole, DependencyKind
from forerun.ir.verify import verify
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.plans import Plan
from forerun.support.diagnostics import ForerunError
from forerun.testing import graphs
from tests.runtime.plans.samples import chain


def value(buffer: Buffer, seed: int) -> np.ndarray:
    numbers = np.random.default_rng([seed, *buffer.name.encode()]).integers(0, 3, buffer.shape)
    return numbers.astype(numpy_dtype(buffer.dtype))


def values(graph: Graph, seed: int, *roles: BufferRole) -> dict[str, np.ndarray]:
    return {b.name: value(b, seed) for b in graph.buffers.values() if b.role in roles and b.contents is None}


@st.composite
def edited(draw: st.DrawFn, graph: Graph) -> Graph:
    """A graph after a few edits of any kind, valid or not."""
    edit = graph.edit()
    for _ in range(draw(st.integers(1, 2))):
        names = list(edit)
        name = draw(st.sampled_from(names))
        node = edit.node(name)
        match draw(st.sampled_from(("node", "edge", "remove", "kernel"))):
            case "node":
                edit.replace_node(draw(_changed(graph, node)))
            case "edge":
                other = draw(st.sampled_from(names))
                first, second = sorted((name, other), key=names.index)
                if first != second:
                    kind = draw(st.sampled_from((DependencyKind.FULL, DependencyKind.PROGRAMMATIC, None)))
                    if kind is not None:
                        edit.set_dependency(Dependency(first, second, kind))
                    elif edit.dependency(first, second) is not None:
                        edit.remove_dependency(first, second)
            case "remove" if len(names) > 1:
                edit.remove_node(name)
            case "kernel" if isinstance(node, KernelNode):
                kernel = edit.kernels[node.kernel]
                edit.set_kernel(replace(kernel, name=f"{kernel.name}.copy"))
                edit.replace_node(replace(node, kernel=f"{kernel.name}.copy"))
    return edit.commit()


@st.composite
def _changed(draw: st.DrawFn, graph: Graph, node: Node) -> Node:
    if isinstance(node, MemsetNode):
        return replace(node, value=draw(st.integers(0, 2)))
    if not isinstance(node, KernelNode) or not node.arguments:
        return node
    at = draw(st.integers(0, len(node.arguments) - 1))
    name, argument = node.arguments[at]
    if isinstance(argument, BufferArgument):
        argument = BufferArgument(draw(st.sampled_from(sorted(graph.buffers))))
    elif isinstance(argument, ConstantArgument):
        argument = ConstantArgument(draw(st.integers(0, 3)))
    return replace(node, arguments=(*node.arguments[:at], (name, argument), *node.arguments[at + 1 :]))


@settings(deadline=None)
@given(st.data())
def test_any_sequence_of_edits(data: st.DataObject) -> None:
    base = data.draw(graphs(max_nodes=4) | st.sampled_from([chain([1, 2, 3])]))
    assert_plan_follows(data, base)


def assert_plan_follows(data: st.DataObject, base: Graph) -> None:
    weights = values(base, 0, BufferRole.WEIGHT)
    state: dict[str, np.ndarray] = values(base, 0, BufferRole.STATE)
    known = [base]
    with Plan(base, weights=weights) as plan:
        for name, array in state.items():
            plan.write(name, array)
        for step in range(3):
            graph = data.draw(st.sampled_from(known))
            graph = data.draw(edited(graph)) if data.draw(st.booleans()) else graph
            right = not verify(graph) and check(graph).proved
            try:
                event(str(plan.update(graph).way))
            except ForerunError:
                assert not right
                graph = plan.graph
            else:
                assert right
                known.append(graph)
            inputs = values(graph, step, BufferRole.INPUT, BufferRole.PARAM)
            found = plan.run(inputs)
            with forerun.compile(graph, pipeline=None, weights=weights, instruments=()) as fresh:
                for name in state:
                    fresh.write(name, state[name])
                wanted = fresh.run(inputs)
                for name in wanted:
                    np.testing.assert_array_equal(found[name], wanted[name])
                for name in state:
                    state[name] = fresh.read(name)
                    np.testing.assert_array_equal(plan.read(name), state[name])
