"""Wrong checkers: each forgets a rule, or believes one that does not hold. The list is data; the tests must kill all.

A mutant is made by patching: what a node accesses (the result of ``accesses``), which accesses conflict
(``conflicts``), the graph that the event order sees, or a method of ``ByteSet``.
"""

from __future__ import annotations

from tests.wrong.access_mutants import ACCESS_MUTANTS
from tests.wrong.conflict_mutants import CONFLICT_MUTANTS
from tests.wrong.fault_mutants import FAULT_MUTANTS
from tests.wrong.mutant import CheckerMutant
from tests.wrong.order_mutants import ORDER_MUTANTS

__all__ = ["MUTANTS"]

MUTANTS: list[CheckerMutant] = [*ORDER_MUTANTS, *ACCESS_MUTANTS, *CONFLICT_MUTANTS, *FAULT_MUTANTS]
