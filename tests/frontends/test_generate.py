"""Generation: what is fed at which position, and the three ways to stop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import forerun
from forerun.compiler import Executable
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.generate import generate
from forerun.frontends.llama import LlamaModel
from forerun.frontends.tokenizer import Tokenizer
from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels import add
from forerun.support.diagnostics import InvalidInput
from tests.llama_oracle import all_logits
from tests.tiny_gguf import TINY, write_tiny_gguf


class Script:
    """A decode step that says what it was told to, and writes down what it was fed."""

    def __init__(self, answers: list[int], context: int = 64) -> None:
        self.graph: Graph = decode_graph(TINY, context=context)
        self.answers = answers
        self.fed: list[tuple[int, int]] = []

    def run(self, inputs: Mapping[str, np.ndarray], /) -> Mapping[str, np.ndarray]:
        self.fed.append((int(inputs["token"][0]), int(inputs["position"][0])))
        return {"next_token": np.array([self.answers[len(self.fed) - 1]], np.int32)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    return LlamaModel.open(write_tiny_gguf(tmp_path_factory.mktemp("generate") / "tiny.gguf"))


@pytest.fixture(scope="module")
def tokenizer(model: LlamaModel) -> Tokenizer:
    return model.tokenizer


END = 2
PROMPT = "the capital of"


def answers(tokenizer: Tokenizer, text: str) -> list[int]:
    """What a step says while the prompt is fed, then the tokens of ``text``."""
    return [99] * (len(tokenizer.encode(PROMPT)) - 1) + tokenizer.encode(text)


def test_the_prompt_is_fed_first_and_each_choice_next(tokenizer: Tokenizer) -> None:
    script = Script([*answers(tokenizer, " France is"), END])
    found = generate(script, tokenizer, PROMPT, 10)
    prompt, new = tokenizer.encode(PROMPT), tokenizer.encode(" France is")
    assert script.fed == [(token, position) for position, token in enumerate([*prompt, *new])]
    assert found.prompt_tokens == tuple(prompt)
    assert found.tokens == tuple(new)
    assert (found.text, found.stop, found.steps) == (" France is", "end", len(new) + 1)
    assert found.seconds_per_token > 0


def test_it_stops_at_the_length(tokenizer: Tokenizer) -> None:
    script = Script(answers(tokenizer, " France is hello"))
    found = generate(script, tokenizer, PROMPT, 2)
    assert (found.text, found.stop, len(found.tokens)) == (" France is", "length", 2)


def test_it_stops_where_the_context_ends(tokenizer: Tokenizer) -> None:
    script = Script(answers(tokenizer, " France is hello"), context=4)
    found = generate(script, tokenizer, PROMPT, 10)
    assert (found.text, found.stop) == (" France is", "context")
    assert script.fed[-1][1] == 3


def test_no_new_tokens_is_a_prompt_that_is_fed_but_for_its_last(tokenizer: Tokenizer) -> None:
    found = generate(Script([99] * 9), tokenizer, PROMPT, 0)
    assert (found.tokens, found.text, found.stop, found.seconds_per_token) == ((), "", "length", 0.0)


def test_text_is_streamed_in_whole_characters(tokenizer: Tokenizer) -> None:
    pieces: list[str] = []
    found = generate(Script(answers(tokenizer, " is é€")), tokenizer, PROMPT, 7, pieces.append)
    assert pieces == [" is", " ", "é", "€"]
    assert found.text == "".join(pieces)


@pytest.mark.parametrize(
    ("prompt", "count", "said"),
    [
        ("", 5, "the prompt is empty"),
        ("the capital of France is", 5, "has 5 tokens, but the context has 4 positions"),
        ("the", -1, "max_new_tokens is -1"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(tokenizer: Tokenizer, prompt: str, count: int, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        generate(Script([], context=4), tokenizer, prompt, count)


def test_a_graph_that_is_no_decode_step_is_refused(tokenizer: Tokenizer) -> None:
    builder = GraphBuilder("other")
    x, y = builder.input("x", DType.F32, (4,)), builder.output("y", DType.F32, (4,))
    builder.launch(add.KERNEL, a=x, b=x, y=y)
    script = Script([])
    script.graph = builder.build()
    with pytest.raises(InvalidInput, match="graph 'other' is not a decode step"):
        generate(script, tokenizer, PROMPT, 1)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_generates_what_its_definition_says(tmp_path: Path, kind: str) -> None:
    model = LlamaModel.open(write_tiny_gguf(tmp_path / "tiny.gguf", tokenizer=kind))
    with forerun.compile(decode_graph(model.config), weights=model.weights) as executable:
        found = generate(executable, model.tokenizer, PROMPT, 8)
        again = generate(executable, model.tokenizer, PROMPT, 8)
    assert len(found.tokens) == 8
    assert again.tokens == found.tokens
    sequence = [*found.prompt_tokens, *found.tokens]
    chosen = all_logits(model.config, model.weights, sequence).argmax(axis=1).tolist()
    assert list(found.tokens) == chosen[len(found.prompt_tokens) - 1 : -1]


@pytest.mark.parametrize("limit", [3, 8, 20])
def test_a_loop_on_the_device_generates_the_same_in_fewer_replays(model: LlamaModel, limit: int) -> None:
    with forerun.compile(decode_graph(model.config), weights=model.weights) as executable:
        expected = generate(executable, model.tokenizer, PROMPT, 8)
    graph = generation_graph(model.config, limit=limit, eot=END)
    pieces: list[str] = []
    with forerun.compile(graph, weights=model.weights) as executable:
        script = Counting(executable)
        found = generate(script, model.tokenizer, PROMPT, 8, pieces.append)
    assert (found.tokens, found.text, found.stop) == (expected.tokens, expected.text, expected.stop)
    assert "".join(pieces) == found.text
    assert script.runs == len(found.prompt_tokens) - 1 + -(-8 // limit)


class Counting:
    """An executable that counts its runs."""

    def __init__(self, executable: Executable) -> None:
        self.executable = executable
        self.graph = executable.graph
        self.runs = 0

    def run(self, inputs: Mapping[str, np.ndarray], /) -> Mapping[str, np.ndarray]:
        self.runs += 1
        return self.executable.run(inputs)

    def read(self, buffer: str) -> np.ndarray:
        return self.executable.read(buffer)


def test_a_loop_stops_at_the_end_and_where_the_context_ends(model: LlamaModel) -> None:
    with forerun.compile(decode_graph(model.config, context=12), weights=model.weights) as executable:
        plain = generate(executable, model.tokenizer, PROMPT, 20)
    assert plain.stop == "context"
    with forerun.compile(
        generation_graph(model.config, context=12, limit=5, eot=END), weights=model.weights
    ) as executable:
        assert generate(executable, model.tokenizer, PROMPT, 20).tokens == plain.tokens
    end = plain.tokens[-1]
    graph = generation_graph(model.config, context=12, limit=12, eot=end)
    with forerun.compile(graph, weights=model.weights) as executable:
        tokenizer = replace_ends(model.tokenizer, end)
        found = generate(executable, tokenizer, PROMPT, 20)
    assert found.stop == "end"
    assert found.tokens == plain.tokens[: plain.tokens.index(end)]


def replace_ends(tokenizer: Tokenizer, end: int) -> Tokenizer:
    changed = copy.copy(tokenizer)
    changed.ends = frozenset({end})
    return changed
