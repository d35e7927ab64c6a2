"""Counterexamples in files: the graph as ``.fir`` text, and in its leading comment how to see the failure again."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from forerun.ir.graph import Graph
from forerun.ir.text import parse_graph, print_graph
from forerun.passes.infra.pipeline import Pipeline
from forerun.support.diagnostics import InvalidInput
from forerun.support.files import write_whole
from forerun.support.version import __version__
from forerun.testing.counterexample import Counterexample
from forerun.testing.properties import PROPERTIES

__all__ = ["SavedCounterexample", "file_name", "read_counterexample", "replay_command", "save_counterexample"]

_TITLE = "// forerun counterexample"
_FIELDS = re.compile(r"^// (version|replay|pipeline|property|finding): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class SavedCounterexample:
    """What a file of a counterexample says.

    Attributes:
        graph: The graph.
        pipeline: Pipeline text.
        property: Which property broke.
        finding: What was wrong then.
        replay: The command that replays it, as the file says.
    """

    graph: Graph
    pipeline: str
    property: str
    finding: str
    replay: str = ""


def save_counterexample(path: Path, found: Counterexample, pipeline: Pipeline) -> None:
    """Write a counterexample to a file.

    Raises:
        InvalidInput: If it cannot be written.
    """
    fields = {
        "version": __version__,
        "replay": replay_command(path, pipeline),
        "pipeline": pipeline.portable_text,
        "property": found.property,
        "finding": " ".join(found.finding.split()),
    }
    lines = [_TITLE, *(f"// {key}: {value}" for key, value in fields.items())]
    write_whole(path, "\n".join(lines) + "\n" + print_graph(found.before))


def read_counterexample(name: str, text: str) -> SavedCounterexample:
    """What :func:`save_counterexample` wrote.

    Args:
        name: The file's name, for messages.
        text: Its text.

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
    return SavedCounterexample(
        graph, fields["pipeline"], fields["property"], *(fields.get(key, "") for key in ("finding", "replay"))
    )


def replay_command(path: Path, pipeline: Pipeline) -> str:
    """The shell command that replays a file."""
    loads = [word for argument in pipeline.loads for word in ("--load", argument)]
    return shlex.join(["forerun", "fuzz", "--replay", str(path), *loads])


def file_name(pipeline: Pipeline) -> str:
    """A file name for a counterexample of a pipeline.

    Example:
        >>> file_name(Pipeline.parse("infer-dependencies,insert-pdl{trigger=end}"))
        'infer-dependencies-insert-pdl-trigger-end.counterexample.fir'
    """
    stem = re.sub(r"[^A-Za-z0-9_.]+", "-", str(pipeline)).strip("-.") or "nothing"
    return f"{stem[:80]}.counterexample.fir"
