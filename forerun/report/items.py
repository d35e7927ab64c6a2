"""The items of a persistent kernel: SMs from top to bottom, time from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forerun.report.dump_files import ITEMS_FILE
from forerun.report.load import Dump
from forerun.report.markup import Markup, tag
from forerun.report.picture import captioned, swatch
from forerun.report.time_axis import time_axis
from forerun.support.json_reader import JsonObject

__all__ = ["ItemSpan", "Items", "draw_items", "read_items"]

FORMAT = "forerun item times 1"

_MOST_TRACKS = 1 << 12
_WIDTH, _LEFT, _TRACK, _BAR = 1180, 56, 7, 6


@dataclass(frozen=True, slots=True)
class ItemSpan:
    """An item; times are nanoseconds since the first one began."""

    name: str
    sm: int
    cta: int
    begin: int
    end: int
    is_split: bool


@dataclass(frozen=True, slots=True)
class Items:
    """The items of one replay, and what they say together."""

    ctas: int
    nanoseconds: int
    balance: float
    idle_share: float
    queue: float
    spans: tuple[ItemSpan, ...]


def read_items(dump: Dump) -> Items | None:
    """The items of a dump folder; ``None`` if there is no such file, or nothing in it.

    Raises:
        InvalidInput: If the file is damaged.
    """
    reader = dump.read_record(
        ITEMS_FILE, made="ItemTimes.to_json makes it", record_format=FORMAT, what="item times that can be read"
    )
    if reader is None:
        return None
    spans = tuple(_span(each) for each in reader.each("items"))
    summary = reader.inside("summary")
    ctas = reader.integer("ctas", least=1)
    if len({(span.sm, span.cta) for span in spans}) > _MOST_TRACKS:
        raise reader.error(f"there are more than {_MOST_TRACKS} CTAs", "items")
    if not spans:
        return None
    balance, idle_share = summary.number("balance"), summary.number("idle share")
    queue = summary.number("queue (ns an item)")
    return Items(ctas, max(span.end for span in spans), balance, idle_share, queue, spans)


def _span(item: JsonObject) -> ItemSpan:
    begin = item.integer("begin")
    end = item.integer("end", least=begin)
    return ItemSpan(item.text("name"), item.integer("sm"), item.integer("cta"), begin, end, item.flag("split"))


def draw_items(items: Items) -> Markup:
    """The section of the page."""
    facts = (
        f"{len(items.spans):,} items on {items.ctas:,} CTAs in {items.nanoseconds / 1e3:,.1f} us; the busiest CTA "
        f"{items.balance:.3f} of the mean, idle {100 * items.idle_share:.1f} %, {items.queue:,.0f} ns between items"
    )
    picture = tag("div", _picture(items), class_="picture")
    return tag(
        "section",
        tag("h2", "Items of the schedule"),
        captioned(facts, _keys(), picture, title="items", ident="schedule", class_="step"),
        id="items",
    )


def _keys() -> Markup:
    return tag("ul", swatch("work", "a whole task"), swatch("early", "a split of a task"), class_="keys")


def _picture(items: Items) -> Markup:
    tracks = {place: i for i, place in enumerate(sorted({(span.sm, span.cta) for span in items.spans}))}
    scale = (_WIDTH - _LEFT) / max(1, items.nanoseconds)
    bottom = _TRACK * len(tracks) + 2
    parts = [
        tag("g", *time_axis(items.nanoseconds, scale, bottom), transform=f"translate({_LEFT} 0)"),
        *_labels(tracks),
        *(_bar(span, tracks[span.sm, span.cta], scale) for span in items.spans),
    ]
    size = {"width": f"{_WIDTH + 60}", "height": f"{bottom + 22}"}
    return tag("svg", *parts, role="img", aria_label="which SM worked on which item when", **size)


def _labels(tracks: dict[tuple[int, int], int]) -> Iterator[Markup]:
    """The SMs of every tenth track; between them there is no room."""
    for (sm, _), number in tracks.items():
        if number % 10 == 0:
            yield tag("text", f"SM {sm}", x=0, y=number * _TRACK + _BAR + 2, class_="when")


def _bar(span: ItemSpan, track: int, scale: float) -> Markup:
    left, width = _LEFT + span.begin * scale, max(0.3, (span.end - span.begin) * scale - 0.4)
    words = f"{span.name}\nSM {span.sm}, CTA {span.cta}\n{span.begin / 1e3:,.2f} us to {span.end / 1e3:,.2f} us"
    bar = tag("rect", x=f"{left:.1f}", y=track * _TRACK + 1, width=f"{width:.1f}", height=_BAR, class_=_kind(span))
    return tag("g", tag("title", words), bar, class_="span")


def _kind(span: ItemSpan) -> str:
    return "early" if span.is_split else "work"
