"""Huge texts are refused with bounded work and memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from forerun.ir.text import draw, parse_graph
from forerun.support.diagnostics import InvalidInput

resource = pytest.importorskip("resource", reason="needs getrusage")

MOST_CALLS = 10_000_000
"""Work is counted in calls of functions, not in seconds: what is quadratic here would need billions."""

HEAD = "forerun 1\ngraph g\n"
HUGE: dict[str, Callable[[], str | bytes]] = {
    "100 MB in one line": lambda: "[" * 100_000_000,
    "one line of a graph": lambda: HEAD + "[" * 60_000_000,
    "many lines": lambda: HEAD + "[\n" * 15_000_000,
    "braces": lambda: HEAD.encode() + b"{\n" * 15_000_000,
    "arguments": lambda: HEAD + ("node #a = @k" + "(" * 80 + "\n") * 200_000,
    "bodies": lambda: HEAD + "node #a = child { graph b\n" * 1_000_000,
    "a sum": lambda: HEAD + "node #a = fill %a[0" + ("+1" * 5_000 + "\n") * 3_000,
    "a list": lambda: HEAD + "node #a = @k(" + ("x=1," * 5_000 + "\n") * 1_500,
}


@contextmanager
def at_most_calls(most: int) -> Iterator[None]:
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += 1
        if calls > most:
            sys.setprofile(None)
            raise AssertionError(f"more than {most} calls of functions")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert calls > 0, "nothing was counted"


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_text(name: str) -> None:
    text = HUGE[name]()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most_calls(MOST_CALLS):
        with pytest.raises(InvalidInput) as caught:
            parse_graph(text)
        if isinstance(text, str):
            draw(caught.value.diagnostics, text)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * unit < 500_000_000
