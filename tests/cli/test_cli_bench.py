"""``forerun bench``: without a GPU, and on the fake driver in place of one."""

from __future__ import annotations

import json
from functools import partial

import pytest

from forerun.frontends.decode import decode_graph
from forerun.frontends.llama import LlamaConfig
from forerun.ir.builder import GraphBuilder
from forerun.ir.text import print_graph
from forerun.ir.types import DType
from forerun.kernels.builtin import KERNELS
from forerun.measure.bandwidth import read_bandwidth
from forerun.runtime.gpu import no_gpu_reason
from tests.runtime.cuda.support import on_fake

TINY = LlamaConfig("tiny", 2, 64, 2, 1, 32, 96, 128, 64)


@pytest.fixture
def fake(monkeypatch):
    """The fake driver in a GPU's place; it reads less memory, since it is slow at that."""
    monkeypatch.setattr("forerun.measure.bandwidth.read_bandwidth", partial(read_bandwidth, size=1 << 16))
    with on_fake(monkeypatch) as driver:
        yield driver


@pytest.fixture
def decode(tmp_path):
    path = tmp_path / "decode.fir"
    path.write_text(print_graph(decode_graph(TINY, context=32)))
    return path


@pytest.mark.skipif(no_gpu_reason() is None, reason="there is a GPU")
@pytest.mark.parametrize("subject", [("--shape", "llama-3.2-1b"), ("graph.fir",), ("smollm2",)])
def test_without_a_gpu_nothing_is_read(forerun, subject):
    outcome = forerun("bench", *subject)
    assert (outcome.status, outcome.out) == (3, "")
    assert outcome.err.startswith("error: no GPU")
    words = " ".join(subject)
    assert f"hint: 'forerun run {words} --target reference' times steps on the CPU" in outcome.err


def test_bad_requests(forerun, fake, decode):
    def refused(*arguments):
        outcome = forerun("bench", *arguments)
        return outcome.status, outcome.err.splitlines()[0]

    assert refused() == (2, "error: name one graph, model or --shape")
    assert refused(decode, "--shape", "llama-3.2-1b") == (2, "error: name one graph, model or --shape")
    assert refused(decode, "--position", 40)[0] == 2
    assert refused(decode, "--target", "reference") == (3, "error: target 'reference' has no GPU's clock")
    assert refused(decode, "--pipeline", "nothing")[0] == 2
    assert refused("--shape", "smollm2-135m", "--context", 8, "--position", 8) == (
        2,
        "error: position 8 is out of range",
    )


def test_tables_of_80_columns(forerun, fake, decode):
    outcome = forerun("bench", decode, "--position", 9, "--steps", 20)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith("1,500.0 us"))
    assert lines[0] == "tiny_decode at position 9 on Fake GPU"
    assert lines[1].startswith("1,500.0 us (1,500.0 to 1,500.0)  fast")
    header = next(line for line in lines if line.startswith("kernel"))
    assert header.split() == ["kernel", "nodes", "MB", "us", "share", "GB/s", "ceiling", "work", "gap", "early"]
    rows = {line.split()[0]: line.split() for line in lines if "%" in line}
    assert list(rows)[-1] == "step"
    assert int(rows["step"][1]) == sum(int(row[1]) for name, row in rows.items() if name != "step")
    per_node = forerun("bench", decode, "-v", "--steps", 1).out
    assert "attn_q" in per_node or "blk.0" in per_node
    assert not fake.handles.live()


def test_against_another_pipeline(forerun, fake, decode):
    outcome = forerun("bench", decode, "--position", 9, "--against", "", "--steps", 4)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[2].endswith("  no passes")
    assert lines[3] == "1.000 (1.000 to 1.000) times as fast as the second"
    assert lines[4].startswith("outputs agree to ")
    assert lines[4].endswith("; same largest elements")


def test_pipelines_that_disagree_are_not_timed(forerun, fake, tmp_path, monkeypatch):
    """A pass that nobody checks: it puts a wrong kernel in the place of a right one."""
    builder = GraphBuilder("g")
    x, w = builder.input("x", DType.F32, (64,)), builder.weight("w", DType.F32, (64,))
    builder.launch(KERNELS["add_f32"], a=x, b=w, y=builder.output("y", DType.F32, (64,)))
    path = tmp_path / "g.fir"
    path.write_text(print_graph(builder.build()))
    spoil = "forerun.cli.bench._compile"
    from forerun.cli.bench import _compile

    def compile_wrongly(subject, plan, pipeline, dump, told):
        executable = _compile(subject, plan, pipeline, dump, told)
        if not str(pipeline):
            run = executable.run
            executable.run = lambda inputs: {name: -value for name, value in run(inputs).items()}
        return executable

    monkeypatch.setattr(spoil, compile_wrongly)
    outcome = forerun("bench", path, "--against", "")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("error: the pipelines disagree: output 'y' differs by 2 (relative L2)")
    assert not fake.handles.live()


def test_json_trace_and_dump(forerun, fake, decode, tmp_path):
    trace, folder = tmp_path / "trace.json", tmp_path / "dump"
    arguments = ("bench", decode, "--position", 9, "--against", "", "--trace", trace, "--dump", folder)
    outcome = forerun(*arguments, "--steps", 4, "--json")
    assert outcome.status == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["status"], told["graph"], told["position"], told["gpu"]) == ("ok", "tiny_decode", 9, "Fake GPU")
    assert [set(p) for p in told["pipelines"]] == [{"pipeline", "step_us"}] * 2
    assert told["pipelines"][0]["step_us"] == {"value": 1500.0, "unit": "us", "low": 1500.0, "high": 1500.0}
    assert told["speedup"]["value"] == 1.0
    assert {d["output"] for d in told["differences"]} == {"logits", "next_token"}
    assert told["step"]["nodes"] == len(told["nodes"])
    assert told["step"]["share_us"] == pytest.approx(told["stamped_step_us"])
    assert told["step"]["bytes"] == sum(row["bytes"] for row in told["nodes"])
    rows = {row["label"]: row for row in told["nodes"]}
    past = next(row for label, row in rows.items() if row["kernel"].startswith("attention"))
    assert past["state_bytes"] > 0
    assert len(json.loads(trace.read_text())["traceEvents"]) > len(rows)
    timeline = json.loads((folder / "timeline.json").read_text())
    assert [node["name"] for node in timeline["nodes"]] == [row["label"] for row in told["nodes"]]
    kernels = json.loads((folder / "bench.json").read_text())["kernels"]
    assert kernels == told["kernels"]
    assert sum(row["share_us"] for row in kernels) == pytest.approx(told["step"]["share_us"])
    page = (folder / "index.html").read_text()
    assert "One step" in page
    assert "against the ceiling" in page
    assert {"bench.json", "timeline.json"} <= set(json.loads((folder / "summary.json").read_text())["files"])
    assert forerun("opt", decode, "-p", "", "--dump", folder).status == 0
    assert "One step" not in (folder / "index.html").read_text()


def test_shapes_and_models_of_ones_own(forerun, fake, monkeypatch):
    monkeypatch.setattr("forerun.frontends.llama_config.shape_named", lambda name: TINY)
    outcome = forerun("bench", "--shape", "tiny", "--steps", 2, "--json")
    assert outcome.status == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["position"] == TINY.context_length - 1
    weights = sum(row["weight_bytes"] for row in told["nodes"])
    # Everything but the embedding is read once, and of that one row (the head shares the table).
    assert weights == pytest.approx(2 * TINY.parameters, rel=0.05)


def test_the_rows_of_the_cache_may_be_of_another_type(forerun, fake, monkeypatch):
    monkeypatch.setattr("forerun.frontends.llama_config.shape_named", lambda name: TINY)

    def state_bytes(*options):
        outcome = forerun("bench", "--shape", "tiny", "--steps", 1, "--json", *options)
        assert outcome.status == 0, outcome.err
        return sum(row["state_bytes"] for row in json.loads(outcome.out)["nodes"])

    assert state_bytes("--kv-dtype", "f32") == 2 * state_bytes() == 2 * state_bytes("--kv-dtype", "bf16") > 0
    assert forerun("bench", "--shape", "tiny", "--kv-dtype", "i8").status == 2
