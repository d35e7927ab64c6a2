"""Findings in words: the schedule that shows a race, and the changes that remove it."""

from forerun.ir.explain.explanation import Explanation, explain
from forerun.ir.explain.repair import Repair, drain_repairs, repairs
from forerun.ir.explain.witness import Witness, drain_witness, witness

__all__ = ["Explanation", "Repair", "Witness", "drain_repairs", "drain_witness", "explain", "repairs", "witness"]
