"""Reproducers: one file that holds all that is needed to see a failure again."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from forerun.ir.text import print_graph
from forerun.passes.infra.failure import PassFailure, opt_command
from forerun.passes.infra.pipeline import Pipeline
from forerun.passes.infra.run import PassRun, PipelineRun
from forerun.passes.instrument.base import Instrument
from forerun.support.files import require_writable_folder, write_whole
from forerun.support.version import __version__

__all__ = ["Reproducer", "Reproduction", "parse_reproducer", "recorded_loads"]

_TITLE = "// forerun reproducer"
_LEADING_COMMENTS = re.compile(r"(?://[^\n]*\n)*")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What the comments at the top of a reproducer say.

    Attributes:
        version: The version of forerun that failed.
        pipeline: Pipeline text: the pass that failed. The file's graph is the one that it got.
        loads: The modules and files that define the pass and are not installed, for ``--load``.
    """

    version: str
    pipeline: str
    error: str
    rerun: str
    loads: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The comment lines."""
        error = "\n//   ".join(self.error.splitlines())
        fields = {"version": self.version, "pipeline": self.pipeline, "error": error, "rerun": self.rerun}
        if self.loads:
            fields["load"] = shlex.join(self.loads)
        return "\n".join((_TITLE, *(f"// {key}: {value}" for key, value in fields.items()))) + "\n"


class Reproducer(Instrument):
    """Writes a reproducer when a pass fails: ``forerun opt FILE`` then applies the pass to the graph that it got.

    Args:
        path: The file to write; by default ``03-pass.reproducer.fir`` in the dump folder, and nothing without one.
    """

    order: ClassVar[int] = -10  # before the dump, whose summary names the file

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)

    def before_pipeline(self, run: PipelineRun) -> None:
        """Check the folder before any work is done."""
        if self.path is not None:
            require_writable_folder(self.path.absolute().parent)

    def pass_failed(self, run: PipelineRun, step: PassRun, failure: PassFailure) -> None:
        """Write the file."""
        path = self.path
        if path is None and run.summary.dump is not None:
            path = run.summary.dump / f"{run.number(step.ordinal)}-{step.subject.name}.reproducer.fir"
            run.summary.files.append(path.name)
        if path is None:
            return
        error = "\n".join([failure.headline, *map(str, failure.diagnostics)])
        alone = Pipeline([step.subject])
        command = opt_command(path, alone, with_pipeline=False)
        header = Reproduction(__version__, alone.portable_text, error, command, alone.loads).to_text()
        write_whole(path, header + _graph_text(run, step))
        run.reproducer = path


def parse_reproducer(text: str) -> Reproduction | None:
    """What the comments at the top of a file say, or ``None`` if it is not a reproducer.

    Example:
        >>> text = Reproduction("0.1.0", "reduce-edges", "it raised KeyError: 'x'", "forerun opt a.fir").to_text()
        >>> parse_reproducer(text + "graph g {}").pipeline
        'reduce-edges'
    """
    if not text.startswith(_TITLE + "\n"):
        return None
    found = _LEADING_COMMENTS.match(text)
    lines = found.group().split("\n")[1:] if found else []
    fields: dict[str, str] = {}
    key = ""
    for line in lines:
        if line.startswith("//   ") and key:
            fields[key] += "\n" + line[5:]
        elif ": " in line:
            key, _, value = line[3:].partition(": ")
            fields[key] = value
    version, pipeline, error, rerun = (fields.get(name, "") for name in ("version", "pipeline", "error", "rerun"))
    return Reproduction(version, pipeline, error, rerun, recorded_loads(fields.get("load", "")))


def recorded_loads(text: str) -> tuple[str, ...]:
    """The modules and files that the header of a reproducer or a counterexample records; none if it is garbled."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return ()


def _graph_text(run: PipelineRun, step: PassRun) -> str:
    """The graph as dumped before the pass: a pass that changes its input in place has spoilt the one in memory."""
    dumped = run.file_before(step.ordinal)
    return print_graph(step.before) if dumped is None else dumped.read_text(encoding="utf-8")
