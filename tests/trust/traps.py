"""Modules that leave a mark when they are imported or called, and graphs that try to reach them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forerun.ir.text.spelling import quote

__all__ = ["host_graph", "phase_graph", "source_graph", "trap"]

_HEAD = "forerun 1\ngraph g\n\nbuffer %x : f32[4] input on {place}\nbuffer %y : f32[4] output on {place}\n"

_TRAP = '''
from pathlib import Path

MARK = Path({mark!r})
MARK.write_text(MARK.read_text() + "imported\\n" if MARK.exists() else "imported\\n")

import os
import numpy as np
from os import system
from shutil import rmtree


def twice(x):
    """A function as a phase needs one."""
    return 2 * x


def mark(*arguments):
    MARK.write_text(MARK.read_text() + "called\\n")
    return arguments[0]


class Maker:
    def __new__(cls, *arguments):
        return mark(*arguments)
'''


@contextmanager
def trap(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "trap_module") -> Iterator[Path]:
    """A module on the path that leaves a mark; the file of the mark, which must not exist in the end."""
    marked = folder / "mark.txt"
    (folder / f"{name}.py").write_text(_TRAP.format(mark=str(marked)))
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    try:
        yield marked
    finally:
        for loaded in set(sys.modules) - before:
            if loaded.partition(".")[0] == name:
                del sys.modules[loaded]


def host_graph(function: str) -> str:
    """The text of a graph that calls a function on the host."""
    return _HEAD.format(place="host") + f"node #call = host {quote(function)} reads %x writes %y\n"


_PHASE = """
kernel @k(x: f32[N], y: f32[N]) launches any{sources} {{
  role all {{
    phase work reads x writes y ref {reference}
  }}
}}
"""


def phase_graph(reference: str, sources: str = "") -> str:
    """The text of a graph whose kernel has a phase with a reference function."""
    kernel = _PHASE.format(sources=sources, reference=quote(reference))
    return _HEAD.format(place="device:0") + kernel + "node #launch = @k(x=%x, y=%y)\n"


def source_graph(language: str, source: str) -> str:
    """The text of a graph whose kernel has a source."""
    return phase_graph("forerun.kernels.silu_mul:activate", f' {language}({quote(source)}, "entry")')
