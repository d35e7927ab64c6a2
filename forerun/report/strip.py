"""One step as a strip: when each kernel was there early, and when it worked, from left to right."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from forerun.report.dump_files import TIMELINE_FILE
from forerun.report.load import Dump
from forerun.report.markup import Markup, tag
from forerun.report.picture import captioned, swatch
from forerun.report.time_axis import time_axis
from forerun.support.json_reader import JsonObject

__all__ = ["Span", "Step", "draw_step", "read_step"]

FORMAT = "forerun timeline 1"

MAX_LANES = 1 << 12
"""Kernels at once; a GPU runs 128."""

_LEAST_WIDTH, _MOST_WIDTH = 1180, 9000
_USUAL_SPAN = 52
"""Pixels of the median kernel, if the whole is not too wide then."""
_LANE, _BAR, _TOP = 30, 13, 4
_CHARACTER = 6.7


@dataclass(frozen=True, slots=True)
class Span:
    """A kernel node of the step; times are nanoseconds since the step began, -1 if there is none."""

    name: str
    kernel: str
    lane: int
    ctas: int
    sms: int
    begins: int
    works: int
    triggers: int
    ends: int
    share: int
    gap: int
    overlap: int


@dataclass(frozen=True, slots=True)
class Step:
    """What ``forerun bench`` saw of a step."""

    nanoseconds: int
    spans: tuple[Span, ...]


def read_step(dump: Dump) -> Step | None:
    """The step of a dump folder; ``None`` if there is none.

    Raises:
        InvalidInput: If the file is damaged.
    """
    reader = dump.read_record(
        TIMELINE_FILE, made="forerun bench --dump writes it", record_format=FORMAT, what="a timeline that can be read"
    )
    if reader is None:
        return None
    nanoseconds = reader.integer("nanoseconds")
    spans = tuple(_span(each) for each in reader.each("nodes"))
    return Step(nanoseconds, spans) if spans else None


def _span(node: JsonObject) -> Span:
    def times(key: str) -> list[int]:
        """Those of the CTAs that took the step; ``null`` if none did."""
        return [time for time in node.list_of(key, int, optional=True) if time >= 0]

    starts, ends = times("start"), times("end")
    if not starts or not ends:
        raise node.error("it is missing, or no CTA has a time", "end" if starts else "start")
    return Span(
        node.text("name"),
        node.text("kernel", ""),
        node.integer("lane", 0, most=MAX_LANES),
        len(starts),
        len(set(times("sm"))),
        min(starts),
        min(times("wait"), default=min(starts)),
        max(times("trigger"), default=-1),
        max(ends),
        *(node.integer(key, 0) for key in ("share", "gap", "overlap")),
    )


def draw_step(step: Step) -> Markup:
    """The section of the page."""
    most = max(span.lane for span in step.spans) + 1
    early = sum(span.overlap for span in step.spans) / 1e3
    idle = sum(span.gap for span in step.spans) / 1e3
    facts = (
        f"{step.nanoseconds / 1e3:,.1f} us from the first start to the last end; {len(step.spans):,} kernels, "
        f"up to {most} at once; {early:,.1f} us of them early, {idle:,.1f} us with nothing at work"
    )
    picture = tag("div", _strip(step), class_="picture")
    return tag(
        "section",
        tag("h2", "One step"),
        captioned(facts, _legend(), picture, title="step", ident="bench", class_="step"),
        id="step",
    )


def _legend() -> Markup:
    triangle = tag("svg", tag("path", d="M1 10L5 1L9 10Z", class_="trigger"), width=10, height=10, aria_hidden="true")
    items = (
        swatch("early", "early: before the first wait returned"),
        swatch("work", "work: from then to the last CTA's end"),
        tag("li", triangle, "the last CTA triggered"),
    )
    return tag("ul", *items, class_="keys")


def _strip(step: Step) -> Markup:
    scale = _scale(step)
    width = step.nanoseconds * scale
    bottom = _TOP + _LANE * (max(span.lane for span in step.spans) + 1)
    parts = [*time_axis(step.nanoseconds, scale, bottom), *_bars(step, scale)]
    size = {"width": f"{width + 60:.0f}", "height": f"{bottom + 22:.0f}"}
    return tag("svg", *parts, role="img", aria_label="when each kernel ran", **size)


def _scale(step: Step) -> float:
    """Pixels a nanosecond."""
    usual = statistics.median(max(1, span.ends - span.begins) for span in step.spans)
    width = min(max(_USUAL_SPAN * step.nanoseconds / usual, _LEAST_WIDTH), _MOST_WIDTH)
    return width / max(1, step.nanoseconds)


def _bars(step: Step, scale: float) -> Iterator[Markup]:
    next_in_lane: dict[int, int] = {}
    rooms = {}
    for span in sorted(step.spans, key=lambda span: -span.begins):
        rooms[span.name] = next_in_lane.get(span.lane, step.nanoseconds) - span.begins
        next_in_lane[span.lane] = span.begins
    yield from (_bar(span, scale, rooms[span.name] * scale) for span in step.spans)


def _bar(span: Span, scale: float, room: float) -> Markup:
    """A kernel, and its name if there is room for it up to the next one."""
    top = _TOP + _LANE * span.lane
    left, right = span.begins * scale, span.ends * scale
    middle = min(max(span.works, span.begins), span.ends) * scale
    bars = [
        tag("rect", x=first, y=top + 13, width=max(0.4, stop - first), height=_BAR, class_=kind)
        for kind, first, stop in (("early", left, middle), ("work", middle, right))
        if stop > first or kind == "work"
    ]
    parts = [tag("title", _words(span)), *bars]
    if span.triggers >= 0:
        parts.append(tag("path", d=_triangle(span.triggers * scale, top + 13 + _BAR), class_="trigger"))
    label = _label(span.name, room - 4)
    if label:
        parts.append(tag("text", label, x=left, y=top + 10))
    return tag("g", *parts, class_="span")


def _triangle(x: float, y: float) -> str:
    return f"M{x - 3:.1f} {y}L{x:.1f} {y - 6}L{x + 3:.1f} {y}Z"


def _label(name: str, width: float) -> str:
    """The name, or as many of its last parts as there is room for: names of layers differ there."""
    fits = max(0, int(width / _CHARACTER))
    name = name.removesuffix(".fused")
    while len(name) > fits:
        name = name.partition(".")[2]
    return name


def _words(span: Span) -> str:
    def us(nanoseconds: int) -> str:
        return f"{nanoseconds / 1e3:,.2f} us"

    lines = [
        span.name,
        f"kernel {span.kernel}: {span.ctas:,} CTAs on {span.sms} SMs",
        f"starts at {us(span.begins)}, works from {us(span.works)}, ends at {us(span.ends)}",
        f"the step's share {us(span.share)}; early {us(span.overlap)}; nothing at work before it {us(span.gap)}",
    ]
    if span.triggers >= 0:
        lines.insert(3, f"the last CTA triggers at {us(span.triggers)}")
    return "\n".join(lines)
