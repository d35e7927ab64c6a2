"""The rules of the event model, one by one: what a node sees, what it shows and when, and how its roles meet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forerun.ir.affine import affine
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Barrier, BufferParameter, Kernel, Role, Step, Trigger, Wait
from forerun.ir.nodes import BufferArgument, ChildGraphNode, ConditionalNode, KernelNode, ScalarLoad
from forerun.ir.region import region
from forerun.kernels.builtin import KERNELS
from forerun.runtime.reference import Action, ReferenceTarget
from forerun.runtime.reference.adversarial import Machine
from forerun.runtime.reference.bind import bind_graph
from forerun.runtime.reference.memory import Memory
from forerun.runtime.reference.strategies import strategy_for
from forerun.support.diagnostics import InternalError
from tests.runtime import functions
from tests.runtime.support import (
    I32,
    PROGRAMMATIC,
    adversarial,
    every_outcome,
    phase,
    serial,
    vector_kernel,
    with_kinds,
)


def one_node(*steps: Step, n: int = 2) -> Graph:
    make = GraphBuilder("one")
    make.input("x", I32, (n,))
    make.state("t", I32, (n,))
    make.output("y", I32, (n,))
    make.launch(vector_kernel("k", "x t y", *steps), x="x", t="t", y="y")
    return make.build()


def test_a_node_sees_its_own_stores_before_others_do() -> None:
    steps = (
        phase("first", "twice", reads=["x"], writes=["t"]),
        phase("second", "increment", reads=["t"], writes=["t"]),
        phase("last", "keep", reads=["t"], writes=["y"]),
    )
    for split in (False, True):
        assert every_outcome(one_node(*steps), {"x": [3, 4]}, "y", split=split) == {(7, 9)}


def test_a_node_loads_scalars_that_it_stored() -> None:
    row = region(("i", affine("i") + 1))
    steps = (
        phase("choose", "keep", reads=["x"], writes=["t"]),
        phase("load", "keep", reads=[("m", row)], defines=("kept",)),
        phase("store", "keep", uses=("kept",), writes=["y"]),
    )
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    make.input("m", I32, (3,))
    make.state("t", I32, (1,))
    make.output("y", I32, (1,))
    kernel = vector_kernel("k", "m x t y", *steps, scalars="i")
    make.launch(kernel, m="m", x="x", t="t", y="y", i=ScalarLoad("t"))
    assert every_outcome(make.build(), {"x": [2], "m": [10, 11, 12]}, "y") == {(12,)}


def beside_a_reader(n: int, *steps: Step) -> Graph:
    """A node with these steps on ``x`` and ``t``, and another without order to it that copies ``t``."""
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    make.state("t", I32, (n,))
    make.output("seen", I32, (n,))
    make.output("last", I32, (n,))
    make.launch(vector_kernel("k", "x t", *steps), x="x", t="t", node="writer")
    make.launch(KERNELS["copy_i32"], x="t", y="seen", node="reader", after=[])
    make.copy("t", "last", after=["writer", "reader"])
    return make.build()


def test_stores_to_the_same_bytes_become_visible_in_order() -> None:
    graph = beside_a_reader(
        1,
        phase("first", "twice", reads=["x"], writes=["t"]),
        phase("second", "increment", reads=["t"], writes=["t"]),
    )
    assert every_outcome(graph, {"x": [3]}, "seen") == {(0,), (6,), (7,)}
    assert every_outcome(graph, {"x": [3]}, "last") == {(7,)}


def test_stores_to_different_bytes_become_visible_in_any_order() -> None:
    halves = [region((i, i + 1)) for i in range(2)]
    graph = beside_a_reader(
        2, *(phase(f"half{i}", "keep", reads=["x"], writes=[("t", half)]) for i, half in enumerate(halves))
    )
    assert every_outcome(graph, {"x": [3]}, "seen") == {(0, 0), (3, 0), (0, 3), (3, 3)}


@pytest.mark.parametrize(
    ("asynchronous", "used_first", "late_sees_more"),
    [(False, False, False), (True, False, True), (True, True, False)],
    ids=["synchronous", "asynchronous", "used-before-the-probe"],
)
def test_asynchronous_reads_happen_up_to_their_first_use(
    asynchronous: bool, used_first: bool, late_sees_more: bool
) -> None:
    """One kernel reads x twice, while another overwrites it: can the first read see what the second does not?"""
    load = phase("load", "keep", reads=["x"], defines=("loaded",), asynchronous=asynchronous)
    use = phase("use", "keep", uses=("loaded",), defines=("used",))
    probe = phase("probe", "keep", reads=["x"], defines=("probed",))
    store = phase("store", "pair", uses=("used", "probed"), writes=["y"])
    steps = (load, use, probe, store) if used_first else (load, probe, use, store)
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    make.input("new", I32, (1,))
    make.output("y", I32, (2,))
    make.launch(vector_kernel("k", "x y", *steps), x="x", y="y", node="reads")
    make.launch(KERNELS["copy_i32"], x="new", y="x", node="writes", after=[])
    make.join(["reads", "writes"])
    seen = {(1, 1), (1, 5), (5, 5)} | ({(5, 1)} if late_sees_more else set())
    assert every_outcome(make.build(), {"x": [1], "new": [5]}, "y") == seen


def test_a_node_is_complete_only_after_its_asynchronous_reads() -> None:
    """Nobody takes what the load gives, so it may happen last; the next node overwrites what it reads."""
    load = phase("load", "recorded", reads=["x"], defines=("loaded",), asynchronous=True)
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    make.input("new", I32, (1,))
    make.launch(vector_kernel("k", "x", load), x="x")
    make.launch(KERNELS["copy_i32"], x="new", y="x")
    make.join(["copy_i32.1"])
    graph = make.build()
    for seed in range(8):
        functions.RECORDED.clear()
        adversarial(graph, {"x": [1], "new": [5]}, seed)
        assert functions.RECORDED == [[1]]


@pytest.mark.parametrize(("barrier", "expected"), [(True, {(7,)}), (False, {(0,), (7,)})])
def test_one_role_waits_for_all_only_with_a_barrier(barrier: bool, expected: set[tuple[int]]) -> None:
    """docs/pdl.md, rule 6: a wait guards the other roles' reads if a CTA barrier lies between."""
    sync = (Barrier(),) if barrier else ()
    copy = (phase("load", "keep", reads=["x"], defines=("kept",)), phase("store", "keep", uses=("kept",), writes=["y"]))
    roles = (Role("waits", (Wait(), *sync), 1), Role("copies", (*sync, *copy), 1))
    parameters = tuple(BufferParameter(name, I32, (None,)) for name in "xy")
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    make.state("t", I32, (1,))
    make.output("y", I32, (1,))
    make.launch(KERNELS["copy_i32"], x="x", y="t", node="A")
    make.launch(Kernel("two_roles", parameters, roles), x="t", y="y", node="B")
    graph = with_kinds(make.build(), PROGRAMMATIC, ("A", "B"))
    assert every_outcome(graph, {"x": [7]}, "y") == expected


# Bodies


def looping() -> Graph:
    """Three rounds of a body whose two kernels are joined by a programmatic dependency, and a child graph."""
    make = GraphBuilder("looping")
    make.input("rounds", I32, (1,))
    make.input("x", I32, (2,))
    make.state("left", I32, (1,))
    make.state("a", I32, (2,))
    make.output("y", I32, (2,))
    make.copy("rounds", "left")
    make.copy("x", "a")
    countdown = vector_kernel("countdown", "n", phase("down", "countdown", reads=["n"], writes=["n"]))
    turn = vector_kernel("turn", "y", Trigger(), Wait(), *KERNELS["turn_i32"].phases)
    inner = GraphBuilder("inner")
    for name, count in (("left", 1), ("a", 2)):
        inner.state(name, I32, (count,))
    inner.launch(countdown, n="left", node="down")
    inner.launch(turn, y="a", node="turn")
    inner.launch(turn, y="a", node="again")
    nodes = inner.build().nodes.values()
    edges = with_kinds(inner.build(), PROGRAMMATIC, ("down", "turn"), ("turn", "again")).dependencies
    body = Graph("body", nodes=nodes, dependencies=edges)
    make.add(ConditionalNode("loop", "while", "left", (body,)))
    child = Graph(
        "child", nodes=[KernelNode("copy", "copy_i32", (("x", BufferArgument("a")), ("y", BufferArgument("y"))))]
    )
    make.launch(KERNELS["copy_i32"], x="a", y="y", node="declares")
    make.launch(countdown, n="left", node="declares_too")
    make.launch(turn, y="a", node="declares_three")
    make.add(ChildGraphNode("child", child))
    return make.build()


def test_bodies_run_adversarially_inside_and_replay() -> None:
    graph = looping()
    inputs = {"rounds": 3, "x": [1, 2]}
    expected = serial(graph, inputs)["y"].tolist()
    for seed in range(8):
        found, schedule = adversarial(graph, inputs, seed)
        assert found["y"].tolist() == expected
        names = [action.node for action in schedule.actions]
        assert names.count("loop") == 1
        assert [a for a in schedule.actions if a.kind == "phase"].count(Action("phase", "loop/turn", "turn")) == 3
        assert ReferenceTarget(schedule).load(graph, {}).run(inputs)["y"].tolist() == expected


def test_deadlock_is_reported_with_the_states() -> None:
    """Valid graphs cannot; this one is tampered with after it was bound."""
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    make.output("y", I32, (1,))
    make.copy("x", "y", node="never")
    graph = make.build()
    bound = bind_graph(graph, Memory(graph, {}))
    bound = replace(bound, links=(replace(bound.links[0], full_sources=1),))
    _, strategy = strategy_for(0, 0, 1)
    with pytest.raises(InternalError, match=r"deadlock.*\n  never: not started, 1 sources hold it back"):
        Machine(bound, strategy, lambda action: None, h6=False, loop_limit=1).run()


def test_a_chain_of_empty_kernels_is_no_recursion() -> None:
    make = GraphBuilder("g")
    make.input("x", I32, (1,))
    empty = vector_kernel("empty", "x", Trigger(), Wait())
    for i in range(3000):
        make.launch(empty, x="x", node=f"n{i}")
    graph = with_kinds(make.build(), PROGRAMMATIC, *((f"n{i}", f"n{i + 1}") for i in range(2999)))
    adversarial(graph, {"x": 1}, 0)
    adversarial(make.build(), {"x": 1}, 0)
