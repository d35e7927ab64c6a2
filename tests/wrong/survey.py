"""Who kills which wrong checker and which wrong pass; the result is kept in ``killers.json``.

Wrong certificates are planted in ``tests/oracle/faults.py``; the second oracle kills them, by the pair of the seed.

``python -m tests.wrong.survey`` tries everything with everything, and writes that file again; with
names, it tries those only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path

from forerun.passes.infra.base import Pass
from tests.oracle.faults import FAULTS, first_unsound
from tests.passes.laws import broken_law
from tests.wrong.checker_mutants import MUTANTS
from tests.wrong.corpora import KILLERS, inputs
from tests.wrong.mutant import CheckerMutant
from tests.wrong.passes import WRONG_PASSES

__all__ = ["RECORD", "dead_by_law", "kills", "laws_broken", "survey"]

RECORD = Path(__file__).with_name("killers.json")


def kills(killer: str, mutant: CheckerMutant) -> bool:
    """Whether the checker, while the mutant is in force, contradicts what a killer knows."""
    truths = KILLERS[killer]()
    with mutant.active():
        return any(truth.is_contradicted() for truth in truths)


def dead_by_law(subject: Pass, law: str) -> bool:
    """Whether a pass breaks that law on some input."""
    broken = (broken_law(subject, graph) for graph in inputs(subject.name))
    return any(found is not None and _name(found) == law for found in broken)


def laws_broken(subject: Pass) -> list[str]:
    """All laws that a pass breaks on some input, the first of each input."""
    broken = (broken_law(subject, graph) for graph in inputs(subject.name))
    return sorted({_name(found) for found in broken if found is not None})


def _name(broken: str) -> str:
    """``race`` of ``race: ...``, and ``body`` of ``body of n3: ...``."""
    return broken.partition(":")[0].split()[0]


def survey(names: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """Everything with everything; or only those of some names, and the others as they were recorded."""
    old = json.loads(RECORD.read_text()) if names else {"checkers": {}, "passes": {}, "certificates": {}}
    return {
        "checkers": {
            m.name: [killer for killer in KILLERS if kills(killer, m)]
            if not names or m.name in names
            else old["checkers"][m.name]
            for m in MUTANTS
        },
        "passes": {
            p.name: laws_broken(p.subject) if not names or p.name in names else old["passes"].get(p.name, [])
            for p in WRONG_PASSES
        },
        "certificates": {
            name: _seeds(name) if not names or name in names else old["certificates"][name] for name in FAULTS
        },
    }


def _seeds(fault: str) -> list[str]:
    """The seed of the first pair that a wrong certificate proves although it is wrong."""
    found = first_unsound(fault)
    return [] if found is None else [str(found)]


if __name__ == "__main__":
    found = survey(sys.argv[1:])
    RECORD.write_text(json.dumps(found, indent=1) + "\n")
    alive = [name for table in found.values() for name, killers in table.items() if not killers]
    print(f"{sum(map(len, found.values()))} wrong, alive: {alive or 'none'}")
