"""What nodes touch, and when: waits, roles, barriers, scalars, black boxes, nested graphs."""

from __future__ import annotations

import pytest

from forerun.ir.graph import Graph
from forerun.ir.kernel import Kernel
from forerun.ir.semantics import accesses, check, conflicts, late_steps
from forerun.ir.semantics.body import triggers_after_wait
from forerun.ir.text import parse_graph

TABLES = """
buffer %x : f32[4, 2] input
buffer %y : f32[4, 2] output
buffer %i : i32[2] input in 0..3
buffer %s : i32[1] state in 0..3
"""


def parsed(text: str) -> Graph:
    return parse_graph(f"forerun 1\ngraph g\n{TABLES}\n{text}")


def kernel(body: str) -> Kernel:
    (found,) = parsed(f"kernel @k(x: f32[R, C], y: f32[R, C], r: scalar i32) {{\n{body}\n}}").kernels.values()
    return found


def early_phases(found: Kernel) -> set[str]:
    late = late_steps(found)
    return {step.name for role, i, step in found.steps() if hasattr(step, "name") and not late[role.name, i]}


def roles(**steps: str) -> str:
    """A body from its roles' steps, separated by commas."""
    return "\n".join(f"role {name} {{\n" + "\n".join(found.split(", ")) + "\n}" for name, found in steps.items())


P, Q = "phase p reads x", "phase q writes y"


@pytest.mark.parametrize(
    ("body", "early"),
    [
        (roles(a=f"{P}, {Q}"), {"p", "q"}),
        (roles(a=f"{P}, wait, {Q}"), {"p"}),
        (roles(a=f"wait, {P}", b=Q), {"q"}),
        (roles(a=f"wait, barrier, {P}", b=f"phase o reads x, barrier, {Q}"), {"o"}),
        (roles(a="barrier, wait, barrier", b=f"barrier, {P}, barrier, {Q}"), {"p"}),
        (roles(a="barrier, wait", b=f"barrier, {Q}"), {"q"}),
    ],
    ids=["never", "own wait", "other role", "barrier after the wait", "second barrier", "barrier before the wait"],
)
def test_after_the_wait(body: str, early: set[str]) -> None:
    assert early_phases(kernel(body)) == early


@pytest.mark.parametrize(
    ("body", "holds"),
    [
        (roles(a="wait, trigger"), True),
        (roles(a="trigger, wait"), False),
        (roles(a="wait"), True),
        (roles(a=P), False),
        (roles(a="wait", b="trigger"), False),
        (roles(a="wait, barrier", b="barrier, trigger"), True),
    ],
)
def test_h5_no_trigger_before_the_wait(body: str, holds: bool) -> None:
    assert triggers_after_wait(kernel(body)) is holds


ROW = """
kernel @row(x: f32[R, C], y: f32[R, C], r: scalar i32) {
  role main {
    phase load reads x[r:r + 1] defines v
    wait
    phase store uses v writes y[r:r + 1]
  }
}
"""


def test_a_loaded_scalar_is_read_by_each_phase_that_uses_it() -> None:
    graph = parsed(ROW + "node #n = @row(x=%x, y=%y, r=load(%i[1] + 2))")
    found = [(a.verb, a.buffer, str(a.bytes), a.early) for a in accesses(graph)["n"]]
    assert found == [
        ("reads", "i", "[4, 8)", True),
        ("reads", "x", "[8*%i[1] + 16, 8*%i[1] + 24)", True),
        ("reads", "i", "[4, 8)", False),
        ("writes", "y", "[8*%i[1] + 16, 8*%i[1] + 24)", False),
    ]


def found_conflicts(graph: Graph) -> set[tuple[str, str, str]]:
    return {(c.earlier.node, c.later.node, c.kind) for c in conflicts(graph)}


def test_equal_loads_are_equal_unless_the_graph_writes_them_in_between() -> None:
    first, second = (
        f"node #{name} = @row(x=%x, y=%y, r=load(%s[0]{more}))\n" for name, more in (("a", ""), ("b", " + 1"))
    )
    rows = parsed(ROW + first + second + "  after #a full")
    assert not list(conflicts(rows))
    after = parsed(ROW + first + second + "  after #a full\nnode #c = fill %s with 1\n  after #b full")
    assert found_conflicts(after) == {("a", "c", "WAR"), ("b", "c", "WAR")}
    between = parsed(ROW + first + "node #c = fill %s with 1\n  after #a full\n" + second + "  after #c full")
    assert found_conflicts(between) == {("a", "c", "WAR"), ("c", "b", "RAW"), ("a", "b", "WAW")}
    symbols = [str(a.bytes) for name in "ab" for a in accesses(between)[name] if a.write]
    assert symbols == ["[8*%s[0], 8*%s[0] + 8)", "[8*%s[0]@1 + 8, 8*%s[0]@1 + 16)"]


def test_in_a_node_that_may_write_a_scalar_no_two_loads_are_equal() -> None:
    kernel = """
kernel @step(x: f32[4, 2], i: i32[2], r: i32) {
  role main {
    phase load reads x[r:r + 1, :] defines v
    phase store uses v writes x[r + 1:r + 2, :], i
  }
}
"""
    graph = parsed(ROW + kernel + "node #n = @step(x=%x, i=%i, r=load(%i[0]))")
    symbols = [a.bytes.start_terms for a in accesses(graph)["n"] if a.bytes.start_terms]
    assert symbols == [(("%i[0]@n.load", 8),), (("%i[0]@n.store", 8),)]


def test_constant_scalars_are_values() -> None:
    graph = parsed(ROW + "node #n = @row(x=%x, y=%y, r=3)")
    assert [str(a.bytes) for a in accesses(graph)["n"]] == ["[24, 32)", "[24, 32)"]


def test_a_black_box_touches_all_that_it_points_to() -> None:
    graph = parsed("kernel @box(x: f32, r: scalar i32) opaque\nnode #n = @box(x=%x, r=load(%i[0]))")
    found = {(a.verb, a.buffer) for a in accesses(graph)["n"]}
    assert found == {("reads", "x"), ("writes", "x"), ("reads", "i")}
    assert all(a.early and not a.certain for a in accesses(graph)["n"])


def test_races_that_rest_on_black_boxes_are_unsupported() -> None:
    boxes = "kernel @box(x: f32) opaque\nnode #m = @box(x=%y)\nnode #n = @box(x=%y)"
    assert check(parsed(boxes)).status == "unsupported"
    assert check(parsed(boxes + "\n  after #m full")).proved


def test_what_touches_some_bytes_conflicts_but_not_for_certain() -> None:
    def of(*arguments: str, edges: str = "") -> Graph:
        nodes = (f"node #n{n} = @set(y={argument})" for n, argument in enumerate(arguments))
        return parsed("kernel @set(y: f32) {\nrole all {\nphase set writes y\n}\n}\n" + "\n".join(nodes) + edges)

    assert check(of("%y", "%y")).status == "refuted"
    for arguments in (("some %y", "%y"), ("%y", "some %y"), ("some %y", "some %y")):
        assert check(of(*arguments)).status == "unsupported"
        assert [race.certain for race in check(of(*arguments)).races] == [False]
        assert check(of(*arguments, edges="\n  after #n0 full")).proved
    # What lies between and may not be there hides nothing.
    assert [(c.earlier.node, c.later.node) for c in conflicts(of("%y", "%y", "%y"))] == [("n0", "n1"), ("n1", "n2")]
    assert len([*conflicts(of("%y", "some %y", "%y"))]) == 3
    assert check(of("%y", "some %y", "%y", edges="\n  after #n1 full")).status == "refuted"


def test_a_page_table_behind_an_argument_that_may_not_be_touched_may_not_be_read() -> None:
    graph = parsed("buffer %p : f32[4, 2] state paged(%i, 1)\n" + ROW + "node #n = @row(x=%x, y=some %p, r=1)")
    found = [a for a in accesses(graph)["n"] if a.phase == "store"]
    assert [(a.verb, a.buffer, a.certain) for a in found] == [("writes", "p", False), ("reads", "i", False)]


def test_page_tables_are_read() -> None:
    graph = parsed("buffer %p : f32[4, 2] state paged(%i, 1)\n" + ROW + "node #n = @row(x=%x, y=%p, r=1)")
    found = [a for a in accesses(graph)["n"] if a.phase == "store"]
    assert [(a.verb, a.buffer, a.certain) for a in found] == [("writes", "p", False), ("reads", "i", True)]
    assert not found[0].bytes.exact


def test_bodies_are_accesses_of_their_node_and_are_checked_inside() -> None:
    inner = "graph body\n node #a = @row(x=%x, y=%y, r=1)\n node #b = fill %y with 1\n"
    racy, fine = (parsed(f"{ROW}node #w = while %s {{\n{inner}{edge}}}") for edge in ("", "  after #a full\n"))
    assert {(a.verb, a.buffer) for a in accesses(fine)["w"]} == {("reads", "s"), ("reads", "x"), ("writes", "y")}
    assert check(fine).proved
    assert check(racy).status == "refuted"


def test_a_race_names_both_ends_and_a_repair() -> None:
    graph = parsed(ROW + "node #a = fill %x with 1\nnode #b = @row(x=%x, y=%y, r=1)")
    (found,) = check(graph).findings
    assert found.code == "R1"
    assert "RAW race: reads %x bytes [8, 16) in phase 'load', before its wait, while 'a'" in found.message
    assert found.hint == "add a full dependency 'a' -> 'b'"


def test_an_undrained_node_is_named() -> None:
    sink = "kernel @sink(x: f32[R, C]) {\n  role main {\n    phase p reads x\n  }\n}\n"
    text = ROW + sink + "node #a = @row(x=%x, y=%y, r=1)\nnode #b = @sink(x=%x)\n  after #a programmatic"
    found = check(parsed(text)).findings
    assert [(d.code, d.location.name) for d in found] == [("R2", "a")]
