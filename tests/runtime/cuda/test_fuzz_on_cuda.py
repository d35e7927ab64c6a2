"""``forerun fuzz --target cuda``: random graphs run on the target, too, after the passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from forerun.cli import main
from forerun.ir.graph import Graph
from forerun.passes.infra.manager import PassManager
from forerun.runtime.reference import ReferenceProgram, ReferenceTarget
from forerun.support.diagnostics import Unsupported
from forerun.testing import assert_same_outputs, search
from forerun.testing.counterexample import Counterexample
from tests.runtime.cuda.fake_driver import FakeCuda
from tests.runtime.cuda.support import CudaTarget, on_fake, rich


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    api = FakeCuda()
    with on_fake(monkeypatch, api):
        yield api


def fuzz(capsys: pytest.CaptureFixture[str], examples: int) -> dict[str, Any]:
    main(["fuzz", "-p", "exact", "--target", "cuda", "--examples", str(examples), "--seed", "1", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_right_passes(fake: FakeCuda, capsys: pytest.CaptureFixture[str]) -> None:
    found = fuzz(capsys, 60)
    assert (found["status"], found["examples"]) == ("ok", 60)
    assert len(fake.launches) >= 60


@pytest.mark.gpu
def test_right_passes_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    found = fuzz(capsys, 40)
    assert (found["status"], found["examples"]) == ("ok", 40)


def test_what_only_the_target_does_wrong_is_found(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "_run", lambda self, nodes: None)
    found = search("exact", examples=20, seed=1, targets=[CudaTarget()]).counterexample
    assert found is not None
    assert found.property == "same-outputs"
    assert "differs on cuda" in found.finding


@dataclass(frozen=True)
class Picky:
    """Runs those graphs that it has what they need for."""

    name: ClassVar[str] = "picky"
    runs: Callable[[Graph], bool]

    def load(self, graph: Graph, weights: Mapping[str, Any]) -> ReferenceProgram:
        if not self.runs(graph):
            raise Unsupported("it has not what the graph needs")
        return ReferenceTarget().load(graph, weights)


def test_a_target_counts_only_if_it_runs_the_graph_before() -> None:
    before = rich()
    after = PassManager("exact").run(before).graph
    assert after != before
    assert_same_outputs(before, after, targets=[Picky(lambda graph: False)])
    with pytest.raises(Counterexample, match="it does not run on"):
        assert_same_outputs(before, after, targets=[Picky(lambda graph: graph == before)])
