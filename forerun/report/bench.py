"""What ``forerun bench`` measured: each kernel against the ceiling, as a picture and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forerun.report.dump_files import BENCH_FILE
from forerun.report.load import Dump
from forerun.report.markup import Markup, join, tag
from forerun.report.picture import captioned, swatch
from forerun.support.json_reader import JsonObject

__all__ = ["Bench", "Kernel", "Pipeline", "draw_bench", "read_bench"]

FORMAT = "forerun bench 1"

_HEIGHT, _LABEL = 230, 20
_HEADROOM = 1.12
"""The top of the picture, as a share of the ceiling."""
_MOST_HEADROOM = 1.6
"""Bars that would be higher are cut."""
_BAR = 96
"""Pixels of a bar in the table at the ceiling."""

_PARTS = {"weights": "weights", "state": "KV rows", "activations": "activations"}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline, and microseconds of a step: median and 95 % interval."""

    text: str
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """The nodes of a kernel: bytes that they must move, by what these are, and microseconds."""

    label: str
    nodes: int
    weights: int
    state: int
    activations: int
    share: float
    work: float
    gap: float
    early: float

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.weights + self.state + self.activations

    @property
    def gbs(self) -> float:
        """Gigabytes a second, over the nodes' part of the step."""
        return self.bytes / self.share / 1e3 if self.share else 0.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A measurement: pipelines, the first of which the kernels are of, and kernels, the largest part of a step first.

    ``position`` is ``None`` if the graph has none, ``speedup`` (of the first over the second pipeline) 0 if there is
    only one, ``ceiling`` the gigabytes a second that the GPU reads.
    """

    gpu: str
    position: int | None
    pipelines: tuple[Pipeline, ...]
    speedup: float
    ceiling: float
    kernels: tuple[Kernel, ...]


def read_bench(dump: Dump) -> Bench | None:
    """The measurement of a dump folder; ``None`` if there is none.

    Raises:
        InvalidInput: If the file is damaged.
    """
    reader = dump.read_record(
        BENCH_FILE, made="forerun bench --dump writes it", record_format=FORMAT, what="a measurement that can be read"
    )
    if reader is None:
        return None
    return Bench(
        reader.text("gpu"),
        reader.integer("position") if "position" in reader else None,
        tuple(map(_pipeline, reader.each("pipelines"))),
        reader.inside("speedup", optional=True).number("value", 0.0),
        reader.number("read_bandwidth_gbs"),
        tuple(map(_kernel, reader.each("kernels"))),
    )


def _pipeline(reader: JsonObject) -> Pipeline:
    step = reader.inside("step_us")
    return Pipeline(reader.text("pipeline"), step.number("value"), step.number("low"), step.number("high"))


def _kernel(reader: JsonObject) -> Kernel:
    return Kernel(
        reader.text("label"),
        reader.integer("nodes"),
        *(reader.integer(f"{key}_bytes") for key in ("weight", "state", "activation")),
        *(reader.number(f"{key}_us") for key in ("share", "work", "gap", "overlap")),
    )


def draw_bench(bench: Bench) -> Markup:
    """The section of the page."""
    step = sum(kernel.share for kernel in bench.kernels)
    moved = sum(kernel.bytes for kernel in bench.kernels)
    least = moved / bench.ceiling / 1e3 if bench.ceiling else 0.0
    facts = f"{moved / 1e6:,.1f} MB a step; at the ceiling that takes {least:,.1f} us" + (
        f", {least / step:.0%} of the {step:,.1f} us of a step with timestamps" if step else ""
    )
    picture = tag("div", _skyline(bench, step), class_="picture wide")
    return tag(
        "section",
        tag("h2", "The kernels against the ceiling"),
        *_pipelines(bench),
        captioned(facts, _keys(), picture, title="kernels", ident="bench", class_="skyline"),
        tag("div", _table(bench, step), class_="scroll"),
        id="bench",
    )


def _pipelines(bench: Bench) -> Iterator[Markup]:
    place = bench.gpu if bench.position is None else f"{bench.gpu}, position {bench.position:,}"
    yield tag("p", place, class_="note")
    for pipeline in bench.pipelines:
        time = tag("b", f"{pipeline.median:,.1f} us")
        interval = f" a step ({pipeline.low:,.1f} to {pipeline.high:,.1f}): "
        yield tag("p", time, interval, tag("code", pipeline.text or "no passes"), class_="timed")
    if bench.speedup:
        yield tag("p", tag("b", f"{bench.speedup:.3f}"), " times as fast as the second", class_="timed")


def _keys() -> Markup:
    items = [swatch(kind, words) for kind, words in _PARTS.items()]
    how = tag("li", "width: part of the step; height: GB/s; so the area is the bytes")
    return tag("ul", *items, swatch("room", "room below the ceiling"), how, class_="keys")


# The picture: widths in per cent, so that it is as wide as its place


def _skyline(bench: Bench, step: float) -> Markup:
    fastest = max((kernel.gbs for kernel in bench.kernels), default=0.0)
    ceiling = bench.ceiling or fastest or 1.0
    top = max(_HEADROOM * ceiling, min(fastest, _MOST_HEADROOM * ceiling))
    parts, left = [], 0.0
    for number, kernel in enumerate(bench.kernels, 1):
        width = 100 * kernel.share / step if step else 0.0
        parts.append(_tower(kernel, number, (left, width), ceiling / top, kernel.gbs / top))
        left += width
    at = _level(ceiling / top)
    words = f"ceiling {bench.ceiling:,.0f} GB/s"
    line = tag("line", x1=0, x2="100%", y1=at, y2=at, class_="ceiling")
    label = tag("text", words, x="100%", y=at - 5, class_="end")
    return tag(
        "svg", *parts, line, label, width="100%", height=_HEIGHT + _LABEL, role="img", aria_label="GB/s of each kernel"
    )


def _level(share: float) -> float:
    """The coordinate of a height that is a share of the picture's."""
    return _HEIGHT * (1 - min(share, 1.0))


def _tower(kernel: Kernel, number: int, place: tuple[float, float], ceiling: float, height: float) -> Markup:
    """The bar of a kernel; an inner drawing, which cuts what does not fit."""
    left, width = place
    shapes = [tag("rect", width="100%", y=_level(ceiling), height=_HEIGHT - _level(ceiling), class_="room")]
    below = 0.0
    for kind in _PARTS:
        share = getattr(kernel, kind) / kernel.bytes if kernel.bytes else 0.0
        stop = below + share * height
        shapes.append(tag("rect", width="100%", y=_level(stop), height=_level(below) - _level(stop), class_=kind))
        below = stop
    shapes.append(tag("line", x1="100%", x2="100%", y1=0, y2=_HEIGHT, class_="between"))
    name = tag("text", f"{number} {kernel.label}", x=2, y=_HEIGHT + 14)
    end = tag("rect", x="100%", y=_HEIGHT, width=8, height=_LABEL, transform="translate(-8 0)", class_="end")
    title = f"{kernel.label}\n{kernel.bytes / 1e6:,.2f} MB in {kernel.share:,.1f} us: {kernel.gbs:,.0f} GB/s"
    size = {"x": f"{left:.3f}%", "width": f"{width:.3f}%"}
    return tag("svg", tag("title", title), *shapes, name, end, height=_HEIGHT + _LABEL, class_="tower", **size)


# The table

_COLUMNS = ("", "kernel", "us", "share", "GB/s", "of the ceiling", "MB", "nodes", "work", "gap", "early")


def _table(bench: Bench, step: float) -> Markup:
    longest = max([1.0, *(kernel.gbs / bench.ceiling for kernel in bench.kernels if bench.ceiling)])
    longest = min(longest, _MOST_HEADROOM)
    rows = [_row(number, kernel, bench.ceiling, step, longest) for number, kernel in enumerate(bench.kernels, 1)]
    head = tag("thead", tag("tr", *(tag("th", title) for title in _COLUMNS)))
    note = "work, gap and early: us a node"
    return join(tag("table", head, tag("tbody", *rows), class_="kernels"), tag("p", note, class_="note"))


def _row(number: int, kernel: Kernel, ceiling: float, step: float, longest: float) -> Markup:
    def mean(microseconds: float) -> str:
        return f"{microseconds / max(1, kernel.nodes):,.2f}"

    reached = kernel.gbs / ceiling if ceiling else 0.0
    cells: Sequence[str] = (
        f"{kernel.share:,.1f}",
        f"{kernel.share / step:.1%}" if step else "",
        f"{kernel.gbs:,.0f}",
        _bar(reached, longest),
        f"{kernel.bytes / 1e6:,.2f}",
        f"{kernel.nodes:,}",
        *map(mean, (kernel.work, kernel.gap, kernel.early)),
    )
    return tag("tr", tag("td", str(number)), tag("td", kernel.label), *(tag("td", cell) for cell in cells))


def _bar(reached: float, longest: float) -> Markup:
    """The share of the ceiling as a bar, with a mark at the ceiling."""
    width = _BAR * min(reached, longest)
    done = tag("i", class_="reached", style=f"width:{width:.1f}px")
    mark = tag("i", class_="mark", style=f"left:{_BAR}px")
    return join(tag("span", done, mark, class_="against", style=f"width:{_BAR * longest:.0f}px"), f" {reached:.0%}")
