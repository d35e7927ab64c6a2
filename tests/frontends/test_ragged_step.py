"""A step for ragged batches: the logits of the model, the same bits alone, any batch within the capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import ROPE_FREQUENCIES, LlamaConfig, rope_frequencies
from forerun.frontends.llama_config import LLAMA_3_2_1B, SMOLLM2_135M
from forerun.frontends.ragged_batch import Feed, batch_inputs, capacity_of
from forerun.frontends.ragged_step import RaggedCapacity, ragged_step_graph, require_heads_for_gpu
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.types import DType
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.codegen.specialise import units
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.toolchain import Source, compile_units, missing_toolchain
from forerun.schedules.status import Status
from forerun.support.diagnostics import InvalidInput
from tests.llama_oracle import all_logits
from tests.tiny_gguf import TINY, tiny_weights

MISSING = missing_toolchain()
CAPACITY = RaggedCapacity(requests=3, rows=24, context=60, ctas=4)
BIASED = replace(TINY, name="biased", attention_bias=True, tied=False)
WIDE = replace(TINY, name="wide", width=136, heads=6, kv_heads=2, head_size=64, hidden=320, tied=False)
PROMPTS = ([295, 268, 7, 270, 41], [276, 278, 90, 3, 5, 6, 7, 8, 9], [11])


def weights_of(config: LlamaConfig, dtype: DType) -> Mapping[str, np.ndarray]:
    """Random ones, of which matrices are rounded; the oracle takes the same."""
    weights = {
        name: values.astype(numpy_dtype(dtype)) if values.ndim == 2 else values
        for name, values in tiny_weights(config).items()
    }
    return weights | {ROPE_FREQUENCIES: rope_frequencies(config)}


def logits(program: Any, *feeds: Feed) -> np.ndarray:
    """Of each request of a batch."""
    outputs = program.run(batch_inputs(capacity_of(program.graph), feeds))
    assert outputs["answers"].tolist() == [len(feeds)]
    found = outputs["logits"][: len(feeds)].copy()
    assert outputs["next_token"][: len(feeds)].tolist() == found.argmax(axis=1).tolist()
    return found


def of_oracle(config: LlamaConfig, weights: Mapping[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    return all_logits(config, {name: w.astype(np.float64) for name, w in weights.items()}, tokens)[-1]


@pytest.fixture(scope="module")
def program():
    with forerun.compile(ragged_step_graph(TINY, CAPACITY), weights=weights_of(TINY, DType.F16)) as found:
        yield found


@pytest.mark.parametrize(("config", "dtype", "limit"), [(BIASED, DType.F16, 2e-3), (TINY, DType.BF16, 2e-2)])
def test_logits_are_those_of_the_model(config: LlamaConfig, dtype: DType, limit: float) -> None:
    weights = weights_of(config, dtype)
    with forerun.compile(ragged_step_graph(config, CAPACITY, dtype=dtype), weights=weights) as program:
        first = logits(program, *(Feed(slot, tokens, 0) for slot, tokens in enumerate(PROMPTS)))
        # Two of them go on, one by several tokens, in another order.
        second = logits(program, Feed(2, [4, 5, 6], 1), Feed(0, [17], 5))
    expected = [of_oracle(config, weights, tokens) for tokens in (*PROMPTS, [11, 4, 5, 6], [*PROMPTS[0], 17])]
    difference = np.abs(np.concatenate((first, second)) - expected)
    assert difference.max() < limit * np.abs(expected).max()


def test_choices_are_those_of_the_step_of_one_token(program: Any) -> None:
    """Within what rounding to f16 explains: a choice may differ only where the logits nearly tie."""
    weights = weights_of(TINY, DType.F16)
    with forerun.compile(decode_graph(TINY, context=32, dtype=DType.F16), weights=weights) as step:
        fed = list(PROMPTS[0])
        chosen = logits(program, Feed(1, fed, 0))[0]
        for position, token in enumerate(fed):
            expected = step.run({"token": [token], "position": [position]})
        for position in range(len(fed), 20):
            difference = np.abs(chosen - expected["logits"][:])
            assert difference.max() < 2e-3 * np.abs(chosen).max()
            token = int(expected["next_token"][0])
            assert chosen[token] >= chosen.max() - 2 * difference.max()
            fed.append(token)
            expected = step.run({"token": [token], "position": [position]})
            chosen = logits(program, Feed(1, [token], position))[0]


@given(st.data())
def test_each_request_has_the_bits_that_it_has_alone(program: Any, data: st.DataObject) -> None:
    """Whatever the others are, and wherever its pages lie; each is fed in up to three parts."""
    lengths = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=3), label="first parts")
    parts = [data.draw(st.lists(st.integers(1, 4), max_size=2), label="parts") for _ in lengths]
    chooser = np.random.default_rng(data.draw(st.integers(0, 99)))
    cuts = [np.cumsum([0, first, *rest]).tolist() for first, rest in zip(lengths, parts, strict=True)]
    prompts = [chooser.integers(0, TINY.vocabulary, cut[-1]).tolist() for cut in cuts]
    slots = chooser.permutation(3).tolist()

    def feed(request: int, part: int, slot: int) -> Feed:
        begin, end = cuts[request][part : part + 2]
        return Feed(slot, prompts[request][begin:end], begin)

    together: dict[tuple[int, int], np.ndarray] = {}
    for part in range(3):
        those = [request for request, cut in enumerate(cuts) if part + 1 < len(cut)]
        if those:
            rows = logits(program, *(feed(request, part, slots[request]) for request in those))
            together |= {(request, part): row for request, row in zip(those, rows, strict=True)}
    for (request, part), row in sorted(together.items()):
        assert np.array_equal(logits(program, feed(request, part, 1))[0], row)


def test_an_adversary_changes_no_bit(program: Any) -> None:
    feeds = [Feed(slot, tokens, 0) for slot, tokens in enumerate(PROMPTS)]
    graph, weights = ragged_step_graph(TINY, CAPACITY), weights_of(TINY, DType.F16)
    with forerun.compile(graph, "reference{schedule=adversarial,seed=3}", "fast", weights=weights) as other:
        assert np.array_equal(logits(other, *feeds), logits(program, *feeds))


def test_a_bad_batch_has_no_answers(program: Any) -> None:
    inputs = batch_inputs(CAPACITY, [Feed(0, [1, 2], 0)])
    inputs["kv_lengths"][0] = 1
    assert program.run(inputs)["answers"].tolist() == [0]
    assert program.read("attention.status")[0] == Status.QUERY_LONGER_THAN_KV


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requests": 0}, "requests 0 is out of range"),
        ({"rows": 2}, "2 rows are too few for 3 requests"),
        ({"context": 65}, "context 65 is out of range"),
        ({"page_size": 0}, "page_size 0 is out of range"),
    ],
)
def test_bad_capacities_are_refused(change: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ragged_step_graph(TINY, replace(CAPACITY, **change))


def test_types_and_widths_that_tensor_cores_do_not_take_are_refused() -> None:
    with pytest.raises(InvalidInput, match="matrices of type f32"):
        ragged_step_graph(TINY, CAPACITY, dtype=DType.F32)
    with pytest.raises(InvalidInput, match="rows of 36 elements"):
        ragged_step_graph(replace(TINY, width=36), CAPACITY)
    with pytest.raises(InvalidInput, match="normalizes heads"):
        ragged_step_graph(replace(TINY, head_norms=True), CAPACITY)
    with pytest.raises(InvalidInput, match="is not a step for ragged batches"):
        capacity_of(decode_graph(TINY))


def test_heads_that_the_attention_on_a_gpu_does_not_take_are_refused() -> None:
    require_heads_for_gpu(LLAMA_3_2_1B)
    with pytest.raises(InvalidInput, match="heads of 8 elements"):
        require_heads_for_gpu(TINY)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ([], "a batch of 0 requests"),
        ([Feed(n, [1], 0) for n in range(4)], "a batch of 4 requests"),
        ([Feed(0, [1] * 25, 0)], "a batch of 25 tokens"),
        ([Feed(1, [1], 0), Feed(1, [1], 0)], r"slots \[1, 1\] are not slots of their own"),
        ([Feed(3, [1], 0)], r"slots \[3\]"),
        ([Feed(0, [], 4)], "the request in slot 0 has no tokens"),
        ([Feed(0, [1], 60)], "would have 61 positions"),
        ([Feed(0, [1, -1], 0)], "a token that is not a number of the vocabulary"),
        ([Feed(0, [2**40], 0)], "a token that is not a number of the vocabulary"),
    ],
)
def test_batches_that_do_not_fit_are_refused(feeds: list[Feed], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        batch_inputs(CAPACITY, feeds)


@pytest.mark.slow
@pytest.mark.toolchain
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_machine_code() -> None:
    """Tensor cores, copies without registers, no spills; one product of each kind of node, for real shapes."""
    config = replace(LLAMA_3_2_1B, layers=1)
    capacity = RaggedCapacity(requests=8, rows=1024, context=1280)
    graph = PassManager("exact").run(ragged_step_graph(config, capacity, dtype=DType.BF16)).graph
    of_rows = ("matmul_rows_add", "rmsnorm_rows", "rope_append_rows", "silu_mul_rows")
    found = list({unit.entry: unit for unit in units(graph)[0] if unit.entry.startswith(of_rows)}.values())
    assert len(found) == len(of_rows)
    sources = [unit.source for unit in found if isinstance(unit.source, Source)]
    for unit, cubin in zip(found, compile_units(sources), strict=True):
        facts, is_product = cubin.entries[unit.entry], unit.entry.startswith("matmul")
        assert facts.stack_bytes == facts.spill_store_bytes == 0, unit.entry
        assert facts.registers <= (232 if is_product else 40), unit.entry
        opcodes = [instruction.opcode for instruction in facts.instructions]
        assert any(opcode.startswith("LDGSTS") for opcode in opcodes) == is_product
        # 16 products of 16 columns for each part of a stage of the largest tile.
        assert sum(opcode.startswith("HMMA.16816.F32.BF16") for opcode in opcodes) >= 4 * 16 * is_product


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_on_a_gpu(dtype: DType) -> None:
    weights, limit = weights_of(WIDE, dtype), 2e-2 if dtype is DType.BF16 else 4e-3
    capacity = RaggedCapacity(requests=4, rows=96, context=64)
    chooser = np.random.default_rng(0)
    prompts = [chooser.integers(0, WIDE.vocabulary, n).tolist() for n in (40, 1, 33, 17)]
    with forerun.compile(ragged_step_graph(WIDE, capacity, dtype=dtype), "cuda", weights=weights) as program:
        together = logits(program, *(Feed(slot, tokens, 0) for slot, tokens in enumerate(prompts)))
        for slot, tokens in enumerate(prompts):
            expected = of_oracle(WIDE, weights, tokens)
            assert np.abs(together[slot] - expected).max() < limit * np.abs(expected).max()
            assert np.array_equal(logits(program, Feed(3 - slot, tokens, 0))[0], together[slot])


@pytest.mark.gpu
def test_bits_of_real_shapes_on_a_gpu() -> None:
    """Decodes beside a long prefill, which has other tiles, against each alone."""
    config = replace(SMOLLM2_135M, layers=2, vocabulary=4096)
    capacity = RaggedCapacity(requests=4, rows=600, context=600)
    weights = dict(RandomWeights(config, DType.BF16))
    chooser = np.random.default_rng(0)
    prompts = [chooser.integers(0, config.vocabulary, n).tolist() for n in (500, 40, 3, 9)]
    with forerun.compile(ragged_step_graph(config, capacity, dtype=DType.BF16), "cuda", weights=weights) as program:
        for slot in (1, 2, 3):
            logits(program, Feed(slot, prompts[slot], 0))
        decodes = [Feed(slot, [slot], len(prompts[slot])) for slot in (1, 2, 3)]
        alone = [logits(program, feed)[0] for feed in (Feed(0, prompts[0], 0), *decodes)]
        for _ in range(5):
            found = logits(program, Feed(0, prompts[0], 0), *decodes)
            for row, expected in zip(found, alone, strict=True):
                np.testing.assert_array_equal(row, expected)
