"""``forerun litmus``: without a GPU, and with the reference target in place of one."""

from __future__ import annotations

import json

import pytest

from forerun.runtime.gpu import no_gpu_reason
from forerun.runtime.litmus import TESTS, read_record
from tests.litmus.benches import MACHINE, SERIAL, ReferenceRunner, adversarial

KEYS = {"test", "what", "rule", "verdict", "control_of", "runs", "violated", "foreign", "definition"}


@pytest.fixture
def machine(monkeypatch):
    """Puts a bench in the GPU's place."""

    def put(bench):
        monkeypatch.setattr("forerun.runtime.litmus.machine.this_machine", lambda: MACHINE)
        monkeypatch.setattr("forerun.runtime.litmus.device.GpuRunner", lambda: bench)

    return put


@pytest.mark.skipif(no_gpu_reason() is None, reason="there is a GPU")
def test_without_a_gpu(forerun):
    outcome = forerun("litmus", "--only", "L1")
    assert (outcome.status, outcome.out) == (3, "")
    assert outcome.err.startswith("error: no GPU")
    error = json.loads(forerun("litmus", "--json").out)
    assert (error["status"], error["exit_status"], error["error"]["kind"]) == ("error", 3, "Unsupported")


def test_the_list_needs_no_gpu(forerun):
    outcome = forerun("litmus", "--list")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines] == ["test", *TESTS]
    assert "L5c B triggers, then waits; C reads A's before its wait may" in [" ".join(line.split()) for line in lines]
    (test,) = json.loads(forerun("litmus", "--list", "--only", "L9", "--json").out)["tests"]
    assert test["dependencies"] == [{"source": "A", "target": "B", "kind": "launch_order"}]
    assert (test["nodes"], test["rule"]) == ({"A": "sleep, store x", "B": "wait, load x"}, "may")


def test_a_table_of_80_columns(forerun, machine):
    machine(adversarial(h6=True))
    outcome = forerun("litmus", "--runs", 20, "--only", "L1", "--only", "L1b", "--only", "L5", "--only", "L3d")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "NVIDIA Test GPU, driver 580.1"
    assert lines[1].split() == ["test", "what", "runs", "seen", "rules", "verdict"]
    words = {line.split()[0]: " ".join(line.split()) for line in lines[2:] if line.startswith("L")}
    assert words["L1"].endswith("20 0 never kept")
    assert words["L1b"].endswith("may allowed, seen")
    assert words["L5"].endswith("20 0 never by H6 kept")
    assert "what the documented rules forbid was never seen" in lines
    assert "H6 inconclusive" in lines
    assert "not run: L5b" in outcome.out


def test_a_broken_rule(forerun, machine):
    class Stale(ReferenceRunner):
        def open(self, graph):
            program = super().open(graph)
            read = program.read
            program.read = lambda buffer: read(buffer) - 16
            return program

    machine(Stale(SERIAL))
    outcome = forerun("litmus", "--runs", 2, "--only", "L1", "--only", "L5")
    assert outcome.status == 1
    assert "broken: L1: trust no programmatic dependency here" in outcome.out
    assert "H6 refuted" in outcome.out
    result = json.loads(forerun("litmus", "--runs", 2, "--only", "L1", "--json").out)
    assert (result["status"], result["exit_status"]) == ("broken", 1)


def test_json_and_the_recorded_file(forerun, machine, tmp_path):
    machine(adversarial())
    outcome = forerun("litmus", "--runs", 3, "--only", "L5", "--only", "L8b", "--json", "--out", tmp_path / "r.json")
    result = json.loads(outcome.out)
    assert (result["status"], result["exit_status"], outcome.err) == ("ok", 0, "")
    assert [test["test"] for test in result["tests"]] == ["L5", "L8b"]
    assert all(set(test) == KEYS for test in result["tests"])
    assert {d["status"] for d in result["assumptions"].values()} <= {"granted", "refuted", "inconclusive"}
    assert result["machine"]["gpu"] == "NVIDIA Test GPU"
    recorded = json.loads((tmp_path / "r.json").read_text())
    assert recorded == {key: value for key, value in result.items() if key not in ("status", "exit_status", "file")}
    assert read_record(tmp_path / "r.json").machine == MACHINE


def test_the_file_is_named(forerun, machine, tmp_path):
    machine(ReferenceRunner(SERIAL))
    outcome = forerun("litmus", "--runs", 1, "--only", "L1", "--output", tmp_path / "r.json")
    assert outcome.out.endswith(f"recorded in {tmp_path / 'r.json'}\n")


def test_bad_input(forerun):
    outcome = forerun("litmus", "--only", "L5z")
    assert outcome.status == 2
    assert "no litmus test 'L5z'" in outcome.err
    assert forerun("litmus", "--runs", 0).status == 2


def test_the_record_on_standard_output_stands_alone(forerun, machine):
    machine(ReferenceRunner(SERIAL))
    outcome = forerun("litmus", "--runs", 1, "--only", "L1", "-o", "-")
    assert json.loads(outcome.out)["machine"]["gpu"] == "NVIDIA Test GPU"
    assert "what the documented rules forbid was never seen" in outcome.err
    both = forerun("litmus", "--runs", 1, "--only", "L1", "-o", "-", "--json")
    assert (both.status, both.err.splitlines()[0]) == (2, "error: two results cannot both go to standard output")


def test_the_list_refuses_options_of_a_run(forerun):
    assert forerun("litmus", "--list", "--runs", 3).err.startswith("error: --runs has no use here\n")


@pytest.mark.skipif(no_gpu_reason() is None, reason="there is a GPU")
def test_without_a_gpu_the_hint_leads_on(forerun):
    (hint,) = (line for line in forerun("litmus").err.splitlines() if line.startswith("hint: "))
    assert "forerun litmus --list" in hint
    assert forerun("litmus", "--list").status == 0
