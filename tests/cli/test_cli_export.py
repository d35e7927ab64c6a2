"""``forerun export``."""

from __future__ import annotations

import json

import pytest

from forerun.frontends.llama import LlamaConfig
from forerun.frontends.samples import SAMPLES
from forerun.ir.text import parse_graph
from forerun.ir.types import DType
from tests.tiny_gguf import write_tiny_gguf

VERDICTS = {"two-layers": "proved", "race": "refuted", "decode": "proved", "loop": "proved"}
TINY = LlamaConfig("tiny", 1, 16, 2, 1, 8, 24, 48, 64)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_what_they_say(forerun, name):
    outcome = forerun("export", "--sample", name, "-o", "g.fir")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("wrote g.fir: graph ")
    assert forerun("check", "g.fir").out.startswith(f"{VERDICTS[name]}: ")
    assert forerun("opt", "g.fir", "-p", "fast", "-o", "fast.fir").status == 0
    assert forerun("check", "g.fir", "fast.fir").status == 0


def test_a_model_and_a_shape(forerun, tmp_path, monkeypatch):
    monkeypatch.setattr("forerun.frontends.llama_config.SHAPES", {"tiny": TINY})
    write_tiny_gguf(tmp_path / "tiny.gguf")
    for words, dtype in ((("tiny.gguf",), DType.F16), (("--shape", "tiny"), DType.BF16)):
        outcome = forerun("export", *words)
        assert (outcome.status, outcome.err) == (0, "")
        assert parse_graph(outcome.out).buffers["token_embd.weight"].dtype == dtype
    two = forerun("export", "--shape", "tiny", "--steps", 2, "--target", "reference", "--context", 16, "--json")
    told = json.loads(two.out)
    graph = parse_graph(told["text"])
    assert (told["graph"], told["nodes"], told["file"]) == (graph.name, len(graph), None)
    assert graph.buffers["next_token"].shape == (2,)
    assert graph.buffers["blk.0.k_cache"].shape[0] == 16


def test_what_cannot_be_exported(forerun):
    assert "did you mean 'decode'?" in forerun("export", "--sample", "decod").err
    asked = forerun("export").err
    assert asked.startswith("error: name one model, --shape or --sample\n")
    assert "forerun export --sample NAME" in asked
    assert "GRAPH" not in asked
    assert forerun("export", "--sample", "race", "--dtype", "f16").err.startswith("error: --dtype has no use here\n")
    assert "is a graph already" in forerun("export", "x.fir").err
