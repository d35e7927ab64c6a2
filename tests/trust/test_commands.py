"""Commands import nothing that a file names; ``--load`` is the user's word for it."""

from __future__ import annotations

import json

import pytest

from forerun.cli import main
from tests.trust.traps import host_graph, phase_graph, trap

PASSES = '''

from dataclasses import dataclass
from typing import ClassVar
from forerun.passes import Pass


@dataclass(frozen=True)
class Nothing(Pass):
    """Changes nothing."""

    name: ClassVar[str] = "trap-nothing"

    def apply(self, graph, context):
        return graph
'''


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command in the folder of the trap; its status and all that it printed, escapes of its own left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


@pytest.mark.parametrize("function", ["trap_module:mark", "trap_module:twice", "builtins:exec"])
@pytest.mark.parametrize("make", [host_graph, phase_graph], ids=["host", "phase"])
def test_reading_checking_rewriting_and_reporting_import_nothing(make, function, command, tmp_path, monkeypatch):
    (tmp_path / "g.fir").write_text(make(function))
    with trap(tmp_path, monkeypatch) as mark:
        assert command("check", "g.fir")[0] == 0
        assert command("check", "g.fir", "g.fir")[0] == 0
        assert command("opt", "g.fir", "-p", "exact", "--dump", "dumps", "-o", "out.fir")[0] == 0
        assert command("opt", "g.fir", "-p", "fast", "-o", "out.fir")[0] == 0
        assert command("opt", "g.fir", "-p", "exact", "--bisect")[0] == 0
        assert command("report", "dumps")[0] == 0
        assert not mark.exists()


@pytest.mark.parametrize("name", ["bench", "tune"])
def test_running_a_file_is_refused(name, command, tmp_path, monkeypatch):
    (tmp_path / "g.fir").write_text(host_graph("trap_module:mark"))
    with trap(tmp_path, monkeypatch) as mark:
        status, _ = command(name, "g.fir")
        assert status in (2, 3)  # 3: there is no GPU
        assert not mark.exists()


def reproducer(pipeline, rerun="forerun opt g.fir --load trap_module"):
    head = "// forerun reproducer\n// version: 0.1.0\n"
    body = phase_graph("forerun.kernels.silu_mul:activate")
    return f"{head}// pipeline: {pipeline}\n// error: it raised\n// rerun: {rerun}\n// load: trap_module.py\n{body}"


def counterexample(pipeline, function="forerun.kernels.builtin:load"):
    head = "// forerun counterexample\n// version: 0.1.0\n// replay: forerun fuzz --replay g.fir --load trap_module\n"
    return f"{head}// pipeline: {pipeline}\n// property: same-outputs\n// finding: none\n{phase_graph(function)}"


PIPELINES = [
    "trap_module:Nothing",
    "trap_module:mark",
    "infer-dependencies,trap_module:Nothing",
    "trap_module:os.system",
    "os:system",
    "trap_module.inner:Nothing",
    'trap_module:Nothing{x="y"}',
]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_reproducer_imports_nothing(pipeline, command, tmp_path, monkeypatch):
    with trap(tmp_path, monkeypatch) as mark:
        (tmp_path / "g.fir").write_text(reproducer(pipeline))
        status, printed = command("opt", "g.fir")
        assert status == 2
        assert "names passes of modules that nobody vouched for" in printed
        assert "hint: if you trust them, pass --load " in printed
        (tmp_path / "g.fir").write_text(counterexample(pipeline))
        status, printed = command("fuzz", "--replay", "g.fir")
        assert status == 2
        assert "names passes of modules that nobody vouched for" in printed
        assert not mark.exists()


def test_a_reproducer_runs_with_the_module_that_the_user_names(command, tmp_path, monkeypatch):
    with trap(tmp_path, monkeypatch) as mark:
        path = tmp_path / "trap_module.py"
        path.write_text(path.read_text() + PASSES)
        (tmp_path / "g.fir").write_text(reproducer("trap_module:Nothing"))
        for load in ("trap_module", "trap_module.py", path):
            assert command("opt", "g.fir", "--load", load)[0] == 0
        (tmp_path / "g.fir").write_text(counterexample("trap_module:Nothing"))
        assert command("fuzz", "--replay", "g.fir", "--load", "trap_module")[0] == 0
        assert "called" not in mark.read_text()
        # What --load vouched for has ended with the command.
        assert command("fuzz", "--replay", "g.fir")[0] == 2


def test_the_command_that_a_file_recorded_is_escaped(command, tmp_path):
    (tmp_path / "g.fir").write_text(reproducer("trap_module:Nothing", "forerun \x1b]0;owned\x07"))
    status, printed = command("opt", "g.fir")
    assert status == 2
    assert "\x1b]0;owned" not in printed


@pytest.mark.parametrize("function", ["trap_module:mark", "builtins:exec", "os:system"])
def test_replaying_a_counterexample_calls_nothing(function, command, tmp_path, monkeypatch):
    (tmp_path / "g.fir").write_text(counterexample("infer-dependencies", function))
    with trap(tmp_path, monkeypatch) as mark:
        status, printed = command("fuzz", "--replay", "g.fir")
        assert status == 2
        assert "asks for code that nobody vouched for" in printed
        assert not mark.exists()
        status, printed = command("fuzz", "--replay", "g.fir", "--json")
        assert status == 2
        assert "nobody vouched for" in json.loads(printed[: printed.rindex("}") + 1])["error"]["message"]


def test_load_does_not_put_the_current_folder_before_what_is_installed(command, tmp_path, monkeypatch):
    with trap(tmp_path, monkeypatch, "json") as mark:
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text("import json\n")
        (tmp_path / "g.fir").write_text(phase_graph("forerun.kernels.builtin:load"))
        assert main(["opt", "g.fir", "-p", "reduce-edges", "--load", "mine", "-o", "out.fir"]) == 0
        assert not mark.exists()


def test_load_takes_files_of_any_name_and_sources_that_exist(command, tmp_path):
    (tmp_path / "my-pass.py").write_text(PASSES.replace("trap-nothing", "trap-loaded"))
    (tmp_path / "work.cu").write_text("")
    (tmp_path / "g.fir").write_text(phase_graph("forerun.kernels.builtin:load"))
    loads = ["--load", "my-pass.py", "--load", "work.cu"]
    assert command("opt", "g.fir", "-p", "my-pass:Nothing", *loads, "-o", "out.fir")[0] == 0
    for missing in ("missing.cu", "missing.py", "no_such_module", "not a module"):
        status, printed = command("opt", "g.fir", "-p", "reduce-edges", "--load", missing)
        assert status == 2
        assert f"--load {missing}" in printed
