"""What passes and functions print or end with: standard output stays for results, ``SystemExit`` is their failure."""

from __future__ import annotations

import json
import sys

import pytest

import forerun as forerun_package
from forerun.ir.text import parse_graph
from forerun.support.diagnostics import InvalidInput

PASSES = '''
import sys
from dataclasses import dataclass
from typing import ClassVar
from forerun.passes.infra.base import Pass
from forerun.passes.infra.registry import register

print("printed when it is loaded")

@register
@dataclass(frozen=True)
class Leaves(Pass):
    """Leaves."""
    name: ClassVar[str] = "leaves"
    def apply(self, graph, context):
        sys.exit(0)

@register
@dataclass(frozen=True)
class Talks(Pass):
    """Talks."""
    name: ClassVar[str] = "talks"
    def apply(self, graph, context):
        print("a pass was here\\x1b[2J")
        sys.stdout.write("and here")
        return graph

@register
@dataclass(frozen=True)
class Interrupted(Pass):
    """Is interrupted."""
    name: ClassVar[str] = "interrupted"
    def apply(self, graph, context):
        raise KeyboardInterrupt
'''


@pytest.fixture
def passes(tmp_path):
    path = tmp_path / "exits_of_passes.py"
    path.write_text(PASSES)
    return path


def test_a_pass_that_exits_has_failed_and_leaves_its_reproducer(forerun, good, passes, tmp_path):
    told = forerun("opt", good, "-p", "leaves", "--load", passes, "--dump", "d")
    assert told.status == 4
    assert told.out == ""
    assert "pass 1 of 1, leaves: it raised SystemExit: 0" in told.err
    assert json.loads((tmp_path / "d" / "summary.json").read_text())["status"] == "failed"
    assert (tmp_path / "d" / "01-leaves.reproducer.fir").exists()


def test_what_a_pass_prints_does_not_reach_the_graph(forerun, good, passes):
    told = forerun("opt", good, "-p", "talks", "--load", passes)
    assert told.status == 0
    assert parse_graph(told.out).name == "good"
    assert "a pass was here" in told.err
    assert "printed when it is loaded" in told.err


def test_an_interrupt_stays_an_interrupt(forerun, good, passes):
    assert forerun("opt", good, "-p", "interrupted", "--load", passes).status == 130


def test_a_module_that_exits_when_it_is_loaded_is_bad_input(forerun, good, tmp_path):
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(0)")
    told = forerun("opt", good, "-p", "", "--load", tmp_path / "leaves_at_once.py")
    assert told.status == 2
    assert "SystemExit" in told.err


@forerun_package.register_function
def leaves():
    sys.exit(0)


@pytest.mark.parametrize("target", ["reference", "reference{schedule=adversarial}"])
def test_a_function_of_a_kernel_that_exits_has_failed(target):
    text = (
        "forerun 1\ngraph g\nkernel @k(y: f32[4]) {\n  role all {\n    phase main\n      writes y\n"
        f'      ref "{leaves.__module__}:leaves"\n  }}\n}}\n'
        "buffer %y : f32[4] output\nnode #a = @k(y=%y)\n"
    )
    executable = forerun_package.compile(parse_graph(text), target)
    with executable, pytest.raises(InvalidInput, match="SystemExit"):
        executable.run({})
