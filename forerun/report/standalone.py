"""Graphs side by side as one SVG file, for documents, and a graph as a page in a frame, for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forerun.ir.graph import Graph
from forerun.report.cards import NO_MARKS, Card, make_cards
from forerun.report.drawing import GAP_HEIGHT, draw_card, draw_gap
from forerun.report.fold import Segment
from forerun.report.markup import Markup, asset, embed_json, join, number, tag
from forerun.report.picture import NameTables, Picture, draw_picture, legend, markers

__all__ = ["graph_frame", "standalone_svg"]

TITLE_HEIGHT = 30.0
LABEL_HEIGHT = 26.0
MARGIN = 16.0
NARROWEST = 140.0
"""Half the width of a column of boxes, which have titles."""

_PAPER = Markup(
    ".paper { fill: var(--surface); } .title { font: 600 13px system-ui, sans-serif; } "
    ".box { fill: none; stroke: var(--border); } .part { text-anchor: start; }"
)

_LEAST, _MOST, _A_NODE = 160, 560, 64
"""Height of a frame in pixels."""


def standalone_svg(pictures: Sequence[tuple[str, Graph]], *, prefix: str = "") -> str:
    """An SVG file that shows graphs with their titles; of repeated layers the first is drawn, and the others counted.

    Labels leave out the prefix where names begin with it; with one, each graph is drawn in one piece.
    """
    columns: list[Markup] = []
    x, height = MARGIN, 0.0
    for title, graph in pictures:
        segments = [Segment("", tuple(graph.nodes), prefix)] if prefix else None
        picture = Picture(graph, NO_MARKS, "", make_cards(graph, NO_MARKS, segments))
        left, right = picture.sides
        if len(picture.cards) > 1:
            left, right = min(left, -NARROWEST), max(right, NARROWEST)
        heading = tag("text", title, x=(right - left) / 2, y=TITLE_HEIGHT - 8, class_="title")
        parts, bottom = [], TITLE_HEIGHT
        for part, part_height in _stacked(picture, left, right):
            parts.append(tag("g", part, transform=f"translate(0 {number(bottom)})"))
            bottom += part_height
        columns.append(tag("g", heading, *parts, transform=f"translate({number(x)} 0)"))
        x += right - left + MARGIN
        height = max(height, bottom)
    svg = tag(
        "svg",
        tag("style", asset("graph.css"), _PAPER),
        markers(),
        tag("rect", width=x, height=height, rx=8, class_="paper"),
        *columns,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(x)} {number(height)}",
        width=x,
        height=height,
    )
    return f"{svg}\n"


def _stacked(picture: Picture, left: float, right: float) -> Iterator[tuple[Markup, float]]:
    """The parts of a picture from top to bottom, with their heights."""
    for cards, is_drawn in picture.stretches():
        first, last = cards[0], cards[-1]
        height = picture.layouts[first.look].height if is_drawn else 0.0
        if len(picture.cards) > 1:
            box = tag("rect", width=right - left, height=height + LABEL_HEIGHT - 2, rx=6, class_="box")
            label = tag("text", _fitting(_label(cards), right - left - 20), x=10, y=16, class_="part")
            yield join(box, label), LABEL_HEIGHT
        if is_drawn:
            yield draw_card(picture.graph, first, picture.marks, picture.layouts[first.look], (left, right)), height
        if last is not picture.cards[-1]:
            yield draw_gap(last.bottoms, picture.marks, (left, right)), GAP_HEIGHT


def _label(cards: Sequence[Card]) -> str:
    first, last = cards[0].segment, cards[-1].segment
    names = first.title if first is last else f"{first.title} … {last.title}"
    nodes = f"{len(first.nodes)} node{'s' * (len(first.nodes) != 1)}"
    return f"{names} · " + (f"{len(cards)} × " if len(cards) > 1 else "") + nodes  # noqa: RUF001


def _fitting(text: str, width: float) -> str:
    """As much of the end as there is room for, in a font of 11 pixels."""
    fits = int(width / 6.7)
    return text if len(text) <= fits else "…" + text[1 - fits :]


def graph_frame(graph: Graph) -> str:
    """An element ``iframe`` with the picture of a graph of any size: neither page changes how the other looks."""
    tables = NameTables()
    picture = draw_picture(graph, NO_MARKS, tables=tables)
    names = tag("script", embed_json(tables.tables), type="application/json", id="names")
    head = tag("head", tag("meta", charset="utf-8"), tag("style", asset("graph.css"), asset("page.css")))
    body = tag("body", markers(), legend(), picture, names, tag("script", asset("page.js")))
    height = min(_MOST, _LEAST + _A_NODE * len(graph))
    page = f"<!DOCTYPE html>{tag('html', head, body, lang='en')}"
    style = f"width:100%;height:{height}px;border:0"
    return tag("iframe", srcdoc=page, sandbox="allow-scripts", style=style, title=f"graph {graph.name}")
