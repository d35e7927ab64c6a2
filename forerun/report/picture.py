"""The picture of a graph: a column of cards, with the wires between them; cards that look alike are drawn once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from forerun.ir.graph import Graph
from forerun.report.cards import NO_MARKS, Card, Marks, make_cards
from forerun.report.drawing import card_layout, draw_card, draw_gap
from forerun.report.layout import Layout
from forerun.report.markup import Markup, join, tag

__all__ = ["NameTables", "Picture", "captioned", "draw_picture", "legend", "markers", "save_button", "swatch"]

OPENED = 3
"""How many different cards of repeated layers are open from the start."""
OPENED_NODES = 24
"""A card that is not of a repeated layer is open from the start if it has at most that many nodes."""
DRAWN_NODES = 800
"""The most nodes that a picture draws (each kind of layer counts once); the cards after that list names."""
NARROWEST = 90.0

_KINDS = {
    "full": "full",
    "programmatic": "programmatic (may start early, then waits)",
    "launch_order": "launch order",
}


@dataclass
class NameTables:
    """The node names of the graphs on a page, each list once; drawings that serve several layers look names up here."""

    tables: list[list[str]] = field(default_factory=list)

    def add(self, names: list[str]) -> int:
        """The number of the table with these names."""
        if names not in self.tables:
            self.tables.append(names)
        return self.tables.index(names)


def draw_picture(
    graph: Graph, marks: Marks = NO_MARKS, *, tables: NameTables | None = None, ident: str = "g"
) -> Markup:
    """A picture of the graph, which may be broken, with marks.

    ``tables`` collects names for the page's script; ``ident`` makes ids of elements unique on the page.
    """
    if not len(graph):
        return tag("p", "No nodes.", class_="note")
    cards = make_cards(graph, marks)
    table = (tables or NameTables()).add(list(graph.nodes))
    return tag("div", *Picture(graph, marks, ident, cards).column(), class_="picture", data_names=str(table))


class Picture:
    """The state of drawing one picture: which cards there are, and which of them is drawn for all that look like it.

    Attributes:
        layouts: By look, that of the cards that are drawn.
        first: By look, the card that is drawn.
        sides: The leftmost and the rightmost coordinate.
    """

    def __init__(self, graph: Graph, marks: Marks, ident: str, cards: Sequence[Card]) -> None:
        self.graph = graph
        self.marks = marks
        self.ident = ident
        self.cards = cards
        self.layouts: dict[Hashable, Layout] = {}
        self.first: dict[Hashable, Card] = {}
        nodes = 0
        for card in cards:
            if card.look not in self.first and nodes < DRAWN_NODES:
                self.first[card.look] = card
                self.layouts[card.look] = card_layout(card)
                nodes += len(card.segment.nodes)
        middle = [-NARROWEST, NARROWEST] if len(cards) != 1 else []  # where wires between cards are
        self.sides = (
            min([*middle, *(layout.left for layout in self.layouts.values())]),
            max([*middle, *(layout.right for layout in self.layouts.values())]),
        )
        self.opened: set[Hashable] = set()

    def column(self) -> Iterator[Markup]:
        """The picture from top to bottom, for the page."""
        if len(self.cards) == 1:
            yield tag("div", self._drawing(self.cards[0]), class_="card")
            return
        for cards, is_drawn in self.stretches():
            yield self._card(cards[0]) if is_drawn else self._fold(cards)
            if cards[-1] is not self.cards[-1]:
                yield draw_gap(cards[-1].bottoms, self.marks, self.sides)

    def stretches(self) -> Iterator[tuple[list[Card], bool]]:
        """The cards in order: one that is drawn alone, and those of a stretch that are drawn already, or never."""
        for block in _blocks(self.cards):
            is_drawn = self.first.get(block[0].look) is block[0]
            if is_drawn:
                yield block[:1], True
            if block[is_drawn:]:
                yield block[is_drawn:], False

    def _fold(self, cards: Sequence[Card]) -> Markup:
        """Cards that look like one that is drawn already."""
        if len(cards) == 1:
            return self._card(cards[0])
        inside: list[Markup] = []
        for card in cards:
            inside.append(self._card(card))
            if card is not cards[-1]:
                inside.append(draw_gap(card.bottoms, self.marks, self.sides))
        like = self.first.get(cards[0].look)
        note = f"{len(cards)} × {len(cards[0].segment.nodes)} nodes"  # noqa: RUF001 - a multiplication sign is meant
        summary = tag("summary", tag("b", f"{cards[0].segment.title} … {cards[-1].segment.title}"), tag("span", note))
        title = f"each looks like {like.segment.title}; unfold to see them" if like else None
        return tag("details", summary, *inside, class_="fold", title=title)

    def _card(self, card: Card) -> Markup:
        count = len(card.segment.nodes)
        text = tag("span", f"{count} node{'s' * (count != 1)}")
        summary = tag("summary", tag("b", card.segment.title), text)
        first = self.first.get(card.look)
        if first is None:
            names = tag("p", ", ".join(card.segment.nodes), class_="note names")
            return tag("details", summary, names, class_="card")
        if first is card:
            return tag("details", summary, self._drawing(card), class_="card", open=self._is_open(card))
        return tag(
            "details",
            summary,
            tag("p", f"Drawn like {first.segment.title}.", class_="note"),
            class_="card",
            data_like=self._id(first),
            data_first=str(card.start),
            data_prefix=card.segment.prefix,
            data_tops=",".join(str(card.start - self._back(card, wire.source)) for wire in card.tops),
        )

    def _back(self, card: Card, source: str) -> int:
        """How many nodes before the card's first one its predecessor's node ``source`` is."""
        before = self.cards[self.cards.index(card) - 1].segment.nodes
        return len(before) - before.index(source)

    def _is_open(self, card: Card) -> bool:
        if not self.marks.faults.isdisjoint(card.segment.nodes):
            return True
        if card.segment.run is None:
            return len(card.segment.nodes) <= OPENED_NODES
        self.opened.add(card.look)
        return len(self.opened) <= OPENED

    def _drawing(self, card: Card) -> Markup:
        picture = draw_card(self.graph, card, self.marks, self.layouts[card.look], self.sides)
        return tag("div", picture, id=self._id(card), data_first=str(card.start))

    def _id(self, card: Card) -> str:
        return f"{self.ident}-{card.start}"


def _blocks(cards: Sequence[Card]) -> Iterator[list[Card]]:
    """Stretches of repeated cards that look alike; other cards one by one."""
    for (run, _), group in groupby(cards, key=lambda card: (card.segment.run, card.look)):
        if run is None:
            yield from ([card] for card in group)
        else:
            yield list(group)


def markers() -> Markup:
    """The arrow heads that all drawings of a page refer to."""
    heads = [
        tag(
            "marker",
            tag("path", d="M0 0L8 4L0 8Z", class_=f"head {kind}"),
            id=kind,
            viewBox="0 0 8 8",
            refX=4,
            refY=4,
            markerWidth=7,
            markerHeight=7,
            markerUnits="userSpaceOnUse",
            orient="auto",
        )
        for kind in (*_KINDS, "missing")
    ]
    return tag("svg", tag("defs", *heads), width=0, height=0, aria_hidden="true", class_="defs")


def save_button(title: str, ident: str) -> Markup:
    """The button that saves the picture next to it; the page's script shows it."""
    name = f"{ident}{'-' * bool(title)}{title}.svg"
    return tag("button", "save as SVG", type="button", class_="save", data_name=name, hidden=True)


def captioned(facts: str, keys: Markup, drawing: Markup, *, title: str, ident: str, class_: str) -> Markup:
    """A figure that scrolls, below a caption and what its colours mean.

    Args:
        facts: The caption.
        keys: What the colours mean.
        drawing: The drawing, as :func:`~forerun.report.markup.tag` makes it.
        title: The end of the name under which the drawing is saved.
        ident: The beginning of that name.
        class_: The figure's class in the style sheet.
    """
    caption = tag("figcaption", tag("span", facts), save_button(title, ident))
    return tag("figure", caption, keys, tag("div", drawing, class_="scroll"), class_=class_)


def swatch(kind: str, words: str) -> Markup:
    """A colour of a picture, and what it means, in the list of its keys."""
    box = tag("rect", width=18, height=10, class_=kind)
    return tag("li", tag("svg", box, width=18, height=10, aria_hidden="true"), words)


def legend() -> Markup:
    """What colours, dashes and signs mean."""
    entries = [
        _entry(
            34,
            tag("g", tag("path", d="M1 8H29", class_="line", marker_end=f"url(#{kind})"), class_=f"edge {kind}"),
            text,
        )
        for kind, text in _KINDS.items()
    ]
    early = tag("rect", x=1, y=5, width=10, height=6, rx=1, class_="early")
    wait = tag("rect", x=13, y=3, width=2.5, height=10, class_="wait")
    phase = tag("rect", x=18, y=5, width=10, height=6, rx=1, class_="phase")
    trigger = tag("path", d="M2 3.5L8 8L2 12.5Z", class_="trigger")
    halo = tag(
        "g", tag("path", d="M1 8H29", class_="halo"), tag("path", d="M1 8H29", class_="line"), class_="edge marked"
    )
    entries += [
        _entry(30, join(early, wait, phase), "phase before the wait, the wait, phase after it"),
        _entry(12, trigger, "trigger"),
        _entry(30, halo, "changed by this pass"),
    ]
    return tag("ul", *entries, class_="legend")


def _entry(width: float, sign: Markup, text: str) -> Markup:
    return tag("li", tag("svg", sign, width=width, height=16, aria_hidden="true"), text)
