"""Every example runs on the reference target; with the tiny model where it wants one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SAYS = {
    "hello.py": r"1.e\+00 2.e\+01 3.e\+02 4.e\+03",
    "write_a_graph.py": "gate -> activate: programmatic, because of RAW %gated",
    "own_kernel.py": "the second kernel's steps: load, wait, scale",
    "own_family.py": "6 items, 3 of them splits",
    "own_pass.py": "the sum starts late, the projection after it early",
    "own_fusion_rule.py": r"nodes: \['sum.fused'\]; proved",
    "property_test.py": "no counterexample",
    "tuning.py": "changes were tried",
    "dlpack_torch.py": "skipped: |tensors of torch were read and written in place",
}
WITH_ARGUMENTS = {"decode_smollm2.py", "check_in_ci.py"}


def run(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    options = {"capture_output": True, "text": True, "env": environment, "cwd": folder, "check": False}
    return subprocess.run(command, timeout=600, **options)


def test_every_example_is_run() -> None:
    assert {path.name for path in ROOT.glob("examples/*.py")} == SAYS.keys() | WITH_ARGUMENTS


@pytest.mark.parametrize("script", SAYS)
def test_example(script: str, tmp_path: Path) -> None:
    done = run(script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[script], done.stdout), done.stdout


def test_decode(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    prompt = "the capital of France"
    done = run("decode_smollm2.py", prompt, "--model", str(model), "--new-tokens", "5", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiny_10k_decode: 32 nodes" in done.stdout
    assert prompt in done.stdout
    assert "5 tokens" in done.stdout


def test_decode_without_the_file_says_so_without_a_traceback(tmp_path: Path) -> None:
    done = run("decode_smollm2.py", "--model", "none.gguf", folder=tmp_path)
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_in_ci(tmp_path: Path) -> None:
    assert run("check_in_ci.py", "--approve", folder=tmp_path).returncode == 0
    same = run("check_in_ci.py", folder=tmp_path)
    assert (same.returncode, same.stdout) == (0, "approved.fir: proved\n")
    racy = run("check_in_ci.py", "--forget", folder=tmp_path)
    assert racy.returncode == 1
    assert "'sum' reads %partial" in racy.stdout
    assert "add a full dependency 'project' -> 'sum'" in racy.stdout


def test_check_in_ci_finds_another_meaning(tmp_path: Path) -> None:
    assert run("check_in_ci.py", "--approve", folder=tmp_path).returncode == 0
    approved = tmp_path / "approved.fir"
    text = approved.read_text().replace("a=%x, b=%partial", "a=%partial, b=%x")
    assert text != approved.read_text()
    approved.write_text(text)
    other = run("check_in_ci.py", folder=tmp_path)
    assert other.returncode == 1
    assert "approved.fir: " in other.stdout
