"""An optimized graph that becomes one of another capture: exactly, in the cheapest way, and told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import forerun
from forerun.external import decisions
from forerun.external.optimize import CAPTURED_PIPELINE
from forerun.runtime.cuda.capture import clone_update, comparison, reading
from forerun.runtime.cuda.capture.clone import made_graph
from forerun.runtime.cuda.capture.clone_update import update_clone
from forerun.runtime.cuda.capture.comparison import compare_captures
from forerun.runtime.cuda.driver.scope import Scope
from forerun.support.diagnostics import ForerunError, InvalidInput, Unsupported
from tests.external.captures import AGAIN, OPAQUE, OTHER, Program, Spec, changes, program, specs
from tests.runtime.cuda.capture.fake import handle

WHOLE = "copies, fills, host functions and child graphs cannot be set one by one"


def optimized(captured: Any, **options: Any) -> Any:
    return forerun.optimize(captured, pipeline=CAPTURED_PIPELINE, **options)


def executable(graph: Any) -> Any:
    return graph._rewritten.clone.executable


def made(found: Program) -> int:
    """How many executables were instantiated."""
    return sum(call[0] == "cuGraphInstantiate" for call in found.cuda.calls)


def from_scratch(found: Program, captured: Any) -> tuple[Any, Any]:
    """What optimizing a capture makes; or why it is refused."""
    try:
        scratch = optimized(captured)
    except ForerunError as error:
        return None, error
    return scratch, None


@given(st.data())
def test_an_updated_executable_is_what_optimizing_from_scratch_makes(data: st.DataObject) -> None:
    with program() as found:
        nodes = data.draw(specs())
        graph, _ = from_scratch(found, found.capture(nodes))
        if graph is None:
            event("the first capture is refused")
            return
        for _ in range(data.draw(st.integers(1, 3))):
            new = data.draw(changes(nodes))
            edges = data.draw(st.sampled_from([{}] * 5 + [{0: 1}]))
            captured = found.capture(new, edges)
            scratch, error = from_scratch(found, captured)
            before, graphs, count = found.cuda.state(executable(graph)), graph.graph, made(found)
            if scratch is None:
                event(f"refused: {type(error).__name__}")
                with pytest.raises(type(error)):
                    graph.update(captured)
                assert found.cuda.state(executable(graph)) == before
                assert graph.graph is graphs
                continue
            found.cuda.refuse = data.draw(st.sampled_from([None] * 6 + [0, 1]), label="what the driver refuses")
            update = graph.update(captured)
            found.cuda.refuse = None
            event(f"{update.way}, {update.proof}")
            assert found.cuda.state(executable(graph)) == found.cuda.state(executable(scratch))
            assert graph.graph == scratch.graph
            assert graph.imported.graph == scratch.imported.graph
            assert (graph.imported.captured, graph.imported.reasons) == (captured.graph, scratch.imported.reasons)
            assert (graph.made, graph.unfit) == (scratch.made, scratch.unfit)
            assert (made(found) > count) == (update.way == "instantiated")
            if update.way == "reused":
                assert before == found.cuda.state(executable(graph))
            assert graph.live is captured
            graph.replay(stream=4)
            scratch.close()
            assert len(found.cuda.executables) == 1
            nodes = new
        graph.close()
        assert captured.driver.handles.live() == ()
        assert not found.cuda.executables


FIRST, SECOND = Spec(), Spec(blocks=("w1", "y", "z"))
FILL, CALL, CHILD = Spec(0, factor=7), Spec(-1), Spec(OPAQUE, ("w0", "w0", "w1"), inside=True)
CHAIN = [FIRST, SECOND, FILL, CALL, CHILD]
CLUSTER = (("cluster", (2, 1, 1)),)

CASES: dict[str, tuple[int, dict[str, Any], str]] = {
    "nothing": (0, {}, "reused"),
    "a scalar": (1, {"factor": 5}, "parameters: parameter 4 changed at n1"),
    "a scalar that accesses depend on": (1, {"count": 100}, "parameters: parameter 3 changed at n1"),
    "a pointer": (1, {"blocks": ("w0", "y", "z")}, "parameters: parameter 0 changed at n1"),
    "a grid": (0, {"grid": 2}, "parameters: grid changed at n0"),
    "another load of the same code": (0, {"function": AGAIN}, "parameters: module changed at n0"),
    "other code of the same name": (
        0, {"function": OTHER}, "instantiated: code changed at n0; an update could keep the old code of n0"
    ),
    "a cluster": (
        1, {"attributes": CLUSTER}, "instantiated: cluster changed at n1; an update could keep the old cluster of n1"
    ),
    "a priority": (
        1, {"attributes": (("priority", -1),)},
        "instantiated: attribute 'priority' changed at n1; an update could keep the old attribute 'priority' of n1",
    ),
    "an attribute that captures do not keep": (
        1, {"attributes": (("preferred", 4),)},
        "instantiated: attributes changed at n1; an update could keep the old attributes of n1",
    ),
    "what lies on the way of a fill": (2, {"count": 64}, f"whole graph: fill changed at n2; {WHOLE}"),
    "a host function": (3, {"count": 8}, f"whole graph: host function changed at n3; {WHOLE}"),
    "a node in a child graph": (4, {"factor": 9}, f"whole graph: parameter 4 changed at n4/n0; {WHOLE}"),
    "a cluster in a child graph": (
        4, {"attributes": CLUSTER},
        "instantiated: cluster changed at n4/n0; an update could keep the old cluster of n4/n0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("number", "change", "told"), CASES.values(), ids=CASES)
def test_the_cheapest_exact_way_is_taken_and_told(number: int, change: dict[str, Any], told: str) -> None:
    with program() as found:
        graph = optimized(found.capture(CHAIN))
        nodes = [replace(spec, **change) if i == number else spec for i, spec in enumerate(CHAIN)]
        count, names = made(found), len(found.cuda.calls)
        update = graph.update(found.capture(nodes))
        assert str(update) == told
        calls = Counter(call[0] for call in found.cuda.calls[names:])
        assert calls["cuGraphExecKernelNodeSetParams"] == (update.way == "parameters")
        assert calls["cuGraphExecUpdate"] == (update.way == "whole graph")
        assert made(found) == count + (update.way == "instantiated")
        assert update.proof == {"nothing": "nothing to prove", "a scalar": "scalars"}.get(_name(told), update.proof)
        graph.close()


def _name(told: str) -> str:
    return next(name for name, (_, _, expected) in CASES.items() if expected == told)


def test_an_update_of_the_whole_graph_would_keep_a_cluster() -> None:
    """The fake driver is as inexact as real ones; so where a cluster changed beside a fill, nothing is updated."""
    with program() as found:
        clustered = [replace(FIRST, attributes=CLUSTER), SECOND, replace(FILL, factor=8)]
        graph = optimized(found.capture([FIRST, SECOND, FILL]))
        captured = found.capture(clustered)
        exact = optimized(captured)
        scope = Scope(captured.driver)
        clone, form = graph._rewritten.clone, exact._rewritten.decision.form
        inexact, _ = made_graph(captured, form, clone.functions, scope)
        assert captured.driver.call("cuGraphExecUpdate", clone.executable, inexact) is None
        assert found.cuda.state(clone.executable)[1] != found.cuda.state(executable(exact))[1]
        scope.release()
        assert graph.update(captured).way == "instantiated"
        assert found.cuda.state(executable(graph)) == found.cuda.state(executable(exact))


def same_as_from_scratch(found: Program, graph: Any, captured: Any) -> bool:
    scratch = optimized(captured)
    states = [found.cuda.state(executable(one)) for one in (graph, scratch)]
    return states[0] == states[1] and graph.imported.graph == scratch.imported.graph and graph.graph == scratch.graph


def _by_name(one: Any, other: Any, is_same_handle: bool) -> str:
    return "" if one.name == other.name else "code"


WRONG: dict[str, tuple[Any, str, Any, dict[str, Any]]] = {
    "functions are told apart by their names": (comparison, "_function_aspect", _by_name, {"function": AGAIN}),
    "a cluster is thought to be updated": (clone_update, "can_be_set", lambda aspect: True, {"attributes": CLUSTER}),
    "what is not kept of a node is not compared": (
        reading, "node_details", lambda *node: None, {"attributes": (("preferred", 4),)},
    ),
    "pointers count as scalars": (decisions, "_LEAST_POINTER", 9, {"blocks": ("w1", "z", "y")}),
}  # fmt: skip


@pytest.mark.parametrize(("module", "name", "wrong", "change"), WRONG.values(), ids=WRONG)
def test_wrong_updates_are_seen(
    module: Any, name: str, wrong: Any, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each of these mistakes an executable differs from what optimizing from scratch makes."""
    for is_wrong in (False, True):
        with program() as found, monkeypatch.context() as patch:
            if is_wrong:
                patch.setattr(module, name, wrong)
            graph = optimized(found.capture([FIRST, SECOND]))
            captured = found.capture([FIRST, replace(SECOND, **change)])
            graph.update(captured)
            assert same_as_from_scratch(found, graph, captured) != is_wrong


def test_scalars_that_accesses_depend_on_are_proved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_wrong in (False, True):
        with program() as found:
            graph = optimized(found.capture([FIRST, SECOND]))
            assert graph.imported.weighed == {"n0": frozenset({3}), "n1": frozenset({3})}
            if is_wrong:
                decision = graph._rewritten.decision
                graph._rewritten = replace(
                    graph._rewritten, decision=replace(decision, imported=replace(decision.imported, weighed={}))
                )
            captured = found.capture([FIRST, replace(SECOND, count=100)])
            assert graph.update(captured).proof == ("scalars" if is_wrong else "full")
            assert same_as_from_scratch(found, graph, captured) != is_wrong


def test_edges_and_their_kinds_are_compared() -> None:
    with program() as found:
        nodes = [FIRST, Spec(OPAQUE, ("w0", "w0", "w1")), SECOND]
        graph = optimized(found.capture(nodes))
        found.put(nodes, first=5001)
        del found.cuda.edges[0]
        found.cuda.connect(5001, 5003)
        update = graph.update(found.session.graph(handle(50)))
        assert update.way == "instantiated"
        assert update.reason.startswith("an edge from n0 to n2 came")
        found.put(nodes, first=6001)
        found.cuda.edges[0][2].type = 1
        reason = compare_captures(graph.live, found.session.graph(handle(60))).reason
        assert reason == "an edge from n0 to n1 came"
        before = found.capture(nodes)
        assert compare_captures(before, found.capture(nodes, {0: 1})).reason == "edge kind changed from n0 to n1"
        assert compare_captures(before, found.capture(nodes[:2])).reason == "2 nodes, and 3 before"
        other = compare_captures(before, found.capture([FIRST, FILL, SECOND]))
        assert other.reason == "n1 is of the kind 'memset', and was of the kind 'kernel'"
        graph.close()


@pytest.mark.parametrize("refused_at", [0, 1])
def test_what_the_driver_refuses_is_put_back_and_instantiated(refused_at: int) -> None:
    with program() as found:
        graph = optimized(found.capture([FIRST, SECOND]))
        old = executable(graph)
        before = found.cuda.state(old)
        captured = found.capture([replace(spec, factor=9) for spec in (FIRST, SECOND)])
        found.cuda.refuse = refused_at
        clone, decision = graph._rewritten.clone, graph._rewritten.decision
        difference = compare_captures(clone.live, captured)
        way, remark = update_clone(clone, captured, decision.form, difference, {})
        assert way == "instantiated"
        assert remark == "the driver refused what nodes are to launch (CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE)"
        assert found.cuda.state(old) == before
        assert clone.live is not captured
        found.cuda.refuse = refused_at
        assert graph.update(captured).reason.startswith(
            "parameter 4 changed at n0, and 1 node more; the driver refused"
        )
        assert executable(graph) != old
        assert [node["values"][4][0] for node in found.cuda.state(executable(graph))[0]] == [9, 9]
        fill = optimized(found.capture([FIRST, FILL]))
        captured = found.capture([FIRST, replace(FILL, factor=1)])
        found.cuda.refuse = 0
        assert "the driver refused to update the graph" in fill.update(captured).reason
        assert fill._rewritten.clone.live is captured


def test_named_parameters_give_way_to_what_the_program_captured() -> None:
    with program() as found:
        graph = optimized(found.capture([FIRST, SECOND]))
        graph.name_parameter("factor", "i32", kernel="scale", parameter=4, nodes=["n0"])
        graph.parameters["factor"] = 77
        named = found.cuda.state(executable(graph))
        assert graph.update(found.capture([FIRST, SECOND])).way == "reused"
        assert (graph.parameters["factor"], found.cuda.state(executable(graph))) == (77, named)
        captured = found.capture([FIRST, replace(SECOND, factor=3)])
        assert graph.update(captured).way == "parameters"
        assert dict(graph.parameters) == {}
        scratch = optimized(captured)
        assert found.cuda.state(executable(graph)) == found.cuda.state(executable(scratch))
        # Names work on what the graph is now.
        graph.name_parameter("factor", "i32", kernel="scale", parameter=4, nodes=["n1"])
        graph.parameters["factor"] = 5
        assert found.cuda.state(executable(graph))[0][1]["values"][4][0] == 5
        assert found.cuda.state(executable(graph))[0][0] == found.cuda.state(executable(scratch))[0][0]


def test_the_programs_own_graph_is_taken_over() -> None:
    with program() as found:
        found.put(CHAIN)
        graph = optimized(found.session.graph(handle(3)))
        assert str(graph.update()) == "reused"
        found.put([replace(FIRST, factor=4), *CHAIN[1:]])
        update = graph.update()
        assert (str(update), update.proof) == ("parameters: parameter 4 changed at n0", "scalars")
        assert not graph.refresh()
        found.put([FIRST, *CHAIN[1:-1], replace(CHILD, factor=4)])
        assert graph.refresh()
        # Race: the update leaves the graph as it was; refresh closes it, since it is not the program's any more.
        found.put([FIRST, SECOND])
        found.cuda.edges.clear()
        with pytest.raises(forerun.Refuted):
            graph.update()
        graph.replay(stream=4)
        with pytest.raises(forerun.Refuted):
            graph.refresh()
        with pytest.raises(InvalidInput, match="is closed"):
            graph.update()


def test_changes_of_the_programs_own_graph_are_seen_that_captures_do_not_keep() -> None:
    with program() as found:
        found.put(CHAIN)
        live = found.session.graph(handle(3))
        for number, change, aspect in (
            (2, {"count": 64}, "fill"), (3, {"count": 8}, "host function"),
            (1, {"attributes": (("scheduling", 1),)}, "attributes"),
        ):  # fmt: skip
            found.put([replace(spec, **change) if i == number else spec for i, spec in enumerate(CHAIN)])  # type: ignore[arg-type]
            assert live.changes() == f"{aspect} changed at n{number}"
            assert found.session.graph(handle(3)).graph == live.graph
        found.put(CHAIN)
        assert live.changes() == ""


def test_texts_are_looked_for_once_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    with program() as found:
        sought: list[str] = []
        look = found.session._texts
        monkeypatch.setattr(found.session, "_texts", lambda images: sought.extend(images) or look(images))
        texts = [found.capture([FIRST, SECOND]).graph.texts for _ in range(3)]
        assert len(sought) == 1
        assert texts[0]
        assert texts[0] == texts[2]
        found.capture([FIRST, replace(SECOND, function=OTHER)])
        assert len(sought) == len(set(sought)) == 2


def test_wrong_sources() -> None:
    with program() as found:
        graph = optimized(found.capture(CHAIN))
        for wrong in ("graph", 1.5, [], object()):
            with pytest.raises(InvalidInput, match="is not a CUDA graph"):
                graph.update(wrong)
        with pytest.raises(Unsupported, match="checked, but not changed"):
            graph.update(found.capture([Spec(attributes=(("updatable", 1),))]))
        graph.close()
        with pytest.raises(InvalidInput, match="is closed"):
            graph.update(found.capture(CHAIN))


def test_what_nobody_can_read_is_never_the_same() -> None:
    with program() as found:
        captured = found.capture(CHAIN)
        assert compare_captures(captured, captured).is_empty
        found.cuda.unreadable = {"CU_LAUNCH_ATTRIBUTE_PRIORITY"}
        nodes = [FIRST, SECOND]
        graph = optimized(found.capture(nodes))
        update = graph.update(found.capture(nodes))
        assert update.way == "instantiated"
        assert "attributes or parameters that are not told" in update.reason
        graph.close()
