"""Files of commands: graphs, results, modules that are loaded, and the folders of dumps.

Every way that a file can be wrong has a message.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterable
from importlib.machinery import PathFinder
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from forerun.cli.console import error_console, print_plain, write_result
from forerun.cli.errors import drawing

if TYPE_CHECKING:
    from forerun.frontends.captured import ImportedGraph
    from forerun.ir.graph import Graph
    from forerun.ir.text import SourceMap

__all__ = [
    "KEPT_RUNS",
    "STANDARD",
    "imported_capture",
    "is_capture",
    "is_dot",
    "load_modules",
    "load_what_a_file_needs",
    "new_run_folder",
    "read_graph",
    "read_text",
    "refuse_dot",
    "require_one_result",
    "write_text",
]

STANDARD = "-"
"""The file name that stands for standard input and standard output."""


def read_text(name: str) -> str:
    """The text of a file, or of standard input.

    Raises:
        InvalidInput: If it cannot be read, or is not UTF-8.
    """
    from forerun.support.diagnostics import InvalidInput

    path = Path(name)
    if not name:
        raise InvalidInput("the name of a file is empty", hint="'-' is standard input")
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
    """The graph of a ``.fir`` or DOT file, of a captured graph's folder or of standard input, and where its parts are.

    Raises:
        InvalidInput: If it cannot be read, or the text is wrong; the places are drawn.
    """
    from forerun.ir.text import parse_graph_with_locations

    text = _captured_text(name) if is_capture(name) or is_dot(name) else read_text(name)
    with drawing(text, verbose=verbose):
        return parse_graph_with_locations(text, _shown(name))


def is_capture(name: str) -> bool:
    """Whether it is the folder of a captured graph."""
    return (Path(name) / "capture.json").is_file()


def is_dot(name: str) -> bool:
    """Whether it is a DOT file by its name: a drawing of a CUDA graph."""
    return Path(name).suffix in (".dot", ".gv") and not Path(name).is_dir()


def refuse_dot(*names: str) -> None:
    """Refuse DOT files where more than the structure of a graph is needed.

    Raises:
        InvalidInput: If one is named.
    """
    from forerun.support.diagnostics import InvalidInput

    for name in filter(is_dot, names):
        hint = "save the captured graph as a folder: forerun.capture() sees what a DOT file does not hold"
        raise InvalidInput(f"{name}: a DOT file holds nodes and edges, and not what kernels do", hint=hint)


def _captured_text(name: str) -> str:
    """What a captured graph means, as text."""
    from forerun.captured.dot import captured_from_dot
    from forerun.frontends.captured import import_capture
    from forerun.ir.text import print_graph

    if not is_dot(name):
        return print_graph(imported_capture(name).graph)
    captured = captured_from_dot(read_text(name), name)
    print_plain(error_console(), *captured.remarks)
    return print_graph(import_capture(captured).graph)


def imported_capture(folder: str) -> ImportedGraph:
    """The captured graph of a folder, with its meaning.

    Raises:
        InvalidInput: If the folder cannot be read.
    """
    from forerun.captured import load_capture
    from forerun.frontends.captured import import_capture

    return import_capture(load_capture(folder))


def require_one_result(*outputs: str | None, as_json: bool) -> None:
    """Refuse a command line that asks for two results on standard output.

    Raises:
        InvalidInput: If it does.
    """
    from forerun.support.diagnostics import InvalidInput

    if [*outputs, STANDARD if as_json else None].count(STANDARD) > 1:
        raise InvalidInput("two results cannot both go to standard output", hint="name files for all but one of them")


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
    if graphs:
        return f"it holds {', '.join(graphs[:4])}{', ...' if len(graphs) > 4 else ''}"
    return "the folder of a captured graph has a file capture.json"


KEPT_RUNS = 20
"""How many of the latest runs stay in the cache folder."""

_RUN_NAME = re.compile(r"\d{8}-\d{6}-[\w.-]+-\d+")


def new_run_folder(label: str) -> Path:
    """A new folder among the runs of the cache folder; in the folder for temporary files if that cannot be written.

    Removes the oldest runs.
    """
    from forerun.runtime.cache_folder import cache_folder

    runs = cache_folder() / "runs"
    stem = re.sub(r"[^\w.-]+", "_", label)[:40] or "run"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}-{os.getpid()}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = _made(runs, name)
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"forerun-{stem}-"))
    _remove_old(runs)
    return folder


def _made(runs: Path, name: str) -> Path:
    """A new folder of that name, numbered where another thread of this process has it already."""
    for number in count():
        folder = runs / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there are infinitely many numbers")


def _remove_old(runs: Path) -> None:
    """Remove all but the latest; their names begin with the time."""
    found = sorted(path for path in runs.iterdir() if path.is_dir() and _RUN_NAME.fullmatch(path.name))
    for path in found[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)


def load_modules(names: Iterable[str]) -> None:
    """Import modules by name (the current folder counts) or by the path of a ``.py`` file, and vouch for them.

    The path of a kernel's source is vouched for, and not imported.

    Raises:
        InvalidInput: If one cannot be imported.
    """
    from forerun.ir.trust import SOURCE_SUFFIXES, vouch_in_scope
    from forerun.support.diagnostics import ForerunError, InvalidInput

    for name in names:
        if name.endswith(SOURCE_SUFFIXES):
            if not Path(name).is_file():
                raise InvalidInput(f"--load {name}: no such file")
            vouch_in_scope(Path(name))
            continue
        try:
            vouch_in_scope(_load_file(Path(name)) if name.endswith(".py") else _load_module(name))
        except ForerunError:
            raise
        except (Exception, SystemExit) as error:  # whatever a foreign module raises
            raise InvalidInput(f"--load {name}: {type(error).__name__}: {error}") from error


def load_what_a_file_needs(who: str, names: Collection[str], recorded: Collection[str], *, may_ask: bool) -> None:
    """Ask on a terminal whether to load the modules that a file names; elsewhere nothing is loaded.

    ``names`` are what it names and nobody vouched for, as ``module:name``; ``recorded`` the modules and files
    that it says they are of.

    Raises:
        InvalidInput: If one cannot be imported.
    """
    from forerun.passes.infra.pipeline import loads_for

    loads = loads_for(names, recorded)
    if not (loads and may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
        return
    print_plain(error_console(), f"{who} needs code of {', '.join(loads)}, which is imported if you say so.")
    sys.stderr.write("import it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        load_modules(loads)


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        # Last: what is imported later, by us or by others, must not be found here instead of where it is installed.
        sys.path.append(here)
    top = name.partition(".")[0]
    found = PathFinder.find_spec(top, [here]) if top not in sys.modules else None
    if found is not None and found.loader is not None:
        module = sys.modules[top] = importlib.util.module_from_spec(found)
        try:
            found.loader.exec_module(module)
        except BaseException:
            del sys.modules[top]
            raise
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
