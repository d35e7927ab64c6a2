"""The definitions: valid graphs, and what the checker says of them is what the table in docs/litmus.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forerun.ir.kernel import Trigger, Wait
from forerun.runtime.litmus import TESTS, LitmusTest, graph_of, needed_assumptions, rule_text, select
from forerun.runtime.litmus.notation import full, kernel_of, observations, programmatic
from forerun.support.diagnostics import InternalError, InvalidInput
from forerun.testing.explorer import explore
from tests.litmus.benches import small

NEVER = (
    "L1 L1w L4b L4c L14 L6b L8b L13 L13b L13c L13w L15 L10 L10w L11b L17b "
    "L12 L12d L16 L16w L19 L19w L20 L20b L20c L20d L20e L20f L20w"
)
BY_H6 = "L5 L5b L5e L5w L5bw L5v L5x L10c L12c"
BY_H8 = "L7 L7w L7y"


def test_rules_are_those_of_the_table():
    """The table of the first run on an H100, and what the documents say of the tests that came later."""
    said = {name: rule_text(needed_assumptions(test)) for name, test in TESTS.items()}
    expected = dict.fromkeys(TESTS, "may")
    for names, rule in ((NEVER, "never"), (BY_H6, "never by H6"), (BY_H8, "never by H8")):
        expected |= dict.fromkeys(names.split(), rule)
    assert said == expected


def test_the_docs_have_all_tests():
    text = (Path(__file__).parents[2] / "docs" / "litmus.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (L\w+) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert listed == [(name, test.what, rule_text(needed_assumptions(test))) for name, test in TESTS.items()]


@pytest.mark.parametrize("name", TESTS)
def test_the_explorer_agrees(name):
    """It finds a race with what is looked at exactly where the rules forbid nothing."""
    test = small(TESTS[name])
    graph = graph_of(test)
    for assumptions in ((), ("H6",), ("H8",)):
        seen = explore(graph, assumptions)
        wrong = False
        for o in observations(test):
            accesses = [access for pair in seen.races for access in pair]
            if o.node:
                wrong |= any((a.node, a.buffer, a.write) == (o.node, o.variable, False) for a in accesses)
            else:
                wrong |= (
                    any(a.buffer == o.variable and b.write and a.write for a, b in seen.races) or "A" in seen.undrained
                )
        needed = needed_assumptions(test)
        # Copy engine and fence: the explorer closes what a fence releases for every reader; the checker does not.
        if name != "L10d":
            assert wrong == (needed is None or not needed <= set(assumptions)), assumptions


def test_controls_may_show_violations():
    for test in TESTS.values():
        assert not test.controls or needed_assumptions(test) is None, test.name
    assert {assumption for test in TESTS.values() for assumption in test.controls} == {"H6", "H8"}
    assert {"L5c", "L1b", "L9b", "L11"} <= {name for name, test in TESTS.items() if "H6" in test.controls}


def test_a_body_becomes_steps():
    kernel = kernel_of("wait, store x | load y, fenced trigger")
    assert [role.warps for role in kernel.roles] == [1, 1]
    first, second = ([getattr(step, "name", step) for step in role.steps] for role in kernel.roles)
    assert first == ["draw", Wait(), "store_x"]
    assert second == ["load_y", Trigger(fenced=True), "report_y"]
    assert [p.name for p in kernel.parameters] == ["fresh", "x", "y", "seen_y"]


def test_a_copy_is_asynchronous_and_complete_before_the_next_step():
    copy, land, report = kernel_of("copy x").phases
    assert copy.asynchronous
    assert (land.uses, land.defines, report.uses) == (copy.defines, ("got_x",), ("got_x",))


def test_variables_share_a_sector_if_they_should():
    graph = graph_of(TESTS["L19"])
    x, y = graph.buffers["x"], graph.buffers["y"]
    assert x.allocation == y.allocation
    assert abs(x.offset - y.offset) < 32 <= graph.allocations[x.allocation].size


def test_unknown_words_and_names():
    with pytest.raises(InvalidInput, match="no word 'stor x'") as caught:
        kernel_of("stor x")
    assert "store x" in caught.value.hint
    with pytest.raises(InvalidInput, match="no litmus test 'L55'"):
        select(["L5", "L55"])
    assert [test.name for test in select(["L5b", "L1"])] == ["L1", "L5b"]


def test_roles_need_whole_warps():
    test = LitmusTest("bad", "", {"A": "wait | trigger"}, ())
    with pytest.raises(InvalidInput, match="a role is one warp"):
        graph_of(test)


def test_what_is_looked_at_must_be_under_one_rule():
    nodes = {"A": "store x", "B": "load x", "C": "load x"}
    test = LitmusTest("mixed", "", nodes, (full("A", "B"), programmatic("A", "C")))
    with pytest.raises(InternalError, match="different things"):
        needed_assumptions(test)
