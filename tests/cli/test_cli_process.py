"""The command as a process: exit statuses, streams, signals, start-up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import typer

from forerun.cli.app import app
from forerun.support.version import __version__
from tests.cli.processes import finish, on_terminal, start


def test_version():
    assert finish("--version") == (0, f"forerun {__version__}\n", "")


def test_help_is_readable_at_80_columns():
    for command in ((), ("run",), ("bench",), ("opt",), ("check",), ("report",), ("info",)):
        status, out, _ = finish(*command, "--help")
        assert status == 0
        assert max(map(len, out.splitlines())) <= 80
        assert "..." not in out.partition("Commands:")[2]


def test_starting_up_imports_nothing_heavy():
    code = (
        "import sys; from forerun.cli import main; main(['--help'])\n"
        "heavy = {'numpy', 'networkx', 'gguf', 'cuda', 'hypothesis', 'tokenizers', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("chekc", "x"), ("check",), ("check", "--nonsense", "x"), ("opt", "a", "b")],
    ids=" ".join,
)
def test_usage_errors(arguments):
    status, out, err = finish(*arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert "usage: forerun" in err
    assert "Traceback" not in err


def test_no_arguments_show_the_help():
    status, out, _ = finish()
    assert status == 2
    assert "Commands:" in out


def test_refuted_and_internal_errors_have_their_status(racy, monkeypatch):
    assert finish("check", racy)[0] == 1
    code = (
        "import sys, forerun.ir.verify as v\n"
        "def fail(graph): raise KeyError('planted')\n"
        "v.require_valid = fail\n"
        f"from forerun.cli import main\nsys.exit(main(['check', {str(racy)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "internal error: KeyError: 'planted'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(good):
    code = f"{sys.executable} -m forerun opt {good} -p reduce-edges | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


def test_control_c(tmp_path):
    fifo = tmp_path / "never.fir"
    os.mkfifo(fifo)
    process = start("check", fifo)
    with open(fifo, "w"):  # from here on the command is reading, and will not get anything
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert err.strip() == "interrupted"


def test_no_colour_without_a_terminal_nor_where_it_is_not_wanted(racy):
    assert "\x1b" not in finish("check", racy)[1]
    forced = {"FORCE_COLOR": "1"}
    assert "\x1b[" in finish("check", racy, env=forced)[1]
    assert "\x1b[3" not in finish("check", racy, env={**forced, "NO_COLOR": "1"})[1]


def test_info_as_json_names_the_gpu_or_the_reason():
    status, out, err = finish("info", "--json")
    facts = json.loads(out)
    assert (status, err) == (0, "")
    assert facts["forerun"] == __version__
    assert bool(facts["gpus"]) != bool(facts["no_gpu_reason"])
    assert "reference" in facts["targets"]
    assert "insert-pdl" in facts["passes"]


def test_info_is_readable_at_80_columns():
    status, out, _ = finish("info")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "gpu" in out


def test_completion_is_offered():
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    status, out, _ = finish("--show-completion", "bash", env=named)
    assert status == 0
    assert "_FORERUN_COMPLETE=complete_bash" in out


def test_completion_of_commands():
    environment = {"_FORERUN_COMPLETE": "complete_bash", "COMP_WORDS": "forerun ch", "COMP_CWORD": "1"}
    code = "import sys; from forerun.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.stdout.split() == ["check"]


def test_option_names_are_lower_case():
    """Some versions of typer take a metavar that is the name in capitals for the name."""
    commands = typer.main.get_command(app).commands
    names = {name for command in commands.values() for parameter in command.params for name in parameter.opts}
    assert "--target" in names
    assert [name for name in names if name.startswith("--") and name != name.lower()] == []


def test_an_interrupt_while_modules_are_imported_is_no_traceback():
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from forerun.cli import main\n"
        "sys.exit(main(['info']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ninterrupted\n")


SLOW_PASS = """
import time
from dataclasses import dataclass
from forerun.passes.infra.base import Pass
from forerun.passes.infra.registry import register

@register
@dataclass(frozen=True)
class Slow(Pass):
    "Waits."
    name = "slow"

    def apply(self, graph, context):
        open("began", "w").close()
        time.sleep(60)
        return graph
"""


def test_an_interrupt_while_a_pass_runs_is_in_the_summary(good, tmp_path):
    (tmp_path / "slow_pass.py").write_text(SLOW_PASS)
    process = start("opt", good, "--load", "slow_pass.py", "-p", "slow", "--dump", "d", "--json", cwd=tmp_path)
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err.strip()) == (130, "interrupted")
    assert json.loads(out) == {"status": "interrupted", "exit_status": 130}
    assert json.loads((tmp_path / "d" / "summary.json").read_text())["status"] == "interrupted"


def test_progress_is_shown_on_a_terminal_and_nowhere_else(good, tmp_path):
    (tmp_path / "slow_pass.py").write_text(SLOW_PASS.replace("sleep(60)", "sleep(1.5)").replace("began", "/dev/null"))
    arguments = "opt", good, "--load", tmp_path / "slow_pass.py", "-p", "slow", "-o", tmp_path / "out.fir"
    status, shown = on_terminal(*arguments)
    assert status == 0
    assert "slow, and its checks" in shown
    assert "0/1" in shown
    assert finish(*arguments) == (0, "", "")
    assert "slow" not in on_terminal(*arguments, "--json")[1].partition("{")[0]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("forerun opt -p exact,insert", ["exact,insert-pdl"]),
        ("forerun opt -p fa", ["fast"]),
        ("forerun litmus --only L5", ["L5", "L5b"]),
        ("forerun fuzz --target re", ["reference"]),
        ("forerun check go", ["good.fir"]),
    ],
)
def test_completion_of_words(words, offered, good, tmp_path):
    environment = {"_FORERUN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    _, out, _ = finish(env=environment, cwd=tmp_path)
    assert out.split()[: len(offered)] == offered


@pytest.mark.parametrize(("command", "usage"), [("check", "FILE [AFTER]"), ("opt", "[FILE]"), ("report", "DIR")])
def test_help_names_arguments_as_manuals_do(command, usage):
    _, out, _ = finish(command, "--help")
    assert out.startswith(f"Usage: forerun {command} [OPTIONS] {usage}\n")
    assert "<str>" not in out
