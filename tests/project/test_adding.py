"""What CONTRIBUTING.md says that a pass, a kernel and a kind of node take: one of each is added to a copy of the tree.

``added/`` holds the files of the pass and of the kernel, where they would lie. Nothing else is changed, and the
registry, the laws, the tests of kernels, the pages and mutation testing find them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.kernels.on_cpu.runner import COMPILER

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ADDED = Path(__file__).with_name("added")
LIMITS = {"pass": (3, 60), "kernel": (2, 45)}
"""Files and lines at most."""


def files_of(kind: str) -> list[Path]:
    """The files of the example of a kind."""
    files = [path for path in sorted(ADDED.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return [path for path in files if ("kernels" in path.parts) == (kind == "kernel")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the examples in it."""
    folder = tmp_path_factory.mktemp("tree")
    unwanted = shutil.ignore_patterns("__pycache__", "added", "results")
    for name in ("forerun", "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(ADDED, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def passed(folder: Path, words: str, *paths: str) -> set[str]:
    """The tests that passed, of those that are about something; no other may fail."""
    options = "-p", "no:cacheprovider", "--hypothesis-profile=quick", "-rA", "-q", "-k", words
    done = run(folder, "-m", "pytest", *options, *paths)
    assert done.returncode == 0, done.stdout[-3000:]
    return set(re.findall(r"^PASSED tests/(\S+)", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("kind", LIMITS)
def test_counts_are_those_of_contributing(kind: str) -> None:
    files, lines = LIMITS[kind]
    found = files_of(kind)
    assert len(found) == files
    assert sum(len(path.read_text().splitlines()) for path in found) <= lines
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"{files} files and {lines} lines" in " ".join(text.split())


def test_a_pass_is_found_by_all_that_is_about_passes(tree: Path) -> None:
    words = "drop-implied-full or takes-any-path or every_pass_has"
    found = passed(tree, words, "tests/passes", "tests/wrong/test_wrong.py", "tests/testing/test_grammar_coverage.py")
    assert found >= {
        "passes/test_cases.py::test_case[drop-implied-full/three]",
        "passes/test_cases.py::test_every_pass_has_cases",
        "passes/test_laws.py::test_laws[drop-implied-full]",
        "passes/test_bodies.py::test_laws_in_bodies[drop-implied-full]",
        "wrong/test_wrong.py::test_every_pass_has_a_wrong_one",
        "wrong/test_wrong.py::test_wrong_pass_is_killed[takes-any-path-for-full]",
        "testing/test_grammar_coverage.py::test_every_pass_runs_on_every_construct[drop-implied-full]",
    }


def test_a_pass_can_be_used_and_is_listed(tree: Path) -> None:
    listed = run(tree, "-m", "forerun", "opt", "--list-passes")
    assert "drop-implied-full" in listed.stdout, listed.stderr
    graph = "tests/cases/reduce-edges/child.in.fir"
    used = run(tree, "-m", "forerun", "opt", graph, "-p", "exact,drop-implied-full")
    assert used.returncode == 0, used.stderr
    pages = run(tree, "-c", "import docs.site_lists as lists; print(lists.passes_page(), lists.kernels_page())")
    assert "| `drop-implied-full` | Drops full dependencies that paths of full ones imply. |" in pages.stdout
    assert "| `scaled_add` |" in pages.stdout, pages.stderr
    mutated = "from benchmarks.mutation import modules; print(*modules())"
    assert "passes/drop_implied_full.py" in run(tree, "-c", mutated).stdout


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_a_kernel_is_found_by_all_that_is_about_kernels(tree: Path) -> None:
    found = passed(tree, "scaled_add", "tests/kernels")
    for name in (
        "test_declarations.py::test_phases_name_declared_parameters_and_earlier_locals",
        "test_declarations.py::test_cuda_source_of_every_kernel_defines_its_phases",
        "test_launches_on_cpu.py::test_values_are_those_of_numpy_in_every_launch",
        "test_launches_on_cpu.py::test_other_launches_are_refused",
    ):
        assert f"kernels/{name}[scaled_add]" in found
    for size in (37, 64):
        assert f"kernels/test_cuda_on_cpu.py::test_values_are_those_of_numpy[scaled_add-{size}]" in found
        assert (
            f"kernels/test_cuda_values.py::test_the_graphs_compute_this_on_the_reference_target[scaled_add-{size}]"
            in (found)
        )


KIND = '''
@dataclass(frozen=True, slots=True)
class ProbeNode:
    """A kind that nobody knows yet."""

    name: str
    place: Place = DEVICE0


Node: TypeAlias = (
    ProbeNode
    | '''
KNOW_ALL_KINDS = {
    "ir/demands.py",
    "ir/semantics/access.py",
    "ir/text/lines.py",
    "ir/text/printer.py",
    "ir/verify/nodes.py",
    "ir/walk.py",
    "report/drawing.py",
    "runtime/cuda/emit/emitter.py",
    "runtime/reference/operations.py",
}
"""Where every kind of node must be thought of."""


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_a_kind_of_node_that_is_forgotten_fails_the_type_check(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "forerun", tmp_path / "forerun", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    nodes = tmp_path / "forerun" / "ir" / "nodes.py"
    nodes.write_text(nodes.read_text().replace("\nNode: TypeAlias = (\n    ", KIND))
    done = run(tmp_path, "-m", "mypy", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"))
    errors = [line for line in done.stdout.splitlines() if "ProbeNode" in line and ": error: " in line]
    assert {line.partition(":")[0].removeprefix("forerun/") for line in errors} >= KNOW_ALL_KINDS, done.stdout
