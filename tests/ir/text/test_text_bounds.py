"""Huge texts are refused in bounded time and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from forerun.ir.diagnostics import InvalidInput
from forerun.ir.text import draw, parse_graph

resource = pytest.importorskip("resource", reason="needs getrusage")

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


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_text(name: str) -> None:
    text = HUGE[name]()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with pytest.raises(InvalidInput) as caught:
        parse_graph(text)
    if isinstance(text, str):
        draw(caught.value.diagnostics, text)
    assert time.perf_counter() - start < 10
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * unit < 500_000_000
