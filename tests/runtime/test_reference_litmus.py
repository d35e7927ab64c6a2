"""The litmus tests of PDL, under every schedule of the strict model: what must never be seen, and what may be."""

from __future__ import annotations

import pytest

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import BufferRole
from tests.runtime.support import FULL, I32, LAUNCH_ORDER, PROGRAMMATIC, body, every_outcome, with_kinds

FRESH, STALE = (7,), (0,)
INPUTS = {"source": [7], "other": [9]}
BOTH = {FRESH, STALE}


def chain(*bodies: str, kinds: str, reader: int = -1) -> Graph:
    """Kernels in a chain: the first stores ``source`` to ``data``; the ``reader`` stores ``data`` to the output.

    The others move bytes that nobody looks at. ``kinds`` has a letter for each dependency: f, p or l.
    """
    make = GraphBuilder("chain")
    make.input("source", I32, (1,))
    make.input("other", I32, (1,))
    make.state("data", I32, (1,))
    make.output("seen", I32, (1,))
    last = len(bodies) - 1 if reader == -1 else reader
    for i, text in enumerate(bodies):
        x, y = ("source", "data") if i == 0 else ("data", "seen") if i == last else ("other", f"scratch{i}")
        if y.startswith("scratch"):
            make.buffer(y, I32, (1,), BufferRole.TEMP)
        make.launch(body(text), x=x, y=y, node="ABCD"[i])
    graph = make.build()
    for i, letter in enumerate(kinds):
        kind = {"f": FULL, "p": PROGRAMMATIC, "l": LAUNCH_ORDER}[letter]
        graph = with_kinds(graph, kind, ("ABCD"[i], "ABCD"[i + 1]))
    return graph


@pytest.mark.parametrize(
    ("bodies", "kinds", "strict", "with_h6"),
    [
        pytest.param(("TLS", "WLS"), "p", {FRESH}, {FRESH}, id="L1-early-trigger"),
        pytest.param(("TLS", "LS"), "p", BOTH, BOTH, id="L1b-no-wait"),
        pytest.param(("LS", "LS"), "p", BOTH, BOTH, id="L2-no-wait-no-trigger"),
        pytest.param(("LS", "LWS"), "p", BOTH, BOTH, id="wait-too-late"),
        pytest.param(("LS", "LS"), "f", {FRESH}, {FRESH}, id="full"),
        pytest.param(("LS", "LS", "WLS"), "pp", BOTH, BOTH, id="L3-middle-never-waits"),
        pytest.param(("LS", "LS", "LS"), "pf", BOTH, BOTH, id="L4-middle-never-waits-then-full"),
        pytest.param(("LS", "WLS", "WLS"), "pp", {FRESH}, {FRESH}, id="L4b-middle-waits"),
        pytest.param(("LS", "WLS", "LS"), "pf", {FRESH}, {FRESH}, id="L4c-middle-waits-then-full"),
        pytest.param(("LS", "TLS", "LWS"), "fp", BOTH, {FRESH}, id="L5-full-then-early-read"),
        pytest.param(("LS", "WTLS", "LWS"), "pp", BOTH, {FRESH}, id="L5b-wait-then-trigger"),
        pytest.param(("LS", "TWLS", "LWS"), "pp", BOTH, BOTH, id="L5c-trigger-then-wait"),
        pytest.param(("LS", "WLS"), "l", BOTH, BOTH, id="L9-launch-order-waits"),
        pytest.param(("LS", "LS"), "l", BOTH, BOTH, id="L9b-launch-order"),
    ],
)
def test_read_after_write(
    bodies: tuple[str, ...], kinds: str, strict: set[tuple[int]], with_h6: set[tuple[int]]
) -> None:
    graph = chain(*bodies, kinds=kinds)
    assert every_outcome(graph, INPUTS, "seen") == strict
    assert every_outcome(graph, INPUTS, "seen", h6=True) == with_h6


@pytest.mark.parametrize(("second", "expected"), [("LS", {(7,), (9,)}), ("WLS", {(7,)}), ("LWS", {(7,)})])
def test_write_after_read(second: str, expected: set[tuple[int]]) -> None:
    """L11: the primary loads late, the secondary stores to what it loads; L11b: the secondary's store waits."""
    make = GraphBuilder("war")
    make.input("source", I32, (1,))
    make.input("other", I32, (1,))
    make.output("seen", I32, (1,))
    make.launch(body("TLS"), x="source", y="seen", node="A")
    make.launch(body(second), x="other", y="source", node="B")
    make.join(["A", "B"])
    graph = with_kinds(make.build(), PROGRAMMATIC, ("A", "B"))
    assert every_outcome(graph, INPUTS, "seen") == expected


@pytest.mark.parametrize(("second", "expected"), [("LS", {(7,), (9,)}), ("LWS", {(9,)})])
def test_write_after_write(second: str, expected: set[tuple[int]]) -> None:
    make = GraphBuilder("waw")
    make.input("source", I32, (1,))
    make.input("other", I32, (1,))
    make.output("seen", I32, (1,))
    make.launch(body("LS"), x="source", y="seen", node="A")
    make.launch(body(second), x="other", y="seen", node="B")
    make.join(["A", "B"])
    graph = with_kinds(make.build(), PROGRAMMATIC, ("A", "B"))
    assert every_outcome(graph, INPUTS, "seen") == expected


@pytest.mark.parametrize(("second", "expected"), [("LS", {(-1,), (7,)}), ("LWS", {(7,)})])
def test_undrained(second: str, expected: set[tuple[int]]) -> None:
    """L8: the sink never waits, so the host may read the output before the node in front of it has stored it."""
    make = GraphBuilder("drain")
    make.input("source", I32, (1,))
    make.input("other", I32, (1,))
    make.output("seen", I32, (1,))
    make.temp("scratch", I32, (1,))
    make.launch(body("LS"), x="source", y="seen", node="A")
    make.launch(body(second), x="other", y="scratch", node="B")
    graph = with_kinds(make.build(), PROGRAMMATIC, ("A", "B"))
    assert every_outcome(graph, INPUTS, "seen") == expected


@pytest.mark.parametrize(
    ("third", "expected"), [("WLS", {FRESH}), ("LWS", {FRESH})], ids=["L13-after-the-wait", "L13-before-the-wait"]
)
def test_full_and_programmatic_sources(third: str, expected: set[tuple[int]]) -> None:
    graph = chain("LS", "LS", third, kinds="pp")
    graph = with_kinds(graph, FULL, ("A", "C"))
    assert every_outcome(graph, INPUTS, "seen") == expected


def test_wait_covers_every_programmatic_source() -> None:
    """L14: past a node that does not wait, a direct programmatic dependency still covers the first."""
    graph = with_kinds(chain("LS", "LS", "WLS", kinds="pp"), PROGRAMMATIC, ("A", "C"))
    assert every_outcome(graph, INPUTS, "seen") == {FRESH}


def test_store_becomes_visible_in_pieces() -> None:
    """A reader without order sees the old, the new, and either half of the new."""
    make = GraphBuilder("torn")
    make.input("source", I32, (2,))
    make.state("data", I32, (2,))
    make.output("seen", I32, (2,))
    make.launch(body("LS"), x="source", y="data", node="A")
    make.launch(body("LS"), x="data", y="seen", node="B")
    graph = with_kinds(make.build(), PROGRAMMATIC, ("A", "B"))
    inputs = {"source": [7, 8]}
    assert every_outcome(graph, inputs, "seen") == {(0, 0), (7, 8)}
    assert every_outcome(graph, inputs, "seen", split=True) == {(0, 0), (7, 0), (0, 8), (7, 8)}
