"""``forerun run`` with several prompts, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.tiny_gguf import TINY, write_tiny_gguf

PROMPTS = ("the capital of France is", "hello")


@pytest.fixture
def model(tmp_path):
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def run(forerun, model, *arguments, prompts=PROMPTS):
    given = [part for prompt in prompts for part in ("--prompt", prompt)]
    return forerun("run", model, *given, "--max-new-tokens", 5, *arguments)


def test_answers_table_and_the_place_of_the_dumps(forerun, model, tmp_path):
    outcome = run(forerun, model)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(PROMPTS[0])
    assert f"\n{PROMPTS[1]}" in outcome.out
    assert "2 answers on reference: 6 tokens of prompts in 1 step" in outcome.out
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    assert f"dumps: {folder}" in outcome.out
    assert (folder / "index.html").exists()


def test_each_answer_is_that_of_its_prompt_in_any_batch(forerun, model):
    result = json.loads(run(forerun, model, "--json").out)
    swapped = json.loads(run(forerun, model, "--json", prompts=(*PROMPTS[::-1], "world")).out)
    assert [answer["prompt"] for answer in result["answers"]] == list(PROMPTS)
    assert result["answers"] == swapped["answers"][1::-1]
    assert [len(answer["tokens"]) for answer in result["answers"]] == [5, 5]
    assert (result["dtype"], result["prefill_steps"], result["decode_steps"]) == ("f16", 1, 4)
    assert all(record["verdict"] in ("proved", "unchanged") for record in result["summary"]["passes"])


def test_quiet_prints_the_answers_only(forerun, model):
    loud, quiet = run(forerun, model, "--dtype", "bf16"), run(forerun, model, "--quiet", "--dtype", "bf16")
    first, second = quiet.out.splitlines()
    assert loud.out.startswith(f"{PROMPTS[0]}{first}\n{PROMPTS[1]}{second}\n\n")


@pytest.mark.parametrize(
    ("arguments", "prompts", "message"),
    [
        ((), ("hello", ""), "prompt 2 of 2: the prompt is empty"),
        (("--context", 3), PROMPTS, "prompt 1 of 2: the prompt has 5 tokens, but the context has 3 positions"),
        (("--context", 999), PROMPTS, "context 999 is out of range"),
        (("--dtype", "f32"), PROMPTS, "--dtype f32 is not supported for several prompts"),
        (("--kv-dtype", "f32"), PROMPTS, "--kv-dtype f32 is not supported for several prompts"),
        (("--dtype", "f16", "--kv-dtype", "bf16"), PROMPTS, "one type for matrices and KV rows"),
        ((), ["hello"] * 65, "65 prompts are too many at once"),
        (("--position", 3), PROMPTS, "--position has no use here"),
    ],
)
def test_bad_input(forerun, model, tmp_path, arguments, prompts, message):
    outcome = run(forerun, model, *arguments, prompts=prompts)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "cache" / "runs").exists()


@pytest.mark.gpu
def test_answers_on_a_gpu_do_not_depend_on_the_batch(forerun, tmp_path):
    config = replace(TINY, width=64, head_size=16)
    model = write_tiny_gguf(tmp_path / "wide.gguf", config, metadata={"llama.attention.key_length": 16})
    result = json.loads(run(forerun, model, "--json", "--target", "cuda").out)
    swapped = json.loads(run(forerun, model, "--json", "--target", "cuda", prompts=(*PROMPTS[::-1], "world")).out)
    assert result["answers"] == swapped["answers"][1::-1]
    on_cpu = json.loads(run(forerun, model, "--json").out)
    assert [a["tokens"][0] for a in result["answers"]] == [a["tokens"][0] for a in on_cpu["answers"]]


def test_shapes_have_nothing_to_continue_prompts_with(forerun):
    outcome = forerun("run", "--shape", "smollm2-135m", "--prompt", "a", "--prompt", "b")
    assert outcome.status == 2
    assert "--prompt has no use here" in outcome.err
