"""Verdicts and assumptions from made-up counts."""

from __future__ import annotations

import pytest

from forerun.runtime.litmus import MINIMUM_RUNS, TESTS, Counts, broken_rules, decide, rule_text, verdict
from tests.litmus.benches import as_expected

H6, H8, NOTHING = frozenset({"H6"}), frozenset({"H8"}), frozenset[str]()


@pytest.mark.parametrize(
    ("needed", "counts", "expected"),
    [
        (NOTHING, Counts(10), "kept"),
        (NOTHING, Counts(10, 1), "BROKEN"),
        (H6, Counts(10), "kept"),
        (H6, Counts(10, 10), "BROKEN"),
        (None, Counts(10), "allowed, not seen"),
        (None, Counts(10, 2), "allowed, seen"),
        (None, Counts(0), "nothing to see"),
        (NOTHING, Counts(10, 3, foreign=1), "FAULTY"),
    ],
)
def test_verdicts(needed, counts, expected):
    assert verdict(needed, counts) == expected


def test_words_of_rules():
    assert [rule_text(x) for x in (None, NOTHING, H6, H6 | H8)] == ["may", "never", "never by H6", "never by H6 and H8"]


def test_all_kept_and_all_controls_seen_licenses_both():
    decisions = decide(as_expected())
    assert {name: d.status for name, d in decisions.items()} == {"H6": "granted", "H8": "granted"}
    assert "fewer than 0.30% of runs" in decisions["H6"].reasons[0]


@pytest.mark.parametrize("test", [name for name, t in TESTS.items() if "H6" in t.controls])
def test_a_silent_control_is_no_pass(test):
    decision = decide(as_expected(**{test: Counts(1000, 0)}))["H6"]
    assert (decision.status, decision.granted) == ("inconclusive", False)
    assert test in decision.reasons[0]
    assert "must show violations" in decision.reasons[0]


def test_a_silent_control_of_h8_does_not_concern_h6():
    decisions = decide(as_expected(L7cw=Counts(1000, 0)))
    assert (decisions["H6"].status, decisions["H8"].status) == ("granted", "inconclusive")


def test_one_violation_refutes():
    decisions = decide(as_expected(L5bw=Counts(1000, 1)))
    assert decisions["H6"].status == "refuted"
    assert "L5bw shows it in 1 of 1,000 runs" in decisions["H6"].reasons[0]
    assert decisions["H8"].status == "granted"


def test_a_violation_refutes_even_if_little_else_ran():
    assert decide({"L5": Counts(3, 1)})["H6"].status == "refuted"


def test_missing_tests_and_few_runs_are_inconclusive():
    results = as_expected(L5v=Counts(MINIMUM_RUNS - 1))
    del results["L5"], results["L11"]
    reasons = decide(results)["H6"].reasons
    assert reasons == ("not run: L5, L11", f"fewer than {MINIMUM_RUNS} runs: L5v")
    assert decide({})["H8"].status == "inconclusive"


def test_enough_runs_are_enough():
    assert all(decision.granted for decision in decide(as_expected(MINIMUM_RUNS)).values())


@pytest.mark.parametrize("changed", [{"L1": Counts(1000, 1)}, {"L3": Counts(1000, 5, foreign=1)}])
def test_broken_rules_and_faulty_tests_license_nothing(changed):
    results = as_expected(**changed)
    assert broken_rules(results) == tuple(changed)
    assert {decision.status for decision in decide(results).values()} == {"inconclusive"}


def test_what_may_be_seen_breaks_nothing():
    assert broken_rules(as_expected(L5=Counts(1000, 7))) == ()
