"""Generation: what is fed at which position, and the three ways to stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.generate import generate
from forerun.frontends.llama import LlamaModel
from forerun.frontends.tokenizer import Tokenizer
from forerun.ir.builder import GraphBuilder
from forerun.ir.diagnostics import InvalidInput
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.kernels import add
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
