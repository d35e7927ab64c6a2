"""``fuse-kernels`` keeps the laws on random programs, and every wrong twin is caught by them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, event, find, given, settings

from forerun.ir.graph import Graph
from forerun.ir.refinement.certificate import certify
from forerun.ir.refinement.fused import claims
from forerun.ir.verify import verify
from forerun.passes.fuse_kernels import FuseKernels, fused
from forerun.passes.infra.base import PassContext
from forerun.testing import assert_same_outputs
from forerun.testing.counterexample import Counterexample
from tests.passes.fusion_programs import RULES, fusible_programs
from tests.strategies import portion
from tests.wrong.passes.fuse_kernels import TWINS

PROGRAMS = fusible_programs().filter(lambda graph: not verify(graph))


@given(PROGRAMS)
def test_what_is_fused_is_valid_proved_and_computes_the_same(graph: Graph) -> None:
    context = PassContext(FuseKernels())
    after = fused(graph, RULES, context)
    event(f"applied: {', '.join(sorted(context.applications))}")
    event(f"something stays: {any(p in after.nodes for ps in claims(after).values() for p in ps)}")
    assert (after is graph) == (not context.applications)
    if after is graph:
        return
    assert not verify(after)
    verdict = certify(graph, after)
    assert verdict.proved, [str(finding) for finding in verdict.findings]
    assert_same_outputs(graph, after, seeds=(0, 1))


@given(PROGRAMS)
def test_statistics_count_the_changes(graph: Graph) -> None:
    context = PassContext(FuseKernels())
    after = fused(graph, RULES, context)
    gone = set(graph.nodes) - set(after.nodes)
    new = set(after.nodes) - set(graph.nodes)
    assert context.statistics["groups_fused"] == len(new) == sum(context.applications.values())
    assert context.statistics["nodes_removed"] == len(gone)
    assert gone <= {part for parts in claims(after).values() for part in parts}
    remarked = [remark for remark in context.remarks if "does not apply" in remark.message]
    assert bool(remarked) == bool(context.statistics["near_misses"])


def computes_the_same(graph: Graph, after: Graph) -> bool:
    try:
        assert_same_outputs(graph, after, seeds=(0,))
    except Counterexample:
        return False
    return True


@pytest.mark.parametrize("name", TWINS)
def test_wrong_twins_are_caught(name: str) -> None:
    twin = TWINS[name]

    def caught(graph: Graph) -> bool:
        after = twin.apply(graph)
        if after is graph or verify(after):
            return False
        if twin.by_value:
            return certify(graph, after).proved and not computes_the_same(graph, after)
        return not certify(graph, after).proved

    few = settings(
        max_examples=3000,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    assert find(PROGRAMS, caught, settings=few, random=Random(0))


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.has_right_rules])
@settings(portion(60))
@given(graph=PROGRAMS)
def test_certificates_prove_no_twin_that_computes_something_else(name: str, graph: Graph) -> None:
    after = TWINS[name].apply(graph)
    status = "unchanged" if after is graph else "invalid" if verify(after) else certify(graph, after).status
    event(status)
    if status == "proved":
        assert_same_outputs(graph, after, seeds=(0,))
