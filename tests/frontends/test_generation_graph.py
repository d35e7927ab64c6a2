"""The loop on the device: its structure, and its choices against those of single steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import forerun
from forerun.compiler import Executable
from forerun.frontends.decode import decode_graph, generation_graph
from forerun.frontends.llama import SMOLLM2_135M, LlamaModel
from forerun.ir.graph import Graph
from forerun.ir.kernel import Wait
from forerun.ir.nodes import ConditionalNode, KernelNode
from forerun.ir.semantics import check
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.types import BufferRole, DType
from forerun.passes.infra.manager import PassManager
from forerun.runtime.cuda.codegen.specialise import units
from forerun.support.diagnostics import InvalidInput
from tests.tiny_gguf import TINY, write_tiny_gguf

CONTEXT, LIMIT, FIRST = 32, 20, 5


def body_of(graph: Graph) -> Graph:
    node = graph.nodes["decode"]
    assert isinstance(node, ConditionalNode)
    (body,) = node.bodies
    return body


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    return LlamaModel.open(write_tiny_gguf(tmp_path_factory.mktemp("generation") / "tiny.gguf", seed=3))


@pytest.fixture(scope="module")
def choices(model: LlamaModel) -> list[int]:
    """What single steps choose, one after another, from position 0."""
    tokens = [FIRST]
    with forerun.compile(decode_graph(model.config, context=CONTEXT), weights=model.weights) as executable:
        for position in range(CONTEXT):
            outputs = executable.run({"token": [tokens[-1]], "position": [position]})
            tokens.append(int(outputs["next_token"][0]))
    return tokens[1:]


def looped(model: LlamaModel, target: str = "reference", eot: int = -1, **options: Any) -> Executable:
    graph = generation_graph(model.config, context=CONTEXT, limit=LIMIT, eot=eot, **options)
    return forerun.compile(graph, target=target, weights=model.weights)


def generated(executable: Executable, token: int, position: int, limit: int) -> list[int]:
    outputs = executable.run({"token": [token], "position": [position], "limit": [limit]})
    tokens, count = outputs["tokens"].tolist(), int(outputs["count"][0])
    assert tokens[count:] == [0] * (LIMIT - count)
    return tokens[:count]


def test_a_loop_around_one_step() -> None:
    graph = generation_graph(TINY, context=CONTEXT, limit=LIMIT, eot=2)
    step = decode_graph(TINY, context=CONTEXT)
    assert list(body_of(graph).nodes) == [*step.nodes, "advance"]
    by_role = {
        role: {name: buffer.shape for name, buffer in graph.buffers.items() if buffer.role is role}
        for role in (BufferRole.INPUT, BufferRole.OUTPUT)
    }
    assert by_role[BufferRole.INPUT] == {"token": (1,), "position": (1,), "limit": (1,)}
    assert by_role[BufferRole.OUTPUT] == {"tokens": (LIMIT,), "count": (1,)}
    assert check(graph).proved
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


@pytest.mark.parametrize("pipeline", ["exact", "fast"])
def test_the_passes_work_inside_the_loop(pipeline: str) -> None:
    graph = generation_graph(SMOLLM2_135M, context=512, limit=256, eot=2, dtype=DType.BF16, cache_dtype=DType.BF16)
    result = PassManager(pipeline).run(graph)
    records = {record.name: record for record in result.summary.passes}
    assert {record.verdict for record in records.values() if record.changed} == {"proved"}
    step = body_of(result.graph)
    kernels = [result.graph.kernels[node.kernel] for node in step if isinstance(node, KernelNode)]
    edges = step.count_dependencies()
    # Every kernel but the first waits for one before; cache rows of earlier rounds are loaded early.
    assert edges["programmatic"] >= len(step) - 1
    assert sum(kernel.has(Wait) for kernel in kernels) == len(step) - 1
    assert records["hoist-loads"].statistics["phases_hoisted"] > 7 * SMOLLM2_135M.layers
    attention = next(kernel for kernel in kernels if kernel.name.startswith("attention"))
    (role,) = attention.roles or ()
    assert [getattr(step, "name", "") for step in role.steps].index("load_past") < role.steps.index(Wait())
    compiled, unit_of = units(result.graph)
    assert set(unit_of) == {f"decode/{name}" for name in step.nodes}
    assert len(compiled) < 20


def everything() -> Iterator[dict[str, Any]]:
    yield {}
    yield {"splits": 3, "argmax_parts": 5}
    yield {"target": "reference{schedule=adversarial,seed=1}", "splits": 2}
    yield {"target": "reference{schedule=adversarial,seed=2}", "argmax_parts": 3}


@pytest.mark.parametrize("options", list(everything()), ids=str)
def test_choices_are_those_of_single_steps(model: LlamaModel, choices: list[int], options: dict[str, Any]) -> None:
    assert len(set(choices[:LIMIT])) > 3
    with looped(model, **options) as executable:
        assert generated(executable, FIRST, 0, LIMIT) == choices[:LIMIT]
        # From where it stopped: the caches are kept.
        assert generated(executable, choices[LIMIT - 1], LIMIT, 4) == choices[LIMIT : LIMIT + 4]


def test_it_stops_at_the_end_token_which_counts(model: LlamaModel, choices: list[int]) -> None:
    end = choices[7]
    stop = choices.index(end) + 1
    with looped(model, eot=end) as executable:
        assert generated(executable, FIRST, 0, LIMIT) == choices[:stop]


def test_it_stops_where_no_position_is_left(model: LlamaModel, choices: list[int]) -> None:
    with looped(model) as executable:
        generated(executable, FIRST, 0, LIMIT)
        rest = generated(executable, choices[LIMIT - 1], LIMIT, LIMIT)
        assert rest == choices[LIMIT:CONTEXT]


def test_a_prompt_is_fed_with_a_limit_of_one(model: LlamaModel) -> None:
    prompt = [295, 268, 7, 270]
    with forerun.compile(decode_graph(model.config, context=CONTEXT), weights=model.weights) as executable:
        expected = [
            int(executable.run({"token": [token], "position": [position]})["next_token"][0])
            for position, token in enumerate(prompt)
        ]
    with looped(model) as executable:
        found = [generated(executable, token, position, 1) for position, token in enumerate(prompt)]
    assert found == [[token] for token in expected]


def test_short_caches_work_in_the_loop_too(model: LlamaModel) -> None:
    with looped(model, cache_dtype=DType.BF16) as executable:
        assert len(generated(executable, FIRST, 0, LIMIT)) == LIMIT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit 0 is out of range"),
        ({"limit": 65}, "limit 65 is out of range[^$]*from 1 to the context, 64"),
        ({"eot": -2}, "eot -2 is not a token"),
        ({"eot": 100_000}, "eot 100000 is not a token"),
        ({"splits": 0}, "splits 0 is out of range"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        generation_graph(TINY, **{"limit": 4, "eot": 2} | options)


@pytest.mark.parametrize("limit", [0, LIMIT + 1])
def test_a_limit_that_does_not_fit_is_refused_when_it_runs(model: LlamaModel, limit: int) -> None:
    with looped(model) as executable, pytest.raises(InvalidInput, match="limit"):
        executable.run({"token": [1], "position": [0], "limit": [limit]})
