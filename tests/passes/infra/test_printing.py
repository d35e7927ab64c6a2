"""Instruments that print, and stop-after."""

from __future__ import annotations

import io
import re

import pytest
from infra_samples import fills, values

from forerun.ir.text import diff_graphs, print_graph
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.instrument import PrintAfter, Statistics, StopAfter, Timing, Verify
from forerun.support.diagnostics import InvalidInput


def printed(what: str, pipeline: str = "test-add,test-nothing,test-drop") -> str:
    stream = io.StringIO()
    PassManager(pipeline, [PrintAfter(what, stream)]).run(fills(2))
    return stream.getvalue()


def test_print_after_all() -> None:
    text = printed("all")
    added = PassManager("test-add", []).run(fills(2)).graph
    dropped = PassManager("test-drop", []).run(added).graph
    assert text == (
        f"// after pass 1 of 3, test-add\n{print_graph(added)}"
        f"// after pass 2 of 3, test-nothing: no change\n{print_graph(added)}"
        f"// after pass 3 of 3, test-drop\n{print_graph(dropped)}"
    )


def test_print_after_changed_prints_differences() -> None:
    graph = fills(2)
    added = PassManager("test-add", []).run(graph).graph
    assert printed("changed", "test-add,test-nothing") == (
        f"// after pass 1 of 2, test-add\n{diff_graphs(graph, added)}// after pass 2 of 2, test-nothing: no change\n"
    )


def test_print_after_one_pass() -> None:
    text = printed("test-drop")
    assert text.startswith("// after pass 3 of 3, test-drop\n")
    assert text.count("// after pass") == 1


def test_print_after_an_unknown_pass() -> None:
    with pytest.raises(InvalidInput) as caught:
        printed("test-dro")
    assert str(caught.value) == "print after: the pipeline has no pass 'test-dro'\nhint: did you mean 'test-drop'?"


def test_print_after_tells_of_failures_and_skips() -> None:
    stream = io.StringIO()
    PassManager("test-add,test-add", [PrintAfter("changed", stream), StopAfter(0)]).run(fills(1))
    with pytest.raises(PassFailure):
        PassManager("test-reverse", [PrintAfter("changed", stream), Verify()]).run(fills(2))
    headers = [line for line in stream.getvalue().splitlines() if line.startswith("// after")]
    assert headers == [
        "// after pass 1 of 2, test-add: skipped, stopped after pass 0",
        "// after pass 2 of 2, test-add: skipped, stopped after pass 0",
        "// after pass 1 of 1, test-reverse",
        "// after pass 1 of 1, test-reverse: FAILED",
    ]


@pytest.mark.parametrize(
    ("which", "total"), [("test-add", 1), (2, 11), ("2", 11), (3, 11), (0, 0), ("test-nothing", 11)]
)
def test_stop_after(which: str | int, total: int) -> None:
    pipeline = "test-add,test-add{amount=10},test-nothing"
    result = PassManager(pipeline, [StopAfter(which)]).run(fills(1))
    assert values(result.graph) == [total]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("test-ad", "stop after: the pipeline has no pass 'test-ad'\nhint: did you mean 'test-add'?"),
        (3, "stop after: no pass 3\nhint: the pipeline has 2 passes"),
        (-1, "stop after: no pass -1\nhint: the pipeline has 2 passes"),
    ],
)
def test_stop_after_an_unknown_pass(which: str | int, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        PassManager("test-add,test-nothing", [StopAfter(which)]).run(fills(1))
    assert str(caught.value) == message


@pytest.mark.parametrize("pipeline", ["test-add,test-nothing", "test-add,test-fail"])
def test_timing(pipeline: str) -> None:
    stream = io.StringIO()
    manager = PassManager(pipeline, [Timing(stream), Verify()])
    if "fail" in pipeline:
        with pytest.raises(PassFailure):
            manager.run(fills(2))
    else:
        manager.run(fills(2))
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["pass", *pipeline.split(","), "all"]
    assert all(re.fullmatch(r"\S+( passes)? +\d+\.\d\d +\d+\.\d\d", line) for line in lines[1:])


def test_statistics() -> None:
    stream = io.StringIO()
    PassManager("test-drop,test-nothing,test-add", [Statistics(stream)]).run(fills(3))
    assert stream.getvalue().splitlines() == [
        "        2  test-drop.dropped  dependencies dropped",
        "        2  test-drop.seen  dependencies looked at",
        "        3  test-add.add  applications of the rule",
    ]


def test_no_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    PassManager("test-nothing", [Statistics()]).run(fills(3))
    assert capsys.readouterr().err == "no pass counts anything\n"
    stream = io.StringIO()
    with pytest.raises(PassFailure):
        PassManager("test-drop,test-fail", [Statistics(stream)]).run(fills(2))
    assert "test-drop.dropped" in stream.getvalue()
