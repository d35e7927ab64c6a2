"""The examples that need no more than the reference target run, on the tiny model where they want one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.tiny_gguf import write_tiny_gguf

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)


def test_decode(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path / "tiny.gguf")
    done = run("decode_smollm2.py", "the capital of France", "--model", str(model), "--new-tokens", "5")
    assert done.returncode == 0, done.stderr
    assert "tiny_10k_decode: 32 nodes" in done.stdout
    assert "the capital of France" in done.stdout
    assert "5 tokens" in done.stdout


def test_decode_without_the_file_says_so_without_a_traceback(tmp_path: Path) -> None:
    done = run("decode_smollm2.py", "--model", str(tmp_path / "none.gguf"))
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_write_a_graph() -> None:
    done = run("write_a_graph.py")
    assert done.returncode == 0, done.stderr
    assert "gate -> activate: programmatic, because of RAW %gated" in done.stdout
    assert "the result is that of the formula" in done.stdout
