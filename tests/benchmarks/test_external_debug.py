"""The benchmark of debug runs, on threads that are simulated."""

from __future__ import annotations

import json

import pytest

from benchmarks.external_debug import debugged, metrics, table
from tests.external.test_debug import chain, inputs, live, texts_as_code

__all__ = ["texts_as_code"]


def test_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    captured = live(cuda, monkeypatch)
    found = {"chain": debugged(captured, inputs(cuda), faults=3, steps=1, seeds=2)}
    assert captured.driver.handles.live() == ()
    assert json.loads(json.dumps(found)) == found
    faults = found["chain"]["faults"]
    assert (faults["run"], faults["seen"], faults["refuted"], faults["share_seen"]) == (3, 3, 3, 1.0)
    assert faults["kinds"]["nc put back"] == {"run": 1, "seen": 0, "seen at the first replay": 0}
    numbers = metrics(found)
    assert numbers["external.faults_seen"] == 1
    assert numbers["external.accesses_outside"] == numbers["external.delayed_mismatches"] == 0
    assert numbers["external.accesses_checked"] > 0
    shown = table({**found, "broken": {"error": "it failed"}})
    assert "faults     3 of 3 seen, 3 refuted" in shown
    assert "broken: it failed" in shown
