"""Every graph that a compile dumps reads back as the graph that it was, and says the same when it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig, weight_shapes
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.verify import verify
from forerun.runtime.reference import ReferenceTarget

TINY = LlamaConfig("tiny", 2, 16, 2, 1, 8, 24, 40, 32)


def test_dumps_of_a_decode_step_round_trip_and_run_alike(tmp_path: Path) -> None:
    chooser = np.random.default_rng(0)
    weights = {name: chooser.normal(size=shape).astype(np.float32) for name, shape in weight_shapes(TINY)}
    inputs = [{"token": [3], "position": [0]}, {"token": [7], "position": [1]}]
    with forerun.compile(decode_graph(TINY, context=8), weights=weights, dump=tmp_path) as program:
        expected = [program.run(given)["logits"] for given in inputs]
    files = sorted(tmp_path.glob("*.fir"))
    assert [path.name[:2] for path in files][:4] == ["00", "02", "03", "04"]
    for path in files:
        graph = parse_graph(path.read_text(), path.name)
        assert verify(graph) == []
        assert parse_graph(print_graph(graph)) == graph
        assert print_graph(graph) == path.read_text()
        with forerun.compile(graph, "reference{schedule=adversarial,seed=5}", "", weights=weights) as program:
            assert all(np.array_equal(program.run(i)["logits"], e) for i, e in zip(inputs, expected, strict=True))


def test_an_interrupt_while_a_graph_is_loaded_is_in_the_summary(tmp_path, monkeypatch):
    def interrupted(self, graph, weights):
        raise KeyboardInterrupt

    monkeypatch.setattr(ReferenceTarget, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        forerun.compile(decode_graph(TINY, context=16), dump=tmp_path / "d")
    summary = json.loads((tmp_path / "d" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["passes"][1]["verdict"] == "proved"
