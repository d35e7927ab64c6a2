"""The notebooks: their code runs, and the outputs that they hold are those of today (where nbclient is installed)."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from tests.documents import ROOT, environment

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))


def run(command, folder):
    options = {"cwd": folder, "env": environment(folder), "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, *command], timeout=300, **options)
    assert done.returncode == 0, done.stderr


def cells(path):
    """Sources and outputs: what a reader sees."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], cell["source"], cell.get("outputs")) for cell in found]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_the_code_runs(notebook, tmp_path):
    code = ["".join(source) for kind, source, _ in cells(notebook) if kind == "code"]
    assert code
    (tmp_path / "cells.py").write_text("\n".join(code), encoding="utf-8")
    run(["cells.py"], tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("nbclient") is None, reason="needs nbclient: pip install '.[docs]'")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_the_outputs_are_current(notebook, tmp_path, request):
    executed = tmp_path / notebook.name
    run([ROOT / "docs" / "execute_notebook.py", notebook, executed], tmp_path)
    if request.config.getoption("--bless"):
        shutil.copy(executed, notebook)
    message = f"{notebook.name} is out of date; if the change is meant: pytest tests/project --bless"
    assert cells(executed) == cells(notebook), message


def test_there_are_notebooks():
    assert [notebook.stem for notebook in NOTEBOOKS] == ["first-graph"]
