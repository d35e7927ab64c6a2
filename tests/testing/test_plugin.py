"""``pytest --forerun-pass`` as a user runs it: in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLUGIN = [] if entry_points(group="pytest11", name="forerun") else ["-p", "forerun.testing.plugin"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--strict-markers --strict-config"\n')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-W", "error", "-m", "pytest", *PLUGIN, "-v", "--hypothesis-seed=0", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_right_wrong_and_silent_passes(tmp_path):
    passes = [
        "tests.wrong.passes.insert_pdl.never_waits",
        "insert-pdl{trigger=end}",
        "tests.testing.aims:Nothing",
        "exact",
    ]
    arguments = [word for name in passes for word in ("--forerun-pass", name)]
    done = run(tmp_path, *arguments, "--forerun-examples", "12", "--forerun-graphs", "tests.testing.aims:streams")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = set(re.findall(r"^FAILED \S*::(\S+\[.*?\])", done.stdout, re.MULTILINE))
    assert failed == {
        "test_property[tests.wrong.passes.insert_pdl.never_waits-refines]",
        "test_property[tests.wrong.passes.insert_pdl.never_waits-same-outputs]",
        "test_fires[tests.testing.aims:Nothing]",
    }
    assert "changed none of 12 random graphs" in done.stdout
    assert re.search(r"insert-pdl\{trigger=end\}: changed \d+ of 84 graphs", done.stdout)
    assert "exact-idempotent] SKIPPED" in done.stdout
    replay = re.search(r"forerun fuzz --replay (\S+refines.fir) --load tests.wrong.passes.insert_pdl", done.stdout)
    assert replay is not None
    assert "\nnode #n1 = " in Path(replay[1]).read_text()

    # The next run tries the kept counterexample first: one example is enough.
    again = run(tmp_path, "--forerun-pass", passes[0], "-k", "refines", "--forerun-examples", "1")
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 failed" in again.stdout


def test_the_counts_of_all_processes_are_added_up(tmp_path):
    pytest.importorskip("xdist")
    arguments = ["--forerun-pass", "reduce-edges", "--forerun-pass", "insert-pdl", "--forerun-examples", "2"]
    done = run(tmp_path, *arguments, "-n", "2", "-k", "refines or roundtrip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    summary = re.findall(r"^(\S+): changed \d+ of (\d+) graphs", done.stdout, re.MULTILINE)
    assert summary == [("insert-pdl", "4"), ("reduce-edges", "4")]


def test_it_is_inert_and_adds_to_paths_that_are_given(tmp_path):
    (tmp_path / "test_own.py").write_text(
        "import sys\ndef test_own(request):\n"
        "    asked = bool(request.config.getoption('forerun_pass'))\n"
        "    assert ('forerun.testing.suite' in sys.modules) == asked\n"
    )
    assert "1 passed" in run(tmp_path).stdout
    both = run(
        tmp_path, "test_own.py", "--forerun-pass", "reduce-edges", "--forerun-examples", "2", "-k", "own or valid"
    )
    assert "2 passed" in both.stdout, both.stdout + both.stderr


def test_unknown_passes_are_usage_errors(tmp_path):
    done = run(tmp_path, "--forerun-pass", "insert-pld")
    assert done.returncode == 4
    assert "did you mean 'insert-pdl'?" in done.stderr
    assert (
        "has no 'stream'"
        in run(tmp_path, "--forerun-pass", "insert-pdl", "--forerun-graphs", "tests.testing.aims:stream").stderr
    )


def test_graphs_may_call_functions_of_the_modules_that_the_options_name(tmp_path):
    (tmp_path / "own_functions.py").write_text("def same(x):\n    return x\n")
    (tmp_path / "own_graphs.py").write_text(
        "from hypothesis import strategies as st\nfrom forerun.ir.text import parse_graph\n"
        "from tests.trust.traps import phase_graph\n\n"
        "def same(x):\n    return x\n\n"
        "def own():\n    return st.just(parse_graph(phase_graph('own_graphs:same')))\n\n"
        "def others():\n    return st.just(parse_graph(phase_graph('own_functions:same')))\n"
    )
    always = ["--forerun-pass", "reduce-edges", "--forerun-examples", "2", "-k", "same-outputs", "--forerun-graphs"]
    assert run(tmp_path, *always, "own_graphs:own").returncode == 0
    refused = run(tmp_path, *always, "own_graphs:others")
    assert refused.returncode == 1
    assert "nobody vouched for: own_functions" in refused.stdout
    assert run(tmp_path, *always, "own_graphs:others", "--forerun-load", "own_functions").returncode == 0
    assert run(tmp_path, *always, "own_graphs:own", "--forerun-load", "no_such_module").returncode == 4
