"""``forerun run``, on a tiny model."""

from __future__ import annotations

import json

import pytest
from gguf import GGMLQuantizationType

from forerun.frontends.llama import LlamaConfig
from forerun.runtime.gpu import no_gpu_reason
from forerun.support.escaping import visible_lines
from tests.tiny_gguf import write_tiny_gguf

PROMPT = "the capital of France is"


@pytest.fixture
def model(tmp_path):
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def run(forerun, model, *arguments):
    return forerun("run", model, "--prompt", PROMPT, "--max-new-tokens", 5, *arguments)


def test_text_table_and_the_place_of_the_dumps(forerun, model, tmp_path):
    outcome = run(forerun, model)
    assert outcome.status == 0
    assert outcome.err == ""
    assert outcome.out.startswith(PROMPT)
    for name in ("infer-dependencies", "insert-pdl", "hoist-loads", "reduce-edges", "programmatic", "proved"):
        assert name in outcome.out
    assert max(map(len, outcome.out[len(PROMPT) :].splitlines()[1:-2])) <= 80
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    assert f"dumps: {folder}" in outcome.out
    assert (folder / "index.html").exists()


def test_quiet_prints_the_new_text_only(forerun, model):
    loud, quiet = run(forerun, model), run(forerun, model, "--quiet")
    assert quiet.status == 0
    assert loud.out.startswith(PROMPT + quiet.out)
    assert "infer-dependencies" not in quiet.out


def test_json_is_one_object_and_nothing_else(forerun, model):
    outcome = run(forerun, model, "--json", "--dump", "d")
    result = json.loads(outcome.out)
    assert outcome.err == ""
    assert visible_lines(result["text"]) + "\n" == run(forerun, model, "--quiet").out
    assert (result["status"], result["dump"], len(result["tokens"])) == ("ok", "d", 5)
    assert [record["verdict"] for record in result["summary"]["passes"]] == ["unchanged", *["proved"] * 3, "unchanged"]


def test_an_adversarial_schedule_says_the_same(forerun, model):
    serial = run(forerun, model, "--quiet")
    for seed in (1, 2):
        adversarial = run(forerun, model, "--quiet", "--schedule", "adversarial", "--seed", seed)
        assert adversarial.status == 0
        assert adversarial.out == serial.out


def test_the_schedule_becomes_part_of_the_target(forerun, model):
    result = json.loads(run(forerun, model, "--json", "--schedule", "adversarial", "--seed", 7).out)
    assert result["target"] == "reference{schedule=adversarial,seed=7}"


def test_no_passes(forerun, model):
    result = json.loads(run(forerun, model, "--json", "--pipeline", "").out)
    assert result["summary"]["passes"] == []
    assert visible_lines(result["text"]) + "\n" == run(forerun, model, "--quiet").out


def test_old_runs_are_removed(forerun, model, tmp_path, monkeypatch):
    monkeypatch.setattr("forerun.cli.files.KEPT_RUNS", 2)
    runs = tmp_path / "cache" / "runs"
    for number in range(4):
        (runs / f"2020010{number + 1}-000000-old-1").mkdir(parents=True)
    (runs / "mine").mkdir()
    run(forerun, model, "--quiet")
    names = sorted(path.name for path in runs.iterdir())
    assert len(names) == 3
    assert names[0] == "20200104-000000-old-1"
    assert "mine" in names


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--pipeline", "insert-pld"), 2, "did you mean 'insert-pdl'?"),
        (("--target", "refrence"), 2, "did you mean 'reference'?"),
        pytest.param(
            ("--target", "cuda"), 3, "error: no GPU", marks=pytest.mark.skipif(not no_gpu_reason(), reason="a GPU")
        ),
        (("--target", "reference{seed=1}", "--seed", "2"), 2, "both given"),
        (("--context", "3"), 2, "3 positions"),
        (("--context", "0"), 2, "--context"),
        (("--max-new-tokens", "-1"), 2, "--max-new-tokens"),
        (("--schedule", "random"), 2, "--schedule"),
        (("--dump", "tiny.gguf"), 2, "tiny.gguf"),
    ],
)
def test_bad_options(forerun, model, arguments, status, message):
    outcome = run(forerun, model, *arguments)
    assert outcome.status == status
    assert message in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("smollm", None, "did you mean 'smollm2'?"),
        ("absent.gguf", None, "no such file"),
        ("foreign.gguf", b"MZ" * 50, "foreign.gguf"),
        ("short.gguf", b"GGUF", "short.gguf"),
    ],
)
def test_bad_models(forerun, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    outcome = run(forerun, name)
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.out == ""


def test_an_empty_prompt(forerun, model):
    outcome = forerun("run", model, "--prompt", "")
    assert outcome.status == 2
    assert "prompt is empty" in outcome.err


def test_the_download_is_told_once_it_begins(forerun, model, monkeypatch):
    def fetch(progress):
        progress(1, 10)
        progress(10, 10)
        return model

    monkeypatch.setattr("forerun.frontends.fetch.fetch_smollm2", fetch)
    outcome = run(forerun, "smollm2", "--quiet")
    assert outcome.status == 0
    assert outcome.err == ""
    assert run(forerun, "smollm2").err == "", "nobody looks on"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "fetching SmolLM2" in run(forerun, "smollm2").err


TINY = LlamaConfig("tiny", 1, 16, 2, 1, 8, 24, 48, 64)


@pytest.fixture
def shapes(monkeypatch):
    monkeypatch.setattr("forerun.frontends.llama_config.SHAPES", {"tiny": TINY})


def test_steps_of_a_shape_with_random_weights(forerun, shapes):
    arguments = ("run", "llama", "--shape", "tiny", "--random-weights", "--position", 5, "--target", "reference")
    outcome = forerun(*arguments)
    assert (outcome.status, outcome.err) == (0, "")
    assert "a step at position 5 takes" in outcome.out
    assert "hoist-loads" in outcome.out
    assert max(map(len, outcome.out.splitlines()[:-2])) <= 80
    first, again = (json.loads(forerun(*arguments, "--json", "--steps", 2).out) for _ in range(2))
    assert (first["position"], len(first["step_seconds"]), first["dtype"]) == (5, 2, "f32")
    assert first["token"] == again["token"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs --shape"),
        (("--shape", "tinny"), "did you mean 'tiny'?"),
        (("--shape", "tiny", "--random-weights", "--prompt", "hello"), "cannot continue a prompt"),
        (("--shape", "tiny", "--max-new-tokens", 3), "--max-new-tokens has no use here"),
        (("--shape", "tiny", "--random-weights", "--position", 64), "from 0 to 63"),
    ],
)
def test_bad_shapes(forerun, shapes, arguments, message):
    outcome = forerun("run", "llama", *arguments)
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.out == ""


def test_a_prompt_is_needed_for_a_model_with_weights(forerun, model):
    assert "give --prompt" in forerun("run", model).err
    assert "name one graph, model or --shape" in run(forerun, model, "--shape", "tiny").err
    assert "--random-weights has no use here" in run(forerun, model, "--random-weights").err


def test_matrices_of_another_type(forerun, model):
    result = json.loads(run(forerun, model, "--json", "--dtype", "bf16").out)
    assert result["dtype"] == "bf16"
    assert len(result["tokens"]) == 5


def test_matrices_stay_in_the_blocks_of_the_file_on_request(forerun, tmp_path):
    model = write_tiny_gguf(tmp_path / "q8.gguf", matrices=GGMLQuantizationType.Q8_0)
    outcome = run(forerun, model, "--quiet", "--dtype", "quantised", "--dump", "kept")
    assert (outcome.status, outcome.out) == (0, run(forerun, model, "--quiet").out)
    assert "%blk.0.attn_q.weight : u8[32, 48] weight" in (tmp_path / "kept" / "00-input.fir").read_text()


def test_random_weights_are_no_blocks(forerun, shapes):
    outcome = forerun("run", "llama", "--shape", "tiny", "--random-weights", "--dtype", "quantised")
    assert outcome.status == 2
    assert "the weights of --shape are random numbers, not blocks" in outcome.err


def test_a_choice_that_there_is_not_is_told_in_plain_words(forerun):
    outcome = forerun("run", "llama", "--dtype", "f8")
    assert outcome.status == 2
    assert outcome.err.startswith("error: Invalid value for '--dtype': 'f8' is not one of ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", 5), "--steps has no use here\nhint: a prompt decides which steps there are"),
        (("--position", 5), "--position has no use here\nhint: a prompt decides which steps there are"),
        (("--seed", 3), "--seed has no use here\nhint: it chooses among adversarial schedules"),
        (("--schedule", "serial", "--seed", 3), "--seed has no use here"),
    ],
)
def test_options_that_would_be_ignored_are_refused(forerun, model, arguments, message):
    outcome = run(forerun, model, *arguments)
    assert outcome.status == 2
    assert message in outcome.err


def test_names_that_are_close_to_shapes_lead_to_them(forerun):
    outcome = run(forerun, "llama3")
    assert outcome.err.splitlines() == [
        "error: no model 'llama3'",
        "hint: name a .gguf file, or only the shapes of a model: --shape llama-3.2-3b",
    ]


def test_steps_of_a_model_in_the_place_of_a_prompt(forerun, model):
    told = json.loads(forerun("run", model, "--steps", 2, "--position", 3, "--json").out)
    assert (told["position"], len(told["step_seconds"])) == (3, 2)
    assert isinstance(told["token"], int)


def test_a_shape_needs_no_other_words(forerun, shapes):
    told = [
        json.loads(forerun("run", *words, "--target", "reference", "--steps", 2, "--json").out)
        for words in (("--shape", "tiny"), ("llama", "--shape", "tiny", "--random-weights"))
    ]
    assert told[0]["token"] == told[1]["token"]


def test_a_graph_of_a_file_runs_on_random_values(forerun, tmp_path):
    assert forerun("export", "--sample", "two-layers", "-o", "g.fir").status == 0
    outcome = forerun("run", "g.fir", "--steps", 2)
    assert (outcome.status, outcome.err) == (0, "")
    assert "a step takes " in outcome.out
    assert "output %y, float32[256]: " in outcome.out
    adversarial = forerun("run", "g.fir", "--schedule", "adversarial", "--seed", 3)
    assert adversarial.out.partition("output")[2].partition("\n")[0] in outcome.out
    for option in ("--prompt", "--dtype"):
        assert f"{option} has no use here" in forerun("run", "g.fir", option, "f16").err


def test_counts_agree_with_their_nouns(forerun, model):
    prompt = forerun("run", model, "--prompt", "a", "--max-new-tokens", 1, "--pipeline", "insert-pdl", "-v").out
    assert "1 pass in " in prompt
    assert "1 token on reference" in prompt
    assert " 1 tokens" not in prompt
