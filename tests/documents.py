"""The fenced blocks of the pages, and the folder that each page's blocks run in.

A block with a file's name as its title, ```python title="small.py", is that file; the others find it beside them. A
``sh`` block without a title is run; with one, it says what it needs ("needs a GPU") or how it ends ("exit status 1").
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Block", "blocks", "environment", "write_files"]

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "tests" / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]

_FENCE = re.compile(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title, its text, and the line of its page on which it begins."""

    language: str
    title: str
    code: str
    line: int

    @property
    def is_file(self) -> bool:
        return "." in self.title


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, in order; in all, if none is named."""
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1], m[2] or "", m[3], text.count("\n", 0, m.start()) + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def write_files(page: Path, folder: Path) -> None:
    """Write the blocks that are files."""
    for block in blocks(page):
        if block.is_file:
            (folder / block.title).write_text(block.code, encoding="utf-8")


def environment(folder: Path) -> dict[str, str]:
    """What a reader's shell has: the commands on the path, this repository's package, and a cache of its own."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "FORERUN_CACHE_DIR": str(folder / "cache"), "NO_COLOR": "1"}
    return {**os.environ, **own}
