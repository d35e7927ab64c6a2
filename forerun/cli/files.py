"""Reading graphs and writing results: every way that a file can be wrong has a message."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from forerun.cli.boundary import drawing
from forerun.cli.console import write_result

if TYPE_CHECKING:
    from forerun.ir.graph import Graph
    from forerun.ir.text import SourceMap

__all__ = ["read_graph", "read_text", "write_text"]

STANDARD = "-"
"""The file name that stands for standard input and standard output."""


def read_text(name: str) -> str:
    """The text of a file, or of standard input.

    Raises:
        InvalidInput: If it cannot be read, or is not UTF-8.
    """
    from forerun.support.diagnostics import InvalidInput

    path = Path(name)
    if name != STANDARD and not path.exists():
        raise InvalidInput(f"{name}: no such file", hint=_siblings(path))
    if name != STANDARD and path.is_dir():
        raise InvalidInput(f"{name} is a folder, not a file", hint=_inside(path))
    data = sys.stdin.buffer.read() if name == STANDARD else path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{_shown(name)}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})") from error


def read_graph(name: str, *, verbose: bool = False) -> tuple[Graph, SourceMap]:
    """The graph of a ``.fir`` file or of standard input, and where its elements stand in its text.

    Args:
        name: The file's name.
        verbose: Whether all errors are drawn, however many there are.

    Raises:
        InvalidInput: If it cannot be read, or the text is wrong; the places are drawn.
    """
    from forerun.ir.text import parse_graph_with_locations

    text = read_text(name)
    with drawing(text, verbose=verbose):
        return parse_graph_with_locations(text, _shown(name))


def write_text(name: str, text: str) -> None:
    """Write a result: whole or not at all if it is a file.

    Raises:
        InvalidInput: If it cannot be written.
    """
    from forerun.support.files import write_whole

    path = Path(name)
    if name == STANDARD:
        write_result(text)
    elif path.exists() and not path.is_file() and not path.is_dir():
        path.write_text(text, encoding="utf-8")  # a device or a pipe cannot be replaced
    else:
        write_whole(path, text)


def _shown(name: str) -> str:
    return "<stdin>" if name == STANDARD else name


def _siblings(path: Path) -> str:
    from forerun.support.diagnostics import closest

    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    match = closest(path.name, names)
    return f"did you mean '{path.with_name(match)}'?" if match else ""


def _inside(path: Path) -> str:
    graphs = sorted(p.name for p in path.glob("*.fir"))
    return f"it holds {', '.join(graphs[:4])}{', ...' if len(graphs) > 4 else ''}" if graphs else ""
