"""The decode graph: its structure, and its values against the architecture's definition."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forerun
from forerun.frontends.decode import decode_graph, synthetic_decode_graph
from forerun.frontends.llama import (
    LLAMA_3_2_1B,
    SMOLLM2_135M,
    TINYLLAMA_1_1B,
    LlamaConfig,
    LlamaModel,
    weight_shapes,
)
from forerun.frontends.random_weights import RandomWeights
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode, ScalarLoad
from forerun.ir.semantics import check
from forerun.ir.types import BufferRole, DependencyKind, DType
from forerun.passes.infra.manager import PassManager
from forerun.support.diagnostics import InvalidInput
from tests.llama_oracle import all_logits
from tests.tiny_gguf import TINY, write_tiny_gguf

# Structure


def kernels(graph: Graph) -> list[str]:
    return [node.kernel for node in graph if isinstance(node, KernelNode)]


def test_a_step_is_small_separate_kernels_in_stream_order() -> None:
    layer = ["rmsnorm", "gemv", "gemv", "gemv", "rope_append", "attention", "gemv", "add"]
    layer += ["rmsnorm", "gemv", "gemv", "silu_mul", "gemv", "add"]
    graph = decode_graph(TINY)
    assert kernels(graph) == ["embedding", *layer, *layer, "rmsnorm", "gemv", "argmax"]
    names = list(graph.nodes)
    pairs = [(d.source, d.target, d.kind) for d in graph.dependencies]
    assert pairs == [(u, v, DependencyKind.FULL) for u, v in pairwise(names)]


def test_names_are_those_of_gguf() -> None:
    graph = decode_graph(TINY)
    weights = {name for name, buffer in graph.buffers.items() if buffer.role is BufferRole.WEIGHT}
    assert weights == {name for name, _ in weight_shapes(TINY)}
    node = graph.nodes["blk.1.ffn_down"]
    assert isinstance(node, KernelNode)
    assert dict(node.arguments)["w"].buffer == "blk.1.ffn_down.weight"  # type: ignore[union-attr]


def test_interface_of_the_graph() -> None:
    graph = decode_graph(TINY, context=20)
    by_role = {
        role: {n: (b.dtype, b.shape, b.bounds) for n, b in graph.buffers.items() if b.role is role}
        for role in (BufferRole.INPUT, BufferRole.OUTPUT, BufferRole.STATE)
    }
    tokens = (0, TINY.vocabulary - 1)
    assert by_role[BufferRole.INPUT] == {"token": (DType.I32, (1,), tokens), "position": (DType.I32, (1,), (0, 19))}
    assert by_role[BufferRole.OUTPUT] == {
        "next_token": (DType.I32, (1,), tokens),
        "logits": (DType.F32, (TINY.vocabulary,), None),
    }
    caches = [f"blk.{layer}.{kind}_cache" for layer in range(2) for kind in "kv"]
    assert by_role[BufferRole.STATE] == dict.fromkeys(caches, (DType.F32, (20, 2, 8), None))


@pytest.mark.parametrize("config", [SMOLLM2_135M, TINYLLAMA_1_1B, LLAMA_3_2_1B], ids=lambda config: config.name)
def test_known_models_make_valid_graphs(config: LlamaConfig) -> None:
    graph = decode_graph(config, dtype=DType.BF16)
    assert len(graph) == 4 + 14 * config.layers
    assert graph.buffers["blk.0.k_cache"].shape[0] == 1024
    assert set(graph.kernels) >= {"gemv_bf16", "embedding_bf16", "rmsnorm"}
    assert graph.buffers["blk.0.attn_q.weight"].dtype is DType.BF16
    assert graph.buffers["blk.0.attn_norm.weight"].dtype is DType.F32


def test_launches_cover_the_work() -> None:
    graph = decode_graph(SMOLLM2_135M)
    rows = {"blk.0.attn_q": 576, "blk.0.attn_k": 192, "blk.0.ffn_gate": 1536, "output": 49152}
    for name, count in rows.items():
        launch = graph.nodes[name].launch  # type: ignore[union-attr]
        warps = launch.grid[0] * launch.block[0] // 32
        assert warps <= count <= 8 * warps
    for node in graph:
        assert isinstance(node, KernelNode)
        assert node.launch.block[0] % 32 == 0
        assert 32 <= node.launch.block[0] <= 1024


def test_biases_are_kernels_of_their_own() -> None:
    graph = decode_graph(replace(TINY, attention_bias=True))
    assert Counter(kernels(graph))["add"] == 2 * 2 + 3 * 2
    node = graph.nodes["blk.0.attn_k_bias"]
    assert isinstance(node, KernelNode)
    assert dict(node.arguments)["a"].buffer == "blk.0.attn_k.bias"  # type: ignore[union-attr]


def test_split_attention_and_argmax_are_two_kernels_each() -> None:
    graph = decode_graph(TINY, splits=4, argmax_parts=8, cache_dtype=DType.BF16)
    found = Counter(kernels(graph))
    assert len(graph) == len(decode_graph(TINY)) + TINY.layers + 1
    assert found["attention_split_bf16"] == found["attention_merge"] == found["rope_append_bf16"] == TINY.layers
    assert found["argmax_partial"] == found["argmax_merge"] == 1
    assert graph.buffers["blk.0.attention.partial"].shape == (4, TINY.heads, TINY.head_size)
    assert graph.buffers["blk.0.k_cache"].dtype is DType.BF16
    assert graph.nodes["blk.0.attention"].launch.grid == (TINY.kv_heads * 4, 1, 1)  # type: ignore[union-attr]


def test_several_steps_feed_each_other_and_stay_in_the_context() -> None:
    graph = decode_graph(TINY, context=20, steps=3)
    assert len(graph) == 3 * len(decode_graph(TINY))
    assert graph.buffers["position"].bounds == (0, 17)
    assert graph.buffers["next_token"].shape == (3,)
    embedding, rope = graph.nodes["step.2.token_embd"], graph.nodes["step.2.blk.0.rope_append"]
    assert isinstance(embedding, KernelNode)
    assert isinstance(rope, KernelNode)
    assert embedding.argument("token") == ScalarLoad("next_token", 1)
    assert rope.argument("pos") == ScalarLoad("position", 0, 2)


@pytest.mark.parametrize(("nodes", "steps"), [(18, 1), (500, 1), (2000, 1), (2000, 4), (30, 2)])
def test_synthetic_graphs_have_at_least_the_nodes_asked_for(nodes: int, steps: int) -> None:
    graph = synthetic_decode_graph(nodes, steps=steps)
    assert nodes <= len(graph) < nodes + 14 * steps + steps


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 0}, "context 0 is out of range"),
        ({"context": 65}, "context 65 is out of range[^$]*positions 0 to 63"),
        ({"context": 4, "steps": 5}, "steps 5 is out of range[^$]*from 1 to the context, 4"),
        ({"steps": 0}, "steps 0 is out of range"),
        ({"splits": 0}, "splits 0 is out of range"),
        ({"argmax_parts": 0}, "argmax_parts 0 is out of range"),
        ({"argmax_parts": 10_000}, "argmax_parts 10000 is out of range[^$]*from 1 to the vocabulary"),
        ({"cache_dtype": DType.I32}, "caches of type i32 are not supported"),
        ({"dtype": DType.F64}, "matrices of type f64 are not supported"),
    ],
)
def test_ranges_are_checked(options: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        decode_graph(TINY, **options)  # type: ignore[arg-type]


# Values

TOKENS = [295, 268, 7, 270, 41, 276, 278, 90]


def run(graph: Graph, weights: Any, target: str = "reference", pipeline: str | None = "exact") -> np.ndarray:
    """Logits after each of ``TOKENS``."""
    with forerun.compile(graph, target=target, pipeline=pipeline, weights=weights) as executable:
        rows = []
        for position, token in enumerate(TOKENS):
            outputs = executable.run({"token": [token], "position": [position]})
            assert outputs["next_token"][0] == outputs["logits"].argmax()
            rows.append(outputs["logits"].copy())
    return np.stack(rows)


def open_tiny(folder: Path, config: LlamaConfig = TINY, **options: Any) -> LlamaModel:
    return LlamaModel.open(write_tiny_gguf(folder / "tiny.gguf", config, **options))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"tied": False},
        {"attention_bias": True},
        {"kv_heads": 4},
        {"kv_heads": 1, "layers": 1},
    ],
    ids=str,
)
def test_logits_are_those_of_the_definition(tmp_path: Path, change: dict[str, Any]) -> None:
    model = open_tiny(tmp_path, replace(TINY, **change))
    expected = all_logits(model.config, model.weights, TOKENS)
    found = run(decode_graph(model.config, context=16), model.weights)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_heads_are_normalized_where_the_model_does_that() -> None:
    config = replace(TINY, head_norms=True)
    weights = RandomWeights(config)
    expected = all_logits(config, weights, TOKENS)
    found = run(decode_graph(config, context=16), weights)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    plain = run(decode_graph(TINY, context=16), {name: weights[name] for name, _ in weight_shapes(TINY)})
    assert np.abs(found - plain).max() > 0.01


def test_rope_factors_of_the_file_change_the_logits_as_defined(tmp_path: Path) -> None:
    factors = {"rope_freqs.weight": np.array([1, 1, 4, 8], np.float32)}
    model = open_tiny(tmp_path, tensors=factors)
    found = run(decode_graph(model.config, context=16), model.weights)
    np.testing.assert_allclose(found, all_logits(model.config, model.weights, TOKENS), rtol=1e-3, atol=1e-4)
    plain = open_tiny(tmp_path)
    assert np.abs(found - all_logits(plain.config, plain.weights, TOKENS)).max() > 0.01


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_matrices_of_two_bytes_give_the_logits_of_their_rounded_values(tmp_path: Path, dtype: DType) -> None:
    model = open_tiny(tmp_path)
    weights = model.weights_as(dtype)
    found = run(decode_graph(model.config, context=16, dtype=dtype), weights)
    np.testing.assert_allclose(found, all_logits(model.config, weights, TOKENS), rtol=1e-3, atol=1e-4)


def test_pipelines_and_schedules_do_not_change_a_bit(tmp_path: Path) -> None:
    model = open_tiny(tmp_path)
    graph = decode_graph(model.config, context=16)
    expected = run(graph, model.weights, pipeline=None)
    np.testing.assert_array_equal(run(graph, model.weights), expected)
    for seed in range(3):
        found = run(graph, model.weights, target=f"reference{{schedule=adversarial,seed={seed}}}")
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", [{"splits": 3}, {"splits": 40, "argmax_parts": 7}], ids=str)
def test_parts_give_the_same_logits(tmp_path: Path, options: dict[str, int]) -> None:
    model = open_tiny(tmp_path)
    expected = all_logits(model.config, model.weights, TOKENS)
    found = run(decode_graph(model.config, context=16, **options), model.weights)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cache_dtype", [DType.BF16, DType.F16])
@pytest.mark.parametrize("splits", [1, 3])
def test_short_caches_give_nearly_the_same_logits(tmp_path: Path, cache_dtype: DType, splits: int) -> None:
    model = open_tiny(tmp_path)
    expected = all_logits(model.config, model.weights, TOKENS)
    found = run(decode_graph(model.config, context=16, cache_dtype=cache_dtype, splits=splits), model.weights)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < 1e-2


def test_several_steps_of_one_replay_are_the_steps_of_several(tmp_path: Path) -> None:
    model = open_tiny(tmp_path)
    one, three = (decode_graph(model.config, context=16, steps=steps) for steps in (1, 3))
    tokens, logits = [TOKENS[0]], np.empty(0)
    with forerun.compile(one, weights=model.weights) as executable:
        for position in range(6):
            outputs = executable.run({"token": [tokens[-1]], "position": [position]})
            tokens.append(int(outputs["next_token"][0]))
            logits = outputs["logits"].copy()
    found = [TOKENS[0]]
    with forerun.compile(three, weights=model.weights) as executable:
        for position in (0, 3):
            outputs = executable.run({"token": [found[-1]], "position": [position]})
            found += outputs["next_token"].tolist()
        np.testing.assert_array_equal(outputs["logits"], logits)
    assert found == tokens


def test_rows_of_earlier_steps_are_loaded_ahead_of_the_wait(tmp_path: Path) -> None:
    """Each step loads all past rows early, behind a full dependency on the append of the step before."""
    model = open_tiny(tmp_path)
    graph = decode_graph(model.config, context=16, steps=4)
    result = PassManager("exact").run(graph)
    assert [record.verdict for record in result.summary.passes] == ["unchanged", *["proved"] * 4]
    for step in range(4):
        for layer in range(model.config.layers):
            name = f"step.{step}.blk.{layer}.attention"
            node = result.graph.nodes[name]
            assert isinstance(node, KernelNode)
            (role,) = result.graph.kernels[node.kernel].roles or ()
            steps = [getattr(at, "name", type(at).__name__) for at in role.steps]
            assert steps == ["Trigger", "load_past", "Wait", "attend"]
            full = {d.source for d in result.graph.incoming(name) if d.kind is DependencyKind.FULL}
            assert full == ({f"step.{step - 1}.blk.{layer}.rope_append"} if step else set())
            for source in full:
                edit = result.graph.edit()
                edit.remove_dependency(source, name)
                assert check(edit.commit()).status == "refuted"
    inputs = {"token": [TOKENS[0]], "position": [2]}
    runs = [("reference", None), *((f"reference{{schedule=adversarial,seed={seed}}}", "exact") for seed in range(4))]
    found = []
    for target, pipeline in runs:
        with forerun.compile(graph, target=target, pipeline=pipeline, weights=model.weights) as executable:
            replays = [executable.run(inputs) for _ in range(2)]
        found.append([outputs[name].copy() for outputs in replays for name in ("next_token", "logits")])
    for values in found[1:]:
        for value, expected in zip(values, found[0], strict=True):
            np.testing.assert_array_equal(value, expected)
