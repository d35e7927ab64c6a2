"""A step for several sequences: the logits of the model, and of each token the same bits as alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forerun
from forerun.frontends.batched_step import batched_decode_graph
from forerun.frontends.llama import ROPE_FREQUENCIES, LlamaConfig, rope_frequencies
from forerun.frontends.llama_config import LLAMA_3_2_1B, QWEN2_5_0_5B
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.kernel import Wait
from forerun.ir.nodes import KernelNode
from forerun.ir.semantics import check
from forerun.ir.types import DType
from forerun.kernels.batched.sequences import Sequences
from forerun.passes.infra.manager import PassManager
from forerun.runtime.dtypes import numpy_dtype
from forerun.support.diagnostics import InvalidInput
from tests.llama_oracle import all_logits
from tests.tiny_gguf import TINY, tiny_weights

CONTEXT = 24
PROMPTS = ([295, 268, 7, 270, 41, 3, 9], [276, 278, 90], [11, 12, 13, 14, 15])


def weights_of(config: LlamaConfig, dtype: DType) -> Mapping[str, np.ndarray]:
    """Random ones, of which matrices are rounded; the oracle takes the same."""
    weights = {
        name: values.astype(numpy_dtype(dtype)) if values.ndim == 2 else values
        for name, values in tiny_weights(config).items()
    }
    return weights | {ROPE_FREQUENCIES: rope_frequencies(config)}


def of_oracle(config: LlamaConfig, weights: Mapping[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    return all_logits(config, {name: w.astype(np.float64) for name, w in weights.items()}, tokens)


def step(program: Any, positions: list[int], tokens: list[list[int]]) -> np.ndarray:
    """The logits of a step's tokens, which are given by sequence."""
    outputs = program.run({"token": [list(chain(*tokens))], "position": positions})
    logits: np.ndarray = outputs["logits"].copy()
    assert outputs["next_token"][0].tolist() == logits.argmax(axis=1).tolist()
    return logits.reshape(len(tokens), -1, logits.shape[1])


def program_of(of: Sequences, config: LlamaConfig = TINY, dtype: DType = DType.BF16, **options: Any) -> Any:
    graph = batched_decode_graph(config, of, context=CONTEXT, dtype=dtype, cache_dtype=DType.F32)
    return forerun.compile(graph, weights=weights_of(config, dtype), **options)


@pytest.fixture(scope="module")
def three() -> Any:
    with program_of(Sequences(3)) as found:
        yield found


@pytest.fixture(scope="module")
def one() -> Any:
    with program_of(Sequences(1)) as found:
        yield found


def test_logits_are_those_of_the_model(three: Any) -> None:
    """The sequences are fed token by token; the shorter ones begin later, so that positions differ."""
    weights, lengths = weights_of(TINY, DType.BF16), [len(prompt) for prompt in PROMPTS]
    for at in range(max(lengths)):
        positions = [max(0, at - max(lengths) + length) for length in lengths]
        found = step(three, positions, [[prompt[p]] for prompt, p in zip(PROMPTS, positions, strict=True)])
    expected = [of_oracle(TINY, weights, prompt)[-1] for prompt in PROMPTS]
    assert np.abs(found[:, 0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_several_tokens_of_a_sequence_at_once() -> None:
    """As a speculation feeds them: each has the logits that it has after those before it, and the bits, too."""
    prompts, weights = (PROMPTS[0], PROMPTS[2]), weights_of(TINY, DType.F16)
    with program_of(Sequences(2, 2), dtype=DType.F16) as pairs, program_of(Sequences(1), dtype=DType.F16) as one:
        together = [step(pairs, [at, at], [prompt[at : at + 2] for prompt in prompts]) for at in (0, 2)]
        for number, prompt in enumerate(prompts):
            expected = of_oracle(TINY, weights, prompt[:4])
            found = np.concatenate([rows[number] for rows in together])
            assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
            alone = [step(one, [at], [[prompt[at]]])[0, 0] for at in range(4)]
            np.testing.assert_array_equal(found, alone)


@given(st.data())
def test_each_sequence_has_the_bits_that_it_has_alone(three: Any, one: Any, data: st.DataObject) -> None:
    """Whatever the others are, and whichever of them it is."""
    chooser = np.random.default_rng(data.draw(st.integers(0, 99)))
    begun = [data.draw(st.integers(0, 5)) for _ in range(3)]
    tokens = chooser.integers(0, TINY.vocabulary, (3, CONTEXT)).tolist()
    steps = range(max(begun) + data.draw(st.integers(1, 3)))
    # A sequence that has not begun feeds its first token again and again.
    places = [[max(0, at - first) for first in begun] for at in steps]
    together = [step(three, place, [[row[p]] for row, p in zip(tokens, place, strict=True)]) for place in places]
    for number in range(3):
        for place, found in zip(places, together, strict=True):
            alone = step(one, [place[number]], [[tokens[number][place[number]]]])
            np.testing.assert_array_equal(found[number], alone[0])


def test_several_steps_feed_what_the_ones_before_have_chosen(three: Any) -> None:
    graph = batched_decode_graph(TINY, Sequences(3), context=CONTEXT, steps=3, cache_dtype=DType.F32)
    first, positions = [5, 6, 7], [0, 1, 2]
    with forerun.compile(graph, pipeline="fast", weights=weights_of(TINY, DType.BF16)) as program:
        outputs = program.run({"token": [first], "position": positions})
    fed = first
    with program_of(Sequences(3)) as fresh:
        for at, chosen in enumerate(outputs["next_token"].tolist()):
            logits = step(fresh, [p + at for p in positions], [[token] for token in fed])
            assert logits[:, 0].argmax(axis=1).tolist() == chosen
            fed = chosen
    np.testing.assert_array_equal(outputs["logits"], logits[:, 0])


def test_an_adversary_changes_no_bit(three: Any) -> None:
    with program_of(Sequences(3), target="reference{schedule=adversarial,seed=3}", pipeline="fast") as other:
        for at in range(3):
            tokens = [[prompt[at]] for prompt in PROMPTS]
            np.testing.assert_array_equal(step(other, [at] * 3, tokens), step(three, [at] * 3, tokens))


def optimised(of: Sequences, steps: int) -> Graph:
    graph = batched_decode_graph(replace(LLAMA_3_2_1B, layers=2), of, context=640, steps=steps)
    return PassManager("fast").run(graph).graph


@pytest.mark.parametrize(("of", "steps"), [(Sequences(8), 2), (Sequences(2, 3), 1)])
def test_passes_put_weights_and_earlier_rows_ahead_of_waits(of: Sequences, steps: int) -> None:
    graph = optimised(of, steps)
    assert check(graph).status == "proved"
    for node in graph:
        assert isinstance(node, KernelNode)
        kernel = graph.kernels[node.kernel]
        ((role,),) = (kernel.roles,)
        waits = [i for i, s in enumerate(role.steps) if isinstance(s, Wait)]
        early = {getattr(s, "name", "") for s in role.steps[: waits[0]]} if waits else set()
        if "embd" not in node.name and "argmax" not in node.name:
            assert early & {"load_weights", "load_past"}, node.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": DType.F32}, "matrices of type f32"),
        ({"context": 0}, "context 0 is out of range"),
        ({"steps": 25}, "steps 25 is out of range"),
        ({"sequences": Sequences(2, 2), "steps": 2}, "2 steps of 2 tokens"),
        ({"config": QWEN2_5_0_5B}, "has biases"),
        ({"config": replace(TINY, head_norms=True)}, "normalizes heads"),
        ({"config": replace(TINY, width=36)}, "matrices of 36 columns"),
        ({"config": replace(TINY, head_size=24)}, "KV heads of 24 elements are not supported"),
        ({"config": replace(TINY, heads=18, kv_heads=2)}, "18 query and 2 KV heads of"),
        ({"config": replace(TINY, head_size=4)}, "KV heads of 4 elements"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        batched_decode_graph(**{"config": TINY, "sequences": Sequences(2), "context": CONTEXT, **change})


@pytest.mark.parametrize(("count", "tokens"), [(0, 1), (1, 0), (9, 1), (3, 3), (1.5, 1), (True, 1), (1, float("nan"))])
def test_a_step_has_eight_tokens_at_most(count: Any, tokens: Any) -> None:
    with pytest.raises(InvalidInput, match="are out of range"):
        Sequences(count, tokens)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_bits_on_a_gpu(dtype: DType) -> None:
    """Real shapes of a layer, random weights: eight sequences, four tokens of one, and each alone."""
    config = replace(LLAMA_3_2_1B, layers=2, vocabulary=4096)
    weights, chooser = dict(RandomWeights(config, dtype)), np.random.default_rng(0)
    tokens = chooser.integers(0, config.vocabulary, (8, 12))

    def program(of: Sequences) -> Any:
        graph = batched_decode_graph(config, of, context=600, dtype=dtype, cache_dtype=dtype)
        return forerun.compile(graph, "cuda", weights=weights)

    with program(Sequences(8)) as eight, program(Sequences(1)) as one, program(Sequences(1, 4)) as four:
        together = [step(eight, [at] * 8, tokens[:, at : at + 1].tolist()) for at in range(12)]
        for number in range(8):
            alone = [step(one, [at], [[int(tokens[number, at])]])[0, 0] for at in range(12)]
            np.testing.assert_array_equal(alone, [rows[number, 0] for rows in together])
        spoken = np.concatenate([step(four, [at], [tokens[7, at : at + 4].tolist()])[0] for at in (0, 4, 8)])
        np.testing.assert_array_equal(spoken, alone)
