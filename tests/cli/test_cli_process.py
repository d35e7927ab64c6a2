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


def start(*arguments, **options):
    environment = {**os.environ, "COLUMNS": "80", **options.pop("env", {})}
    # A shell that starts the tests in the background lets them ignore interrupts, and the command would inherit that.
    return subprocess.Popen(
        [sys.executable, "-m", "forerun", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def finish(*arguments, **options):
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


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
