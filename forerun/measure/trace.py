"""A timeline as a trace that ui.perfetto.dev and chrome://tracing show (the Trace Event Format, JSON object form)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from forerun.runtime.timeline import NodeTimes, Timeline, lanes

__all__ = ["name_event", "slice_event", "trace_events", "trace_of"]

_KERNELS, _SMS, _HOST, _LINK, _COPIES = 1, 2, 3, 4, 5
_PROCESSES = {"host": (_HOST, "host"), "link": (_LINK, "link"), "copy": (_COPIES, "copies of the device")}
_FIRST_LANE, _FIRST_SM = 100, 1000
"""Numbers of tracks: processes share none, and none is 0 or the number of a process, which mean something else."""
_LANES_A_SM = 32
"""More kernels than this are never on an SM at once."""


def trace_of(timeline: Timeline) -> dict[str, Any]:
    """The whole trace.

    Processes are the kernels, on as many tracks as overlap, the SMs, each with as many tracks as kernels are on it at
    once, and what ran on the host, went over the link, or was copied on the device, if anything did. A kernel is a
    slice from its first start to its last end, in which ``early`` lasts until the first wait returned, and ``work``
    from there on. An arrow leads from each last trigger to the first start that it allowed.
    """
    return {
        "displayTimeUnit": "ns",
        "otherData": {"graph": timeline.graph, "clock": "%globaltimer", "clock error (us)": timeline.clock_error / 1e3},
        "traceEvents": list(trace_events(timeline)),
    }


def trace_events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """The events, the names of tracks first."""
    yield name_event("process_name", _KERNELS, 0, f"kernels of {timeline.graph}")
    lane_of = lanes([(node.begins, node.ends) for node in timeline.nodes])
    for lane in range(max(lane_of, default=-1) + 1):
        yield name_event("thread_name", _KERNELS, _FIRST_LANE + lane, f"lane {lane + 1}")
    places = {node.name: _FIRST_LANE + lane for node, lane in zip(timeline.nodes, lane_of, strict=True)}
    for node in timeline.nodes:
        yield from _kernel(node, places[node.name], _arguments(timeline, node))
    yield from _arrows(timeline, places)
    yield from _sms(timeline)
    for kind in _PROCESSES:
        yield from _spans(timeline, kind)


def name_event(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    """The name of a process or a track; ``kind`` is ``process_name`` or ``thread_name``."""
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def slice_event(
    name: str, category: str, place: tuple[int, int], first: int, stop: int, **arguments: Any
) -> dict[str, Any]:
    """What lasts from ``first`` to ``stop``, in nanoseconds, at a process and a track."""
    times = {"ts": first / 1e3, "dur": (stop - first) / 1e3}
    return {"ph": "X", "name": name, "cat": category, "pid": place[0], "tid": place[1], **times, "args": arguments}


def _arguments(timeline: Timeline, node: NodeTimes) -> dict[str, Any]:
    return {
        "kernel": node.kernel,
        "ctas": node.ctas,
        "sms": node.sms,
        "most CTAs on one SM": node.most_on_one_sm,
        "gap before (us)": timeline.gap(node) / 1e3,
        "overlap with nodes before (us)": timeline.overlap(node) / 1e3,
        "share of the step (us)": timeline.shares[node.name] / 1e3,
    }


def _kernel(node: NodeTimes, lane: int, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = _KERNELS, lane
    yield slice_event(node.name, "kernel", place, node.begins, node.ends, **arguments)
    yield from _parts(place, node.begins, node.works, node.ends)
    triggers = node.range("trigger")
    if triggers is not None:
        when = {"ts": triggers.last / 1e3, "s": "t"}
        yield {"ph": "i", "name": "trigger", "cat": "trigger", "pid": _KERNELS, "tid": lane, **when}


def _parts(place: tuple[int, int], first: int, works: int, stop: int) -> Iterator[dict[str, Any]]:
    works = min(works, stop)
    if works > first:
        yield slice_event("early", "early", place, first, works)
    yield slice_event("work", "work", place, works, stop)


def _arrows(timeline: Timeline, lane_of: dict[str, int]) -> Iterator[dict[str, Any]]:
    by_name = {node.name: node for node in timeline.nodes}
    number = 0
    for node in timeline.nodes:
        for source, kind in node.after:
            triggers = by_name[source].range("trigger")
            if kind == "full" or triggers is None or triggers.last > node.begins:
                continue
            number += 1
            common = {"name": kind, "cat": "dependency", "id": number, "pid": _KERNELS}
            yield {"ph": "s", **common, "tid": lane_of[source], "ts": triggers.last / 1e3}
            yield {"ph": "f", "bp": "e", **common, "tid": lane_of[node.name], "ts": node.begins / 1e3}


# Host and link


def _spans(timeline: Timeline, kind: str) -> Iterator[dict[str, Any]]:
    """A slice for each span of a kind, on as many tracks as overlap."""
    spans = [span for span in timeline.spans if span.kind == kind]
    if not spans:
        return
    process, title = _PROCESSES[kind]
    yield name_event("process_name", process, 0, title)
    lane_of = lanes([(span.begins, span.ends) for span in spans])
    for lane in range(max(lane_of) + 1):
        yield name_event("thread_name", process, _FIRST_LANE + lane, f"lane {lane + 1}")
    for span, lane in zip(spans, lane_of, strict=True):
        place = process, _FIRST_LANE + lane
        share = timeline.shares[span.name] / 1e3
        yield slice_event(
            span.name, kind, place, span.begins, span.ends, work=span.work, **{"share of the step (us)": share}
        )


# The SMs


def _sms(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """For each SM and each node that was on it one slice: from the first start to the last end of its CTAs there."""
    yield name_event("process_name", _SMS, 0, "SMs")
    found: dict[int, list[tuple[int, int, int, str, int]]] = {}
    for node in timeline.nodes:
        for sm in np.unique(node.sm):
            here = node.sm == sm
            waits = node.wait[here & (node.wait >= 0)]
            first, stop = int(node.start[here].min()), int(node.end[here].max())
            works = int(waits.min()) if len(waits) else first
            found.setdefault(int(sm), []).append((first, stop, works, node.name, int(here.sum())))
    for sm, slices in sorted(found.items()):
        lane_of = lanes([(first, stop) for first, stop, *_ in slices])
        for lane in range(max(lane_of) + 1):
            title = f"SM {sm:03}" + (f" ({lane + 1})" if lane else "")
            yield name_event("thread_name", _SMS, _track(sm, lane), title)
        for (first, stop, works, name, ctas), lane in zip(slices, lane_of, strict=True):
            place = _SMS, _track(sm, lane)
            yield slice_event(name, "cta", place, first, stop, ctas=ctas)
            yield from _parts(place, first, works, stop)


def _track(sm: int, lane: int) -> int:
    return _FIRST_SM + sm * _LANES_A_SM + lane
