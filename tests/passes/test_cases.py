"""The cases of each pass: ``tests/cases/PASS/NAME.in.fir`` becomes ``NAME.out.fir``; ``pytest --bless`` rewrites them.

The first line of an input names the pass with its options: ``// pass: insert-pdl{trigger=end}``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from forerun.ir.semantics import check
from forerun.ir.text import diff_graphs, parse_graph, print_graph
from forerun.ir.verify import require_valid
from forerun.passes.infra.manager import PassManager
from forerun.passes.infra.registry import available

CASES = sorted((Path(__file__).parents[1] / "cases").glob("*/*.in.fir"))


def test_every_pass_has_cases() -> None:
    # Other tests register passes of their own.
    builtin = {name for name, cls in available().items() if cls.__module__.startswith("forerun.passes.")}
    assert {path.parent.name for path in CASES} == builtin


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.name.removesuffix('.in.fir')}")
def test_case(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)  # where options that name files find them
    text = path.read_text()
    pipeline = text.splitlines()[0].removeprefix("// pass: ")
    graph = parse_graph(text, str(path))
    require_valid(graph)
    after = PassManager(pipeline).run(graph).graph
    assert check(after).proved
    out = path.with_name(path.name.replace(".in.fir", ".out.fir"))
    if request.config.getoption("--bless"):
        out.write_text(print_graph(after))
    expected = parse_graph(out.read_text(), str(out))
    shown = diff_graphs(expected, after)
    assert out.read_text() == print_graph(after), f"{shown}\nif this is right: pytest {Path(__file__).name} --bless"
    assert parse_graph(print_graph(after)) == after
