"""A program that varies is told from one that does not, with the node where it begins."""

from __future__ import annotations

from collections import Counter

import pytest

from forerun.external.variation import Variation, find_variation
from tests.captured.samples import BLOCKS
from tests.external.running_chain import NODES, chain, inputs, live, optimized, texts_as_code
from tests.external.running_cuda import RunningCuda

__all__ = ["texts_as_code"]

pytestmark = pytest.mark.usefixtures("texts_as_code")


def varying_chain(number: int, name: str, every: int = 2) -> RunningCuda:
    """The chain, of which the node with this handle stores another byte at some runs."""
    runs = Counter[int]()

    class Varying(RunningCuda):
        def after(self, node: int) -> None:
            runs[node] += 1
            if node == number and runs[node] % every == 0:
                self.memory.put(BLOCKS[name], b"\xff")

    cuda = chain()
    cuda.__class__ = Varying
    return cuda


def test_a_program_that_does_not_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = chain()
    before = {name: cuda.memory.bytes_at(at, 64) for name, at in BLOCKS.items()}
    found = live(cuda, monkeypatch)
    assert find_variation(found, inputs(cuda), steps=3, replays=2) is None
    assert {name: cuda.memory.bytes_at(at, 64) for name, at in BLOCKS.items()} == before
    assert set(cuda.memory.blocks) == set(BLOCKS.values())
    assert found.driver.handles.live() == ()


@pytest.mark.parametrize(("number", "block"), [(1, "y"), (2, "z"), (3, "x"), (4, "y")])
@pytest.mark.parametrize("every", [2, 3])
def test_the_node_where_it_begins(monkeypatch: pytest.MonkeyPatch, number: int, block: str, every: int) -> None:
    cuda = varying_chain(number, block, every)
    found = find_variation(live(cuda, monkeypatch), inputs(cuda), steps=3, replays=4, thorough=6)
    assert found is not None
    assert (found.node, found.kernel, found.step, found.replays) == (f"n{number - 1}", "scale", 0, 6)
    assert 0 < found.differing < 6
    assert str(found).startswith(f"n{number - 1} (scale) varies: ")


def test_the_programs_own_graph_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = varying_chain(NODES, "y")
    with optimized(cuda, monkeypatch) as graph:
        assert find_variation(graph, steps=1, replays=3) == Variation("n3", "scale", 0, 50, 100)
