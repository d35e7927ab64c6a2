"""Traces: the schema of the Trace Event Format, slices that nest, and arrows that lead forward."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from forerun.measure.trace import trace_of
from tests.measure.steps import made_up

REQUIRED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "i": {"name", "cat", "pid", "tid", "ts", "s"},
    "s": {"name", "cat", "id", "pid", "tid", "ts"},
    "f": {"name", "cat", "id", "pid", "tid", "ts", "bp"},
}


def events() -> list[dict[str, Any]]:
    found = json.loads(json.dumps(trace_of(made_up())))
    assert found["displayTimeUnit"] == "ns"
    events: list[dict[str, Any]] = found["traceEvents"]
    return events


def test_every_event_has_what_its_kind_needs() -> None:
    for event in events():
        assert set(event) - {"ph"} == REQUIRED[event["ph"]]
        assert event.get("dur", 0) >= 0
        assert event.get("ts", 0) >= 0


def test_slices_of_a_track_nest() -> None:
    tracks = defaultdict(list)
    for event in events():
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], -event["dur"], event["name"]))
    assert len(tracks) == 2 + 4  # two lanes; three SMs, one of them with two kernels at once
    for slices in tracks.values():
        open_until: list[float] = []
        for start, negative, _ in sorted(slices):
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or start - negative <= open_until[-1] + 1e-9
            open_until.append(start - negative)


def test_kernels_are_early_then_work_then_trigger() -> None:
    lanes = [event for event in events() if event["pid"] == 1 and event["ph"] in "Xi"]
    b = next(i for i, event in enumerate(lanes) if event["name"] == "b")
    found = [(event["name"], event["ts"], event.get("dur")) for event in lanes[b : b + 4]]
    assert found == [("b", 0.9, 1.6), ("early", 0.9, 0.25), ("work", 1.15, 1.35), ("trigger", 0.96, None)]
    assert lanes[b]["args"]["overlap with nodes before (us)"] == 0.2
    first = [event["name"] for event in lanes[:3]]
    assert first == ["a", "work", "trigger"]  # a kernel without a wait is never early


def test_arrows_lead_from_triggers_to_starts() -> None:
    flows = [event for event in events() if event["ph"] in "sf"]
    assert [(event["ph"], event["ts"], event["name"]) for event in flows] == [
        ("s", 0.96, "programmatic"),
        ("f", 1.5, "programmatic"),
    ]
    assert flows[0]["id"] == flows[1]["id"]


def test_tracks_have_names() -> None:
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events() if e["name"] == "thread_name"}
    assert sorted(names.values()) == ["SM 000", "SM 000 (2)", "SM 001", "SM 002", "lane 1", "lane 2"]
    used = {(e["pid"], e["tid"]) for e in events() if e["ph"] == "X"}
    assert used == set(names)
    numbers = [track for _, track in used]
    assert len(set(numbers)) == len(numbers)
    assert not {0, 1, 2} & set(numbers)
