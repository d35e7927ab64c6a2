"""Recorded litmus runs: a JSON file that says which GPU and driver kept which rules."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from forerun.runtime.litmus.catalogue import TESTS
from forerun.runtime.litmus.evidence import decide, rule_text, verdict
from forerun.runtime.litmus.machine import Machine, this_machine
from forerun.runtime.litmus.measurement import Counts
from forerun.runtime.litmus.notation import LitmusTest, graph_of
from forerun.runtime.litmus.rules import needed_assumptions
from forerun.support.diagnostics import Unsupported
from forerun.support.json_reader import JsonObject, read_json
from forerun.support.version import __version__

__all__ = ["FORMAT", "Record", "assumptions_from", "read_record", "record_as_json"]

FORMAT = "forerun litmus 1"


@dataclass(frozen=True, slots=True)
class Record:
    """A run of litmus tests: on which machine, when (ISO 8601, UTC), and the counts by test."""

    machine: Machine
    date: str
    results: Mapping[str, Counts]

    @property
    def assumptions(self) -> frozenset[str]:
        """The assumptions that the counts support. They are decided from the counts, by today's rules."""
        return frozenset(assumption for assumption, decision in decide(self.results).items() if decision.granted)


def record_as_json(record: Record) -> dict[str, Any]:
    """What the file holds."""
    return {
        "format": FORMAT,
        "forerun": __version__,
        "date": record.date,
        "machine": asdict(record.machine),
        "tests": [_test_as_json(TESTS[name], counts) for name, counts in record.results.items()],
        "assumptions": {
            assumption: {"status": decision.status, "reasons": list(decision.reasons)}
            for assumption, decision in decide(record.results).items()
        },
    }


def _test_as_json(test: LitmusTest, counts: Counts) -> dict[str, Any]:
    needed = needed_assumptions(test)
    return {
        "test": test.name,
        "what": test.what,
        "rule": rule_text(needed),
        "verdict": verdict(needed, counts),
        "control_of": sorted(test.controls),
        **asdict(counts),
        "definition": _definition(test),
    }


def _definition(test: LitmusTest) -> str:
    """Changes when the graph or what is looked at does; not with the words of the table, or the code of the phases."""
    from forerun.ir.text import print_graph

    text = f"{print_graph(graph_of(test))}{test.watch}{test.given}{sorted(test.controls)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# Reading


def read_record(path: str | Path) -> Record:
    """Read a recorded run. Tests that are defined differently today are left out.

    Raises:
        InvalidInput: If it cannot be read, or is not such a file.
    """
    file = read_json(path, hint=_HOW)
    file.require("format", FORMAT, "a file of recorded litmus tests")
    machine = file.inside("machine")
    found = Machine(*(machine.text(key) for key in ("gpu", "driver", "capability")))
    return Record(found, file.text("date"), dict(_results(file.each("tests"))))


_HOW = "forerun litmus --output FILE records them"


def _results(tests: list[JsonObject]) -> list[tuple[str, Counts]]:
    found = []
    for item in tests:
        counts = Counts(*(item.integer(key) for key in ("runs", "violated", "foreign")))
        if max(counts.violated, counts.foreign) > counts.runs:
            raise item.error(f"counts of {item.text('test')} are impossible", "runs")
        test = TESTS.get(item.text("test"))
        definition = item.text("definition")
        if test is not None and _definition(test) == definition:
            found.append((test.name, counts))
    return found


def assumptions_from(path: str | Path, machine: Machine | None = None) -> frozenset[str]:
    """The assumptions that a recorded run supports, for the GPU and driver that it was recorded on.

    Args:
        path: A file that ``forerun litmus --output`` wrote.
        machine: The GPU that graphs will run on; by default the first one of this machine.

    Raises:
        InvalidInput: If the file cannot be read.
        Unsupported: If it was recorded on another GPU or with another driver, or there is no GPU to compare it with.
    """
    record = read_record(path)
    machine = this_machine() if machine is None else machine
    if (record.machine.gpu, record.machine.driver) != (machine.gpu, machine.driver):
        message = f"'{path}' holds for {record.machine}, not for {machine}"
        raise Unsupported(message, hint="record it here: forerun litmus --output FILE")
    return record.assumptions
