"""Every fusion rule computes what its parts compute, within its tolerance; and wrong rules are told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forerun.ir.fusion import FusionRule, Match, Rejection, Replacement, fusion_rules
from forerun.testing import check_rule
from forerun.testing.counterexample import Counterexample
from tests.strategies import portion

RULES = [rule for rule in fusion_rules().values() if rule.defined_in.startswith("forerun.")]


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(portion(30))
@given(seed=st.integers(0, 1 << 20))
def test_values(rule: FusionRule, seed: int) -> None:
    check_rule(rule, examples=1, seed=seed)


def swapped(rule: FusionRule, first: str, second: str) -> FusionRule:
    """The rule with two variables of its replacement exchanged."""

    def exchanged(match: Match) -> Replacement | Rejection:
        found = rule.replace(match)
        if isinstance(found, Rejection):
            return found
        variables = {**found.variables, first: found.variables[second], second: found.variables[first]}
        return replace(found, variables=variables)

    return replace(rule, replace=exchanged)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("norm-gate-up", "w_gate", "w_up"),
        ("norm-gate-up", "x", "scale"),
        ("norm-qkv-rope", "k_cache", "v_cache"),
        ("attention-cluster", "k_cache", "v_cache"),
    ],
)
def test_swapped_operands_are_seen_in_the_values(name: str, first: str, second: str) -> None:
    with pytest.raises(Counterexample, match="is off by"):
        check_rule(swapped(fusion_rules()[name], first, second))


def test_a_rule_that_drops_an_operand_applies_nowhere() -> None:
    rule = fusion_rules()["projection-add"]

    def dropped(match: Match) -> Replacement | Rejection:
        found = rule.replace(match)
        return found if isinstance(found, Rejection) else replace(found, variables={**found.variables, "residual": "y"})

    with pytest.raises(Counterexample, match="'add' reads %residual, which the replacement does not"):
        check_rule(replace(rule, replace=dropped))


def test_a_rule_that_does_not_apply_to_its_example_says_why() -> None:
    rule = replace(fusion_rules()["norm-head"], replace=lambda match: Rejection("it is too long"))
    with pytest.raises(Counterexample, match="it is too long"):
        check_rule(rule)


def test_a_tolerance_that_is_too_small_is_seen() -> None:
    rule = replace(fusion_rules()["attention-cluster"], tolerance=0.0)
    with pytest.raises(Counterexample, match="close-outputs"):
        check_rule(rule)
