"""The tests of the checker and of the passes notice what they are there to notice: they kill every wrong one.

``killers.json`` records who kills whom; ``python -m tests.wrong.survey`` writes it again.
"""

from __future__ import annotations

import json
import pkgutil
from pathlib import Path

import pytest

from forerun.passes.infra.registry import builtin
from forerun.support.options import specs
from tests.oracle.faults import FAULTS, shows
from tests.wrong import passes
from tests.wrong.checker_mutants import MUTANTS
from tests.wrong.corpora import KILLERS
from tests.wrong.mutant import CheckerMutant, sweeping
from tests.wrong.passes import WRONG_PASSES, WrongPass
from tests.wrong.survey import RECORD, dead_by_law, kills

pytestmark = pytest.mark.slow

KILLED_BY: dict[str, dict[str, list[str]]] = json.loads(RECORD.read_text())


def test_the_record_is_complete() -> None:
    assert sorted(KILLED_BY["checkers"]) == sorted(mutant.name for mutant in MUTANTS)
    assert set(KILLED_BY["passes"]) <= {wrong.name for wrong in WRONG_PASSES}  # new ones are killed below anyway
    assert sorted(KILLED_BY["certificates"]) == sorted(FAULTS)
    assert all(killers for table in KILLED_BY.values() for killers in table.values()), "somebody is alive"
    assert len(MUTANTS) + len(WRONG_PASSES) >= 40


def test_every_pass_has_a_wrong_one() -> None:
    modules = {name.replace("-", "_") for name, cls in builtin().items() if not any(s.is_file for s in specs(cls))}
    assert modules <= {module.name for module in pkgutil.iter_modules(passes.__path__)}


def test_names_and_descriptions_are_given_once() -> None:
    for described in (MUTANTS, WRONG_PASSES):
        assert len({wrong.name for wrong in described}) == len({wrong.wrong for wrong in described}) == len(described)


def test_the_page_names_all() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    missing = [wrong.name for wrong in MUTANTS if f"| {wrong.name} |" not in text]
    missing += [name for name in KILLED_BY["passes"] if f"| {name} |" not in text]
    assert missing == [], "python -m benchmarks.evidence writes the page"


@pytest.mark.parametrize("killer", KILLERS)
def test_the_right_checker_is_not_contradicted(killer: str) -> None:
    truths = KILLERS[killer]()
    assert not any(truth.is_contradicted() for truth in truths)
    proved = sum("proved" in truth.statuses for truth in truths)
    assert 0.2 < proved / len(truths) < 0.8, "both verdicts must be common"


def test_the_plain_sweep_of_the_mutants_is_right() -> None:
    assert not kills("single bytes of boxes", CheckerMutant("none", "nothing", sweeping()))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_wrong_checker_is_killed(mutant: CheckerMutant) -> None:
    assert kills(KILLED_BY["checkers"][mutant.name][0], mutant)


@pytest.mark.parametrize("name", FAULTS)
def test_wrong_certificate_is_killed(name: str) -> None:
    assert shows(name, int(KILLED_BY["certificates"][name][0]))


@pytest.mark.parametrize("wrong", WRONG_PASSES, ids=lambda wrong: wrong.name)
def test_wrong_pass_is_killed(wrong: WrongPass) -> None:
    assert dead_by_law(wrong.subject, wrong.law)
