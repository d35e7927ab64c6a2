"""Passes that mutate their input, or say what is not so."""

from __future__ import annotations

import pytest
from infra_samples import fills

from forerun.ir.fingerprint import content_hash
from forerun.ir.graph import Graph
from forerun.passes.infra.failure import PassFailure
from forerun.passes.infra.manager import PassManager
from forerun.passes.instrument import Honesty, honesty


def headline(pipeline: str) -> str:
    with pytest.raises(PassFailure) as caught:
        PassManager(pipeline, [Honesty()]).run(fills(3))
    assert caught.value.exit_status == 4
    return caught.value.headline + "\n" + str(caught.value).split("what is wrong:\n")[1].split("\n\n")[0]


@pytest.mark.parametrize("what", ["topology", "node", "table"])
@pytest.mark.parametrize("earlier", ["", "test-add,", "test-nothing,"])
def test_the_input_must_be_left_alone(what: str, earlier: str) -> None:
    told = headline(f"{earlier}test-mutate{{what={what}}},test-add")
    assert "it changed the graph that it got" in told
    assert "hint: change graphs through graph.edit(), and return edit.commit()" in told


@pytest.mark.parametrize(
    ("how", "changes"), [("count", "2 changes"), ("apply", "1 change"), ("copy-and-count", "2 changes")]
)
def test_counted_changes_must_be_there(how: str, changes: str) -> None:
    told = headline(f"test-lie{{how={how}}}")
    assert f"it counted {changes}, but changed nothing" in told
    assert "use context.observe for what is not a change" in told


def test_a_copy_is_remarked() -> None:
    (record,) = PassManager("test-lie{how=copy}", [Honesty()]).run(fills(3)).summary.passes
    assert record.remarks == ["it returned a new graph that equals its input; return the input itself"]


def test_honest_passes_pass() -> None:
    summary = PassManager("test-drop,test-nothing,test-add,test-join", [Honesty()]).run(fills(3)).summary
    assert [record.remarks for record in summary.passes[1:]] == [[], [], []]


def test_an_output_is_not_hashed_again_as_the_next_input(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Graph] = []

    def counting(graph: Graph) -> int:
        asked.append(graph)
        return content_hash(graph)

    monkeypatch.setattr(honesty, "content_hash", counting)
    PassManager("test-add,test-nothing,test-add", [Honesty()]).run(fills(3))
    # The first input, then after each pass its input again and, if it is new, its output.
    assert len(asked) == 1 + 2 + 1 + 2
