"""How large the house is, and what an addition takes: lines, files, circles of imports, and the examples of the tests.

Lines are those of product code: Python in ``forerun``, and CUDA C++ beside it. A circle is a set of modules that import
each other, directly or not; imports within functions count, imports for type checks do not. What a pass and a kernel
take is counted on the examples in ``tests/project/added``, which ``tests/project/test_adding.py`` adds to a copy.

Run from the repository's root: ``python -m benchmarks.house``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import networkx as nx

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import Metric, write_result

from tests.project.test_adding import files_of

__all__ = ["circles", "lines_of"]

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "forerun"


def lines_of(files: Iterable[Path]) -> int:
    """All lines, blank ones and comments too."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def circles() -> list[list[str]]:
    """The sets of modules that import each other, each sorted by name."""
    modules = {_name(path): path for path in HOUSE.rglob("*.py")}
    graph = nx.DiGraph((name, found) for name, path in modules.items() for found in _imports(path, set(modules)))
    return sorted(sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1)


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, modules: set[str]) -> Iterator[str]:
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in inner if node.module in modules)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, but not what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _executed(child)


def main() -> None:
    """Count, and write benchmarks/results/house.json."""
    python = sorted(HOUSE.rglob("*.py"))
    cuda = sorted([*HOUSE.rglob("*.cu"), *HOUSE.rglob("*.cuh")])
    found = circles()
    counts = {
        "house.lines": (lines_of(python), "lines"),
        "house.cuda_lines": (lines_of(cuda), "lines"),
        "house.files": (len(python), "files"),
        "house.circles": (len(found), "circles"),
    }
    for kind in ("pass", "kernel"):
        files = files_of(kind)
        counts[f"house.{kind}_files"] = len(files), "files"
        counts[f"house.{kind}_lines"] = lines_of(files), "lines"
    metrics = {name: Metric(count, unit, count, count) for name, (count, unit) in counts.items()}
    write_result("house", metrics, details={"circles": found})


if __name__ == "__main__":
    main()
