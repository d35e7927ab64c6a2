"""The trace of items: each on the track of its CTA, which stands at its SM."""

from __future__ import annotations

import json

from forerun.measure.item_trace import trace_of_items
from tests.schedules.test_item_times import made_up


def test_items_lie_on_the_tracks_of_their_ctas() -> None:
    trace = json.loads(json.dumps(trace_of_items(made_up())))
    assert trace["otherData"]["items"] == 4
    events = trace["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert sorted(names.values()) == ["SM 003, CTA 1", "SM 007, CTA 0"]
    slices = [event for event in events if event["ph"] == "X"]
    found = [(event["name"], names[event["tid"]], event["ts"], event["dur"]) for event in slices]
    assert found == [
        ("0.0", "SM 007, CTA 0", 0.0, 0.1),
        ("0.1", "SM 007, CTA 0", 0.12, 0.3),
        ("1.0", "SM 003, CTA 1", 0.01, 0.05),
        ("1.1", "SM 003, CTA 1", 0.1, 0.15),
    ]
    assert slices[2]["args"]["owner"] == 1
    assert {event["cat"] for event in slices} == {"whole"}
