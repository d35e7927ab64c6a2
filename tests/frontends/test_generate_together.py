"""Answers to several prompts at once: those that each gets alone, in chunks or not, and the ways to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.generate import generate
from forerun.frontends.generate_together import generate_together
from forerun.frontends.llama import LlamaModel
from forerun.frontends.ragged_step import RaggedCapacity, ragged_step_graph
from forerun.ir.graph import Graph
from forerun.ir.types import DType
from forerun.schedules.status import Status
from forerun.support.diagnostics import ForerunError, InvalidInput
from tests.tiny_gguf import TINY, write_tiny_gguf

PROMPTS = ["the capital of France is", "hello", "world, the capital of the world is"]
CAPACITY = RaggedCapacity(requests=3, rows=64, context=64, ctas=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    return LlamaModel.open(write_tiny_gguf(tmp_path_factory.mktemp("together") / "tiny.gguf"))


@pytest.fixture(scope="module")
def weights(model: LlamaModel) -> Mapping[str, np.ndarray]:
    return model.weights_as(DType.F16)


@pytest.fixture(scope="module")
def program(model: LlamaModel, weights: Mapping[str, np.ndarray]):
    with forerun.compile(ragged_step_graph(model.config, CAPACITY), weights=weights) as found:
        yield found


class Script:
    """A step that chooses the tokens of scripts, by slot, and writes down what it was fed."""

    def __init__(self, scripts: list[list[int]], capacity: RaggedCapacity = CAPACITY) -> None:
        self.graph: Graph = ragged_step_graph(TINY, capacity)
        self.scripts = scripts
        self.pages = capacity.pages
        self.fed: list[list[tuple[int, int, int]]] = []
        self.answers: int | None = None
        self.logit = 0.0

    def run(self, inputs: Mapping[str, np.ndarray], /) -> Mapping[str, np.ndarray]:
        count = int(inputs["requests"][0])
        slots = (inputs["pages"][inputs["page_pointers"][:count]] // self.pages).tolist()
        rows = np.diff(inputs["query_pointers"][: count + 1]).tolist()
        lengths = inputs["kv_lengths"][:count].tolist()
        self.fed.append([(s, n - r, n) for s, r, n in zip(slots, rows, lengths, strict=True)])
        # The script says what stands at each position; behind it is 99.
        chosen = [[*self.scripts[s], *[99] * 99][n] for s, n in zip(slots, lengths, strict=True)]
        answers = count if self.answers is None else self.answers
        logits = np.full((count, 4), self.logit, np.float32)
        return {"next_token": np.array(chosen), "logits": logits, "answers": np.array([answers])}

    def read(self, buffer: str) -> Any:
        assert buffer == "attention.status"
        return np.array([Status.BAD_PAGE if self.answers == 0 else Status.OK, 0])


def test_each_answer_is_the_one_that_the_prompt_gets_alone(program: Any, model: LlamaModel) -> None:
    together = generate_together(program, model.tokenizer, PROMPTS, 12)
    assert (together.prefill_steps, together.decode_steps, together.decoded) == (1, 11, 33)
    for prompt, answer in zip(PROMPTS, together.answers, strict=True):
        assert generate_together(program, model.tokenizer, [prompt], 12).answers == (answer,)
        assert (len(answer.tokens), answer.stop) == (12, "length")


def test_the_first_tokens_are_those_of_the_step_of_one_token(
    program: Any, model: LlamaModel, weights: Mapping[str, np.ndarray]
) -> None:
    """Further ones may differ where two logits nearly tie; tests of the step itself compare logits."""
    together = generate_together(program, model.tokenizer, PROMPTS, 4)
    with forerun.compile(decode_graph(model.config, dtype=DType.F16), weights=weights) as step:
        for prompt, answer in zip(PROMPTS, together.answers, strict=True):
            assert generate(step, model.tokenizer, prompt, 4).tokens == answer.tokens


def test_prompts_longer_than_a_step_are_fed_in_chunks_of_their_own(model: LlamaModel) -> None:
    capacity = RaggedCapacity(requests=3, rows=8, context=64)
    prompts = [" hello" * 18, " hello" * 3, " hello" * 5]
    script = Script([[], [], []], capacity)
    answers = generate_together(script, model.tokenizer, prompts, 2)
    assert [len(answer.prompt_tokens) for answer in answers.answers] == [18, 3, 5]
    assert script.fed == [
        [(0, 0, 8)],
        [(0, 8, 16)],
        [(0, 16, 18), (1, 0, 3)],
        [(2, 0, 5)],
        [(0, 18, 19), (1, 3, 4), (2, 5, 6)],
    ]
    assert (answers.prefill_steps, answers.decode_steps) == (4, 1)


def test_answers_end_one_after_the_other(model: LlamaModel) -> None:
    """The first at once with the end token, the second at the end of the context, the third at the length."""
    end = next(iter(model.tokenizer.ends))
    capacity = RaggedCapacity(requests=3, rows=64, context=16)
    prompts = [" hello" * 2, " hello" * 14, " hello"]
    script = Script([[5, 5, end], [], [5, 7, 8, 9, 5]], capacity)
    answers = generate_together(script, model.tokenizer, prompts, 5)
    assert [(answer.stop, answer.tokens) for answer in answers.answers] == [
        ("end", ()),
        ("context", (99, 99, 99)),
        ("length", (7, 8, 9, 5, 99)),
    ]
    assert [[slot for slot, _, _ in fed] for fed in script.fed] == [[0, 1, 2], [1, 2], [1, 2], [2], [2]]
    assert script.fed[2] == [(1, 15, 16), (2, 2, 3)]
    assert answers.decoded == 6


def test_no_new_tokens_take_no_step(model: LlamaModel) -> None:
    script = Script([[]])
    (answer,) = generate_together(script, model.tokenizer, ["hello"], 0).answers
    assert (answer.tokens, answer.stop, script.fed) == ((), "length", [])


@pytest.mark.parametrize(
    ("prompts", "most", "said"),
    [
        ([], 1, "there is no prompt"),
        (["hello", ""], 1, "prompt 2 of 2: the prompt is empty"),
        (["hello" * 99, "hello"], 1, "prompt 1 of 2: the prompt has 99 tokens, but the context has 64 positions"),
        (["hello"] * 4, 1, "4 prompts do not fit a graph for 3 requests"),
        (["hello"], -1, "max_new_tokens is -1"),
    ],
)
def test_bad_prompts_are_refused_before_a_step(model: LlamaModel, prompts: list[str], most: int, said: str) -> None:
    script = Script([[]])
    with pytest.raises(InvalidInput, match=said):
        generate_together(script, model.tokenizer, prompts, most)
    assert script.fed == []


def test_a_step_that_refuses_the_batch_is_an_error(model: LlamaModel) -> None:
    script = Script([[], []])
    script.answers = 0
    with pytest.raises(InvalidInput, match="a page is not in the cache"):
        generate_together(script, model.tokenizer, ["hello"], 1)
    script.answers = 2
    with pytest.raises(ForerunError, match="2 answers for 1 requests"):
        generate_together(script, model.tokenizer, ["hello"], 1)


def test_logits_that_are_not_finite_are_an_error(model: LlamaModel) -> None:
    script = Script([[], []])
    script.logit = float("nan")
    with pytest.raises(InvalidInput, match="prompt 1: 4 of 4 logits after position 0 are not finite"):
        generate_together(script, model.tokenizer, ["hello", "world"], 1)
