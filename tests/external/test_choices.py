"""Choices for the functions of a captured graph: their graphs are certified, and the search finds what pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forerun.captured import CapturedEdge
from forerun.external.choices import (
    ORDERS,
    TARGETS,
    TRIGGERS,
    Choice,
    Choices,
    Order,
    chosen_graph,
    functions_of,
    prefetching,
    with_waits_first,
)
from forerun.external.search import Candidate, Options, search
from forerun.frontends.captured import import_capture
from forerun.ir.graph import Graph
from forerun.ir.kernel import Phase, Trigger, Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.refinement.certificate import certify
from forerun.passes.infra.manager import PassManager
from tests.captured.samples import SCALE, captured, kernel, launch

NODES = [launch(0, "w0", "x", "y"), launch(1, "w1", "y", "z"), launch(0, "w0", "z", "x"), launch(1, "w1", "x", "y")]
IMPORTED = import_capture(captured([kernel("first", *SCALE), kernel("second", *SCALE)], NODES))
STRONGEST = PassManager("insert-pdl{trigger=none},hoist-loads{full_edges=false}").run(IMPORTED.graph).graph
FUNCTIONS = functions_of(IMPORTED.captured, IMPORTED.names)

any_choices = st.dictionaries(
    st.sampled_from([0, 1]), st.builds(Choice, st.sampled_from(TARGETS), st.sampled_from(TRIGGERS)), max_size=2
)


def graph_of(choices: Choices) -> Graph:
    return chosen_graph(IMPORTED.graph, STRONGEST, FUNCTIONS, choices)


def steps(graph: Graph, node: str) -> list[str]:
    found = graph.nodes[node]
    assert isinstance(found, KernelNode)
    (role,) = graph.kernels[found.kernel].roles or ()
    return [step.name if isinstance(step, Phase) else type(step).__name__ for step in role.steps]


def test_which_function_each_node_launches() -> None:
    assert FUNCTIONS == {"n0": 0, "n1": 1, "n2": 0, "n3": 1}


@given(any_choices)
def test_every_combination_is_certified(choices: Choices) -> None:
    graph = graph_of(choices)
    assert certify(IMPORTED.graph, graph).proved
    for node, function in FUNCTIONS.items():
        choice, found = choices.get(function, Choice()), steps(graph, node)
        kinds = [str(dependency.kind) for dependency in graph.incoming(node)]
        assert kinds in ([], ["full" if choice.target == "keep" else "programmatic"])
        if choice.target == "ahead" and node != "n0":
            assert found.index("load_p0") < found.index(Wait.__name__)
        if choice.target == "keep":
            assert Wait.__name__ not in found


def test_where_triggers_stand() -> None:
    for trigger, expected in (
        ("none", ["load_p0", "Wait", "load_p1", "store"]),
        ("start", ["Trigger", "load_p0", "Wait", "load_p1", "store"]),
        ("after-wait", ["load_p0", "Wait", "Trigger", "load_p1", "store"]),
    ):
        assert steps(graph_of(dict.fromkeys([0, 1], Choice("ahead", trigger))), "n2") == expected  # type: ignore[arg-type]
    # The last node has no dependents to start.
    assert Trigger.__name__ not in steps(graph_of(dict.fromkeys([0, 1], Choice("ahead", "start"))), "n3")


def test_loads_move_ahead_of_waits_that_are_the_kernels_own() -> None:
    own = kernel("own", "griddepcontrol.wait;", *SCALE)
    edges = [CapturedEdge(0, 1, "programmatic", 1)]
    imported = import_capture(captured([own], [launch(0, "w0", "x", "y"), launch(0, "w0", "y", "z")], edges))
    strongest = PassManager("insert-pdl{trigger=none},hoist-loads{full_edges=false}").run(imported.graph).graph
    functions = functions_of(imported.captured, imported.names)
    expected = {"keep": ["Wait", "load_w", "load_x", "store"], "ahead": ["load_w", "Wait", "load_x", "store"]}
    expected["wait"] = expected["keep"]
    for target, wanted in expected.items():
        graph = chosen_graph(imported.graph, strongest, functions, {0: Choice(target)})  # type: ignore[arg-type]
        assert certify(imported.graph, graph).proved
        assert [name.replace("p0", "w").replace("p1", "x") for name in steps(graph, "n1")] == wanted


EARLY = (
    SCALE[1], "griddepcontrol.wait;", SCALE[0], SCALE[2], "griddepcontrol.launch_dependents;", SCALE[3],
)  # fmt: skip
"""A kernel whose author loads early what another node stores."""


def test_waits_and_triggers_of_the_authors_move_to_the_start() -> None:
    edges = [CapturedEdge(0, 1, "programmatic", 1), CapturedEdge(1, 2, "programmatic", 1)]
    nodes = [launch(0, "w0", "x", "y"), launch(0, "w0", "y", "z"), launch(0, "w0", "z", "x")]
    imported = import_capture(captured([kernel("early", *EARLY)], nodes, edges))
    assert not certify(imported.graph, imported.graph).proved
    first = with_waits_first(imported.graph)
    strongest = PassManager("insert-pdl{trigger=none},hoist-loads{full_edges=false}").run(first).graph
    functions = functions_of(imported.captured, imported.names)
    expected = {
        Choice("wait"): ["Wait", "early_load_p1", "Trigger", "load_p0", "store"],
        Choice("wait", "start"): ["Trigger", "Wait", "early_load_p1", "load_p0", "store"],
        Choice("ahead"): ["load_p0", "Wait", "early_load_p1", "Trigger", "store"],
        Choice("prefetch", "start"): ["Trigger", "load_p0", "Wait", "early_load_p1", "store"],
    }
    for choice, wanted in expected.items():
        graph = chosen_graph(imported.graph, strongest, functions, {0: choice})
        assert steps(graph, "n1") == wanted
        assert certify(imported.graph, graph).proved
    kept = chosen_graph(imported.graph, strongest, functions, {0: Choice("keep")})
    assert kept == imported.graph


def test_which_functions_prefetch() -> None:
    assert prefetching({0: Choice("prefetch"), 1: Choice("ahead"), 2: Choice("prefetch", "start")}) == {0, 2}


def test_kernels_of_which_nothing_is_known_keep_their_code() -> None:
    nowhere = launch(1, b"\x10" * 8, "x", "y")
    graph = captured([kernel("known", *SCALE), kernel("unknown", *SCALE)], [nowhere, launch(0, "w0", "y", "z")])
    imported = import_capture(graph)
    strongest = PassManager("insert-pdl{trigger=none},hoist-loads{full_edges=false}").run(imported.graph).graph
    functions = functions_of(imported.captured, imported.names)
    for choices in ({}, {0: Choice("ahead", "start")}):
        assert chosen_graph(imported.graph, strongest, functions, choices).nodes["n0"] == imported.graph.nodes["n0"]


def test_to_keep_all_is_the_captured_graph() -> None:
    assert graph_of(dict.fromkeys([0, 1], Choice("keep"))) == IMPORTED.graph


def clock(costs: Mapping[tuple[int, str, str], float], noise: float = 0.0, orders: Mapping[Order, float] = {}):  # type: ignore[no-untyped-def]
    asked = Counter[int]()

    def one(order: Order, choices: Choices) -> float:
        asked[0] += 1
        cost = sum(costs.get((f, choice.target, choice.trigger), 0.0) for f, choice in choices.items())
        return 1.0 + cost + orders.get(order, 0.0) + noise * (asked[0] % 3)

    return lambda candidates, turns=3: [one(*candidate) for candidate in candidates]


EVERY = [Choice(target, trigger) for target in TARGETS for trigger in TRIGGERS]
OPTIONS: Options = {0: EVERY, 1: EVERY}


def test_the_search_finds_what_pays() -> None:
    costs = {(0, "keep", "none"): -0.1, (1, "wait", "start"): -0.05, (0, "ahead", "start"): 0.2}
    found = search(Counter({0: 5, 1: 2}), OPTIONS, clock(costs))
    assert found.choices[0] == Choice("keep", "none")
    assert found.choices[1].target == "wait"
    assert found.seconds == pytest.approx(0.85)
    assert any(trial.kept for trial in found.trials)


def test_the_better_order_is_kept() -> None:
    for better in ORDERS:
        found = search(Counter({0: 5, 1: 2}), OPTIONS, clock({(0, "wait", "start"): -0.1}, orders={better: -0.2}))
        assert (found.order, found.choices[0]) == (better, Choice("wait", "start"))
        assert {trial.order for trial in found.trials if trial.function >= 0} == {better}
    one = search(Counter({0: 5, 1: 2}), OPTIONS, clock({}, orders={"hazards": -0.2}), ["captured"])
    assert one.order == "captured"


def test_the_captured_graph_is_never_left_behind() -> None:
    """What all of its functions' choices cost is seen in the end."""
    costs = {(0, target, trigger): 0.1 for target in TARGETS for trigger in TRIGGERS}
    found = search(Counter({0: 5}), OPTIONS, clock(costs), ["captured"], untouched={7: Choice("keep")})
    assert (found.order, found.choices, found.seconds) == ("captured", {7: Choice("keep")}, 1.0)
    assert found.begin == pytest.approx(1.1)


def test_nothing_is_kept_that_brings_nothing() -> None:
    found = search(Counter({0: 5, 1: 2}), OPTIONS, clock({}, noise=0.0005))
    assert not any(trial.kept for trial in found.trials)
    assert found.seconds == found.begin


def test_what_has_no_fit_code_is_never_chosen() -> None:
    costs = {(0, target, trigger): float("inf") for target in TARGETS[1:] for trigger in TRIGGERS}
    assert search(Counter({0: 5, 1: 2}), OPTIONS, clock(costs)).choices[0].target == "keep"


@pytest.mark.parametrize("seconds", [1.0, float("inf")])
@pytest.mark.parametrize("options", [{}, {0: []}, {0: [Choice("keep")]}])
def test_where_there_is_nothing_to_choose_all_is_kept(options: Options, seconds: float) -> None:
    """No functions; one without fit code, not even for its own wait; one that can only keep its code."""
    found = search(Counter(dict.fromkeys(options, 1)), options, lambda candidates, turns=3: [seconds] * len(candidates))
    assert found.choices == dict.fromkeys(options, Choice("keep"))
    assert found.seconds == seconds


def test_it_ends_in_time() -> None:
    costs = {(0, "keep", "none"): -0.1, (0, "wait", "start"): -0.05}
    found = search(Counter({0: 5, 1: 2}), OPTIONS, clock(costs), limit_s=0.0)
    assert all(trial.function == -1 for trial in found.trials)
    assert found.choices[0] == Choice("keep", "none")


def test_nothing_is_tried_that_is_no_option() -> None:
    options: Options = {0: [Choice("keep"), Choice("wait", "start")], 1: EVERY}
    asked: list[Choice] = []

    def measure(candidates: Sequence[Candidate], turns: int = 3) -> list[float]:
        asked.extend(choices[0] for _, choices in candidates)
        return [1.0] * len(candidates)

    search(Counter({0: 5, 1: 2}), options, measure)
    assert set(asked) == set(options[0])


def test_a_gpu_that_becomes_slower_hides_no_gain() -> None:
    asked = Counter[int]()

    def measure(candidates: Sequence[Candidate], turns: int = 3) -> list[float]:
        asked[0] += 1
        slower = 0.5 if asked[0] > 1 else 0.0  # after the first choices, which are for all functions
        return [
            1.0 + slower - 0.1 * (choices[1] == Choice("ahead", "start")) + (choices[0] != Choice("keep"))
            for _, choices in candidates
        ]

    found = search(Counter({0: 1, 1: 2}), OPTIONS, measure, ["captured"])
    assert found.choices[1] == Choice("ahead", "start")
