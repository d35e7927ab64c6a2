"""The cases of each pass: ``tests/cases/PASS/NAME.in.fir`` becomes ``NAME.out.fir``; ``pytest --bless`` rewrites them.

A small case is one file, ``NAME.fir``: the input, a line ``// becomes:``, and what comes out. The first line of an
input names the pass with its options: ``// pass: insert-pdl{trigger=end}``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from forerun.ir.semantics import check
from forerun.ir.text import diff_graphs, parse_graph, print_graph
from forerun.ir.verify import require_valid
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.registry import builtin

CASES = [
    path for path in sorted((Path(__file__).parents[1] / "cases").glob("*/*.fir")) if not path.name.endswith(".out.fir")
]
BECOMES = "\n// becomes:\n"


def test_every_pass_has_cases() -> None:
    assert {path.parent.name for path in CASES} == set(builtin())


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name.partition('.')[0]}")
def test_case(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)  # where options that name files find them
    text, becomes, _ = path.read_text().partition(BECOMES)
    out = path if becomes else path.with_name(path.name.replace(".in.fir", ".out.fir"))
    pipeline = text.splitlines()[0].removeprefix("// pass: ")
    graph = parse_graph(text, str(path))
    require_valid(graph)
    after = PassManager(pipeline).run(graph).graph
    assert check(after).proved
    if request.config.getoption("--bless"):
        out.write_text(f"{text}{becomes}{print_graph(after)}" if becomes else print_graph(after))
    expected = out.read_text().rpartition(becomes)[2] if becomes else out.read_text()
    shown = diff_graphs(parse_graph(expected, str(out)), after)
    assert expected == print_graph(after), f"{shown}\nif this is right: pytest {Path(__file__).name} --bless"
    assert parse_graph(print_graph(after)) == after
