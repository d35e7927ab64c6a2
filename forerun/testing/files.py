"""Counterexamples in files: the graph as ``.fir`` text, and in its leading comment how to see the failure again."""

from __future__ import annotations

import importlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from forerun.ir.demands import demands
from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph, print_graph
from forerun.ir.trust import is_own_function_module, vouch_in_scope
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.registry import loadable
from forerun.passes.instrument.reproducer import recorded_loads
from forerun.support.diagnostics import InvalidInput, did_you_mean
from forerun.support.files import write_whole
from forerun.support.version import __version__
from forerun.testing.counterexample import Counterexample
from forerun.testing.properties import PROPERTIES

__all__ = [
    "SavedCounterexample",
    "counterexample_text",
    "file_name",
    "load_strategy",
    "load_trusted",
    "read_counterexample",
    "replay_command",
    "save_counterexample",
]

_TITLE = "// forerun counterexample"
_FIELDS = re.compile(r"^// (version|replay|load|pipeline|property|finding): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class SavedCounterexample:
    """What a file of a counterexample says.

    ``loads`` are the modules and files that its passes and kernels need and that are not installed, for ``--load``.
    """

    graph: Graph
    pipeline: str
    property: str
    finding: str
    loads: tuple[str, ...] = ()


def save_counterexample(path: Path, found: Counterexample, pipeline: Pipeline) -> None:
    """Write a counterexample to a file.

    Raises:
        InvalidInput: If it cannot be written.
    """
    write_whole(path, counterexample_text(path, found, pipeline))


def counterexample_text(path: str | Path, found: Counterexample, pipeline: Pipeline) -> str:
    """What the file of a counterexample holds; ``path`` is the file's."""
    fields = {
        "version": __version__,
        "replay": replay_command(path, pipeline, found.before),
        "load": shlex.join(_loads(pipeline, found.before)),
        "pipeline": pipeline.portable_text,
        "property": found.property,
        "finding": " ".join(found.finding.split()),
    }
    lines = [_TITLE, *(f"// {key}: {value}" for key, value in fields.items() if value)]
    return "\n".join(lines) + "\n" + print_graph(found.before)


def read_counterexample(name: str, text: str) -> SavedCounterexample:
    """What :func:`save_counterexample` wrote; the name is for messages.

    Raises:
        InvalidInput: If it is not such a file, or the graph's text is wrong.
    """
    if not text.startswith(_TITLE + "\n"):
        hint = "forerun fuzz writes such files; forerun opt applies passes to any graph"
        raise InvalidInput(f"{name} is not a counterexample of forerun fuzz", hint=hint)
    after = re.search(r"^(?!//)", text, re.MULTILINE)
    comment = text if after is None else text[: after.start()]
    fields = dict(_FIELDS.findall(comment))
    missing = [key for key in ("pipeline", "property") if not fields.get(key)]
    if missing or fields["property"] not in PROPERTIES:
        raise InvalidInput(f"{name}: its comment names no {' and no '.join(missing or ['known property'])}")
    graph = parse_graph(text, name)
    loads = recorded_loads(fields.get("load", ""))
    return SavedCounterexample(graph, fields["pipeline"], fields["property"], fields.get("finding", ""), loads)


def replay_command(path: str | Path, pipeline: Pipeline, graph: Graph) -> str:
    """The shell command that replays a file, with all that its passes and the functions of its graph need."""
    loads = [word for argument in _loads(pipeline, graph) for word in ("--load", argument)]
    return shlex.join(["forerun", "fuzz", "--replay", str(path), *loads])


def _loads(pipeline: Pipeline, graph: Graph) -> tuple[str, ...]:
    modules = (demand.module for demand in demands(graph, sources=False))
    others = (loadable(module) for module in modules if module and not is_own_function_module(module))
    return tuple(dict.fromkeys([*pipeline.loads, *others]))


def file_name(pipeline: Pipeline) -> str:
    """A file name for a counterexample of a pipeline.

    Example:
        >>> file_name(Pipeline.parse("infer-dependencies,insert-pdl{trigger=end}"))
        'infer-dependencies-insert-pdl-trigger-end.counterexample.fir'
    """
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", str(pipeline)).strip("-.") or "nothing"
    return f"{stem[:80]}.counterexample.fir"


def load_trusted(name: str) -> Any:
    """A module that the user names, and so vouches for: graphs may call its functions from then on.

    Raises:
        InvalidInput: If it cannot be imported.
    """
    try:
        module: Any = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a foreign module raises
        raise InvalidInput(f"module '{name}' cannot be imported: {type(error).__name__}: {error}") from error
    vouch_in_scope(name)
    return module


def load_strategy(path: str) -> st.SearchStrategy[Graph]:
    """The strategy that ``module:name`` names: a Hypothesis strategy, or a function without arguments that returns one.

    Whoever names it vouches for its module: its graphs may call the functions of that module from then on.

    Raises:
        InvalidInput: If there is none.
    """
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise InvalidInput(f"'{path}' is not of the form module:name")
    module = load_trusted(module_name)
    found = getattr(module, name, None)
    if found is None:
        hint = did_you_mean(name, [key for key in vars(module) if not key.startswith("_")])
        raise InvalidInput(f"module '{module_name}' has no '{name}'", hint=hint)
    strategy = found() if callable(found) else found
    if not isinstance(strategy, st.SearchStrategy):
        raise InvalidInput(f"'{path}' is not a Hypothesis strategy, but a {type(strategy).__name__}")
    return strategy
