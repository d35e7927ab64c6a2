"""The items of a persistent kernel as a trace for ui.perfetto.dev: a process for the SMs, a track for each CTA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forerun.measure.trace import name_event, slice_event
from forerun.schedules.item_times import ItemTimes

__all__ = ["trace_of_items"]

_SMS = 2
"""The process of the SMs, as in the trace of a step."""
_CTAS_AN_SM = 32


def trace_of_items(times: ItemTimes) -> dict[str, Any]:
    """The whole trace, with the summary as its metadata.

    An item is a slice on the track of its CTA, which stands at its SM. It is named after its owner and lane, and has
    the words of the schedule as arguments.
    """
    return {
        "displayTimeUnit": "ns",
        "otherData": {"clock": "%globaltimer", **times.summary()},
        "traceEvents": list(_events(times)),
    }


def _events(times: ItemTimes) -> Iterator[dict[str, Any]]:
    yield name_event("process_name", _SMS, 0, "SMs")
    places = sorted(set(zip(times.sm.tolist(), times.cta.tolist(), strict=True)))
    tracks: dict[tuple[int, int], int] = {}
    for sm, cta in places:
        beside = sum(other == sm for other, _ in tracks)
        tracks[sm, cta] = (sm + 1) * _CTAS_AN_SM + beside
        yield name_event("thread_name", _SMS, tracks[sm, cta], f"SM {sm:03}, CTA {cta}")
    for item, begin, end, sm, cta in times.rows():
        category = "whole" if item.slot < 0 else "split"
        name = f"{item.owner}.{item.lane}" + (f".{item.tile}" if item.tile else "")
        yield slice_event(name, category, (_SMS, tracks[sm, cta]), begin, end, **item._asdict())
