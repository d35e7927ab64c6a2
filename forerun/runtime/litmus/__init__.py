"""Litmus tests: which rules of programmatic dependent launch does this GPU keep? See docs/litmus.md."""

from forerun.runtime.litmus.catalogue import TESTS, select
from forerun.runtime.litmus.evidence import MINIMUM_RUNS, Decision, broken_rules, decide, rule_text, verdict
from forerun.runtime.litmus.machine import Machine
from forerun.runtime.litmus.measurement import Counts, LitmusProgram, LitmusRunner, measure
from forerun.runtime.litmus.notation import LitmusTest, graph_of
from forerun.runtime.litmus.record import Record, assumptions_from, read_record, record_as_json
from forerun.runtime.litmus.rules import needed_assumptions

__all__ = [
    "MINIMUM_RUNS",
    "TESTS",
    "Counts",
    "Decision",
    "LitmusProgram",
    "LitmusRunner",
    "LitmusTest",
    "Machine",
    "Record",
    "assumptions_from",
    "broken_rules",
    "decide",
    "graph_of",
    "measure",
    "needed_assumptions",
    "read_record",
    "record_as_json",
    "rule_text",
    "select",
    "verdict",
]
