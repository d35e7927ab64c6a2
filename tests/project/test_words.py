"""The English of sentences, and imports that a linter does not see: names of modules in strings."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "benchmarks" / "NOTES.md",
]
MODULES = sorted((ROOT / "forerun").rglob("*.py"))

AVOIDED = {
    r"(?<!there )(?<!There )\bis no (?!longer\b)": "is not a",
    r"\b[Ss]o many\b": "how many, that many, or the parameter's name",
    r"\b[Tt]old of\b": "called with",
    r"\b[Ll]ikewise\b": "say it again",
    r"\banew\b": "again",
    r'^\s*"""Of (?!course)': "name what of it: the address of, bytes of, the version of",
    r"\b[Ll]icences?\b": "assumption",
}
"""Words that readers stumbled over, each with what says it better."""


def lines_with(pattern: str, path: Path) -> list[str]:
    """The lines of a file that match, with their place."""
    found = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return [f"{path.relative_to(ROOT)}:{n}: {line.strip()}" for n, line in found if re.search(pattern, line)]


@pytest.mark.parametrize("pattern", AVOIDED)
def test_words_that_read_badly_are_not_used(pattern: str) -> None:
    found = [line for path in (*MODULES, *PAGES) for line in lines_with(pattern, path)]
    assert found == [], f"better: {AVOIDED[pattern]}"


def floors() -> dict[str, int]:
    """The floor of each room, from the layers of pyproject.toml: higher ones may import lower ones."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["name"] == "layers")
    return {
        room.strip(" ()"): floor for floor, layer in enumerate(reversed(layers)) for room in re.split(r"[|:]", layer)
    }


NAMES_ONLY = {"forerun/ir/trust.py", "forerun/ir/fusion.py"}
"""Modules that compare names of modules, and import none of them."""


def names_of_modules(path: Path) -> Iterator[tuple[int, str]]:
    """The rooms that strings of a file name as modules, with their lines; docstrings aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            match = re.fullmatch(r"forerun\.(\w+)(\.\w+)*(:\w+)?", node.value)
            if match is not None:
                yield node.lineno, match[1]


def test_no_upward_dependency_hides_in_a_string() -> None:
    floor, upward = floors(), []
    for path in MODULES:
        name = path.relative_to(ROOT)
        own = floor.get(Path(name.parts[1]).stem)
        if own is not None and name.as_posix() not in NAMES_ONLY:
            upward += [f"{name}:{n}: {room}" for n, room in names_of_modules(path) if floor.get(room, -1) > own]
    assert upward == []


def test_the_rooms_are_those_of_the_contract() -> None:
    rooms = {path.stem if path.is_file() else path.name for path in (ROOT / "forerun").iterdir()}
    assert rooms - {"__init__", "__main__", "__pycache__", "py"} == set(floors())
