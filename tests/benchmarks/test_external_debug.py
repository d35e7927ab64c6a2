"""The benchmark of debug runs, on threads that are simulated."""

from __future__ import annotations

import json

import pytest

from benchmarks.external_debug import debugged, metrics, table
from tests.captured.samples import kernel
from tests.external.running_chain import chain, inputs, live, texts_as_code

__all__ = ["texts_as_code"]

pytestmark = pytest.mark.usefixtures("texts_as_code")


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


def test_steps_that_change_nothing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    captured = live(cuda, monkeypatch)
    found = debugged(captured, lambda step: inputs(cuda)(step) if step > 1 else None, faults=1, steps=1, seeds=1)
    assert found["faults"]["seen"] == 1

    # What is stored is what was there.
    idle = chain(kernel("scale", "ld.global.u32 %r2, [%rd6];", "st.global.u32 [%rd6], %r2;"))
    found = debugged(live(idle, monkeypatch), inputs(idle), faults=1, steps=1, seeds=1)
    assert found["faults"]["run"] == 0
    assert "4 steps change nothing in memory, so a fault cannot be seen" in found["faults"]["error"]


def test_what_was_tried_for_faults_that_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.external_debug.SEEDS", 2)
    monkeypatch.setattr("forerun.external.trials.Trials.differences", lambda *_: {})
    cuda = chain()
    found = debugged(live(cuda, monkeypatch), inputs(cuda), faults=3, steps=1, seeds=1)["faults"]
    assert (found["run"], found["seen"], found["replays"]) == (3, 0, {"0": 3})
    assert len(found["not_seen"]) == 3
    assert found["tried_for_these"] == ["100% of the warps of all nodes, 20 us", "10% of the CTAs of even nodes, 20 us"]
