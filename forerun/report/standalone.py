"""Graphs side by side as one SVG file, for documents."""

from __future__ import annotations

from collections.abc import Sequence

from forerun.ir.graph import Graph
from forerun.report.cards import NO_MARKS, make_card
from forerun.report.drawing import card_layout, draw_card
from forerun.report.fold import Segment
from forerun.report.markup import Markup, asset, number, tag
from forerun.report.picture import markers

__all__ = ["standalone_svg"]

TITLE_HEIGHT = 30.0
MARGIN = 16.0

_PAPER = Markup(".paper { fill: var(--surface); } .title { font: 600 13px system-ui, sans-serif; }")


def standalone_svg(pictures: Sequence[tuple[str, Graph]], *, prefix: str = "") -> str:
    """An SVG file that shows graphs next to each other, each in one piece.

    Args:
        pictures: Title and graph; the graphs should be small.
        prefix: What labels leave out where names begin with it.
    """
    drawings: list[Markup] = []
    x, height = MARGIN, 0.0
    for title, graph in pictures:
        card = make_card(graph, Segment(title, tuple(graph.nodes), prefix), NO_MARKS)
        layout = card_layout(card)
        width = layout.right - layout.left
        heading = tag("text", title, x=width / 2, y=TITLE_HEIGHT - 8, class_="title")
        drawing = draw_card(graph, card, NO_MARKS, layout, (layout.left, layout.right))
        moved = tag("g", drawing, transform=f"translate(0 {number(TITLE_HEIGHT)})")
        drawings.append(tag("g", heading, moved, transform=f"translate({number(x)} 0)"))
        x += width + MARGIN
        height = max(height, layout.height)
    whole = tag(
        "svg",
        tag("style", asset("graph.css"), _PAPER),
        markers(),
        tag("rect", width=x, height=height + TITLE_HEIGHT, rx=8, class_="paper"),
        *drawings,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(x)} {number(height + TITLE_HEIGHT)}",
        width=x,
        height=height + TITLE_HEIGHT,
    )
    return f"{whole}\n"
