"""Graphs in files: the text form, written whole, and read from regular files only."""

from __future__ import annotations

import os
from pathlib import Path

from forerun.ir import text
from forerun.ir.demands import demands
from forerun.ir.graph import Graph
from forerun.ir.text.spelling import MAX_TEXT
from forerun.ir.trust import MAIN, main_name
from forerun.support.diagnostics import InvalidInput, closest
from forerun.support.files import read_regular, write_whole

__all__ = ["load", "save"]


def load(path: str | Path) -> Graph:
    """The graph of a ``.fir`` file, as :meth:`Graph.save` and the commands write it.

    It is not verified; :func:`forerun.compile` does that. Nothing that it names is imported: to run functions of
    modules that are not forerun's, say ``compile(..., trust=[module])``.

    Raises:
        InvalidInput: If it cannot be read, or is malformed: each error with its line and column.
    """
    file = _path(path)
    if not file.exists():
        names = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        match = closest(file.name, names)
        raise InvalidInput(f"{file}: no such file", hint=f"did you mean '{file.with_name(match)}'?" if match else "")
    return text.parse_graph(read_regular(file, most=4 * MAX_TEXT), str(file))


def save(graph: Graph, path: str | Path) -> Path:
    """Write the text form of a graph; whole, or not at all.

    Returns:
        The path.

    Raises:
        InvalidInput: If it cannot be written, or the graph names functions that no other program could find.
    """
    lost = next((demand for demand in demands(graph) if demand.module == MAIN), None)
    if lost is not None:
        message = f"graph '{graph.name}' cannot be saved: {lost.where} names {lost.text}, which only this program has"
        name = main_name()
        hint = f"write {name}:{lost.text.partition(':')[2]}" if name != MAIN else "define it in a file, and import that"
        raise InvalidInput(message, hint=hint)
    file = _path(path)
    write_whole(file, text.print_graph(graph))
    return file


def _path(path: str | Path) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInput(f"a file is named by its path, not by {type(path).__name__}", hint='such as "graph.fir"')
    return Path(path)
