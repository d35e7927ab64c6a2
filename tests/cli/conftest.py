"""Runs commands as a user does, in this process, and gives them graphs to work on."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from forerun.cli import main
from forerun.ir.builder import GraphBuilder
from forerun.ir.text import print_graph
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def forerun(capsys, monkeypatch, tmp_path):
    """``forerun("check", "a.fir")``; the working and the cache folder are temporary, a terminal has 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORERUN_CACHE_DIR", str(tmp_path / "cache"))
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


def build(name, *, ordered=True):
    """Copy x to h, add h to itself into y: a race if the second launch is not ordered after the first."""
    builder = GraphBuilder(name)
    x = builder.input("x", DType.I32, (4,))
    h = builder.temp("h", DType.I32, (4,))
    y = builder.output("y", DType.I32, (4,))
    builder.launch(KERNELS["copy_i32"], node="first", x=x, y=h)
    after = None if ordered else []
    builder.launch(KERNELS["add_i32"], node="second", a=h, b=h, y=y, after=after)
    return builder.build()


@pytest.fixture
def good(tmp_path):
    """A file with a graph without races."""
    path = tmp_path / "good.fir"
    path.write_text(print_graph(build("good")))
    return path


@pytest.fixture
def racy(tmp_path):
    """A file with a graph that has a race."""
    path = tmp_path / "racy.fir"
    path.write_text(print_graph(build("racy", ordered=False)))
    return path


@pytest.fixture
def broken(tmp_path):
    """A file with a syntax error: the second node's name is gone."""
    path = tmp_path / "broken.fir"
    text = print_graph(build("broken"))
    assert "node #second" in text
    path.write_text(text.replace("node #second", "node second"))
    return path
