"""SVG of one card: nodes with the steps of their kernels, dependencies in the colours of their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from forerun.ir import nodes
from forerun.ir.graph import Dependency, Graph
from forerun.ir.kernel import Barrier, Phase, Role, Step, Trigger, Wait
from forerun.report.cards import NO_MARKS, Card, Marks, Wire
from forerun.report.layout import NODE_HEIGHT, NODE_WIDTH, Layout, Point, lay_out, port_positions
from forerun.report.markup import Markup, number, tag

__all__ = ["GAP_HEIGHT", "card_layout", "draw_card", "draw_gap", "shortened"]

GAP_HEIGHT = 18.0
LONGEST_LABEL = 19
LONGEST_STRIP = NODE_WIDTH - 16


def card_layout(card: Card) -> Layout:
    """Where the things of a card are."""
    place = {name: i for i, name in enumerate(card.segment.nodes)}
    return lay_out(
        len(place),
        [(place[d.source], place[d.target]) for d in card.inner],
        [[place[d.target] for d in wire.dependencies] for wire in card.tops],
        [place[wire.source] for wire in card.bottoms],
    )


def draw_card(graph: Graph, card: Card, marks: Marks, layout: Layout, sides: tuple[float, float]) -> Markup:
    """The picture of a card.

    Attributes named ``data-n`` (a node's index in the card) and ``data-e`` (an edge's two ends) let the page give the
    same drawing other names.
    """
    place = {name: i for i, name in enumerate(card.segment.nodes)}
    shapes: list[str] = []
    for dependency, route in zip(card.inner, layout.routes, strict=True):
        ends = f"{place[dependency.source]},{place[dependency.target]}"
        shapes.append(_edge([dependency], route, marks, ends))
    routes = iter(layout.from_top)
    for index, wire in enumerate(card.tops):
        shapes += (_edge([d], next(routes), marks, f"t{index},{place[d.target]}") for d in wire.dependencies)
    for wire, route in zip(card.bottoms, layout.to_bottom, strict=True):
        # Not marked here, but in the gap: what becomes of the wire in the next card is not this card's looks.
        shapes.append(_edge(wire.dependencies, route, NO_MARKS, f"{place[wire.source]},b", arrow=False))
    for name, center in zip(card.segment.nodes, layout.centers, strict=True):
        shapes.append(_node(graph, card, name, center, marks))
    return _svg(sides, layout.height, *shapes)


def draw_gap(wires: Sequence[Wire], marks: Marks, sides: tuple[float, float]) -> Markup:
    """The wires from one card to the next."""
    lines = []
    for wire, x in zip(wires, port_positions(len(wires)), strict=True):
        route = ((x, 0.0), (x, GAP_HEIGHT))
        lines.append(_edge(wire.dependencies, route, marks, None, arrow=False))
    return _svg(sides, GAP_HEIGHT, *lines)


def shortened(label: str) -> str:
    """The label, with the middle left out if it is too long for its box."""
    if len(label) <= LONGEST_LABEL:
        return label
    return f"{label[: LONGEST_LABEL // 2]}…{label[-(LONGEST_LABEL // 2) :]}"


def _svg(sides: tuple[float, float], height: float, *shapes: str) -> Markup:
    left, right = sides
    box = f"{number(left)} 0 {number(right - left)} {number(height)}"
    return tag("svg", *shapes, viewBox=box, width=right - left, height=height, role="img")


# Edges


def _edge(
    dependencies: Sequence[Dependency], route: Sequence[Point], marks: Marks, ends: str | None, *, arrow: bool = True
) -> Markup:
    """One line; it may stand for several dependencies of one kind from one node."""
    kind = str(dependencies[0].kind)
    path = _path(_stopped_short(route) if arrow else route)
    title = "\n\n".join(_describe_dependency(d) for d in dependencies[:6])
    if dependencies[0].pair in marks.missing:
        kind, title = "missing", f"nothing orders {' and '.join(dependencies[0].pair)}"
    marked = any(d.pair in marks.pairs for d in dependencies)
    halo = tag("path", d=path, class_="halo") if marked else Markup()
    line = tag("path", d=path, class_="line", marker_end=f"url(#{kind})" if arrow else None)
    hit = tag("path", d=path, class_="hit")
    classes = f"edge {kind}" + (" marked" if marked else "")
    return tag("g", tag("title", title), halo, line, hit, class_=classes, data_e=ends)


def _stopped_short(route: Sequence[Point]) -> Sequence[Point]:
    """The route without its last few pixels, where the arrow's head will be."""
    x, y = route[-1]
    return (*route[:-1], (x, y - 4))


def _path(route: Sequence[Point]) -> str:
    """Straight where x stays, else an S-curve from rank to rank."""
    x, y = route[0]
    parts = [f"M{number(x)} {number(y)}"]
    for next_x, next_y in route[1:]:
        if next_x == x:
            parts.append(f"V{number(next_y)}")
        else:
            middle = number((y + next_y) / 2)
            parts.append(f"C{number(x)} {middle} {number(next_x)} {middle} {number(next_x)} {number(next_y)}")
        x, y = next_x, next_y
    return "".join(parts)


def _describe_dependency(dependency: Dependency) -> str:
    hazards = ", ".join(map(str, dependency.hazards))
    kind = str(dependency.kind).replace("_", " ")
    return f"{dependency.source} → {dependency.target}\n{kind}" + (f": {hazards}" if hazards else "")


# Nodes


def _node(graph: Graph, card: Card, name: str, center: Point, marks: Marks) -> Markup:
    node = graph.nodes[name]
    x, y = center
    left, top = x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2
    box = tag("rect", x=left, y=top, width=NODE_WIDTH, height=NODE_HEIGHT, rx=5)
    label = tag("text", shortened(card.segment.label(name)), x=x, y=top + 13)
    stubs = (
        _stubs(card.incoming.get(name, []), left, top + 8, "in"),
        _stubs(card.outgoing.get(name, []), left + NODE_WIDTH, top + 22, "out"),
    )
    kind = "kernel" if isinstance(node, nodes.KernelNode) else "other"
    classes = f"node {kind}" + " marked" * (name in marks.nodes) + " fault" * (name in marks.faults)
    title, index = tag("title", _describe_node(graph, node)), str(card.segment.nodes.index(name))
    return tag("g", title, box, label, _inside(graph, node, x, top), *stubs, class_=classes, data_n=index)


def _stubs(dependencies: Sequence[Dependency], x: float, y: float, direction: str) -> Markup:
    """A short arrow for the dependencies that go to, or come from, cards that are not next to this one."""
    if not dependencies:
        return Markup()
    kind = str(dependencies[0].kind)
    lines = "\n".join(_describe_dependency(d) for d in dependencies[:6])
    more = f"\nand {len(dependencies) - 6} more" if len(dependencies) > 6 else ""
    begin, end = (x, x + 10) if direction == "out" else (x - 13, x - 4)
    path = tag("path", d=f"M{number(begin)} {number(y)}H{number(end)}", class_="line", marker_end=f"url(#{kind})")
    count = tag("text", str(len(dependencies)), x=begin + 5, y=y - 4, class_="count")
    return tag("g", tag("title", lines + more), path, count, class_=f"edge {kind} far")


def _word_of(node: nodes.Node) -> str:
    """What kind of node it is."""
    match node:
        case nodes.KernelNode():
            return "kernel"
        case nodes.MemcpyNode():
            return "copy"
        case nodes.MemsetNode():
            return "fill"
        case nodes.HostCallbackNode():
            return "host call"
        case nodes.EmptyNode():
            return "empty"
        case nodes.AllocNode():
            return "alloc"
        case nodes.FreeNode():
            return "free"
        case nodes.EventRecordNode():
            return "record event"
        case nodes.EventWaitNode():
            return "wait for event"
        case nodes.ChildGraphNode():
            return "child graph"
        case nodes.ConditionalNode():
            return "conditional"
        case _:
            assert_never(node)


def _inside(graph: Graph, node: nodes.Node, x: float, top: float) -> Markup:
    """The second line of a node: the kernel's steps as little signs, or what kind of node it is."""
    if not isinstance(node, nodes.KernelNode):
        return tag("text", _word_of(node), x=x, y=top + 25, class_="what")
    kernel = graph.kernels.get(node.kernel)
    if kernel is None or kernel.is_black_box:
        return tag("text", "black box" if kernel else "no such kernel", x=x, y=top + 25, class_="what")
    signs: list[Markup] = []
    width = 0.0
    for role in kernel.roles or ():
        for sign, advance in _role_signs(role):
            signs.append(tag("g", sign, transform=f"translate({number(width)} 0)"))
            width += advance
        width += 5
    strip = max(width - 5, 1.0)
    scale = min(1.0, LONGEST_STRIP / strip)
    shift = f"translate({number(x - strip * scale / 2)} {number(top + 19)})"
    return tag("g", *signs, class_="steps", transform=shift + (f" scale({scale:.2f} 1)" if scale < 1 else ""))


def _role_signs(role: Role) -> list[tuple[Markup, float]]:
    waits = any(isinstance(step, Wait) for step in role.steps)
    signs = []
    for step in role.steps:
        waits = waits and not isinstance(step, Wait)
        signs.append(_sign(step, early=waits))
    return signs


def _sign(step: Step, *, early: bool) -> tuple[Markup, float]:
    """The sign of a step and the room that it takes. Phases before the wait have a colour of their own."""
    match step:
        case Phase():
            return tag("rect", width=12, height=7, y=0.5, rx=1.5, class_="early" if early else "phase"), 14.0
        case Wait():
            return tag("rect", width=2.5, height=11, y=-1.5, class_="wait"), 4.5
        case Trigger():
            return tag("path", d="M0 -0.5L6 4L0 8.5Z", class_="trigger"), 8.0
        case Barrier():
            return tag("path", d="M1 -1V9M3.5 -1V9", class_="barrier"), 6.5


def _describe_node(graph: Graph, node: nodes.Node) -> str:
    if not isinstance(node, nodes.KernelNode):
        return f"{node.name}\n{_word_of(node)}"
    grid, block = ("x".join(map(str, size)) for size in (node.launch.grid, node.launch.block))
    lines = [node.name, f"kernel {node.kernel}, grid {grid}, block {block}"]
    kernel = graph.kernels.get(node.kernel)
    for role in (kernel.roles or ()) if kernel else ():
        lines.append(f"{role.name}: " + " · ".join(_step_word(step) for step in role.steps))
    return "\n".join(lines)


def _step_word(step: Step) -> str:
    return step.name if isinstance(step, Phase) else f"[{type(step).__name__.lower()}]"
