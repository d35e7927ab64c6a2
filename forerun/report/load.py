"""Reads a dump folder: ``summary.json``, and the graphs and diffs that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from forerun.ir.graph import Graph
from forerun.report.dump_files import SUMMARY_FILE
from forerun.report.findings import Finding, read_finding
from forerun.support.diagnostics import InvalidInput
from forerun.support.files import read_regular
from forerun.support.json_reader import JsonObject, read_json

__all__ = ["Dump", "PassDump", "load_dump"]

SCHEMA = 1
MAX_BYTES = 1 << 27
"""The largest graph or diff that is read; the text form allows half of it, and a diff shows two graphs."""
_HOW = "name a folder that --dump wrote"


@dataclass(frozen=True)
class PassDump:
    """One pass of a dumped run; the fields are those of its record in the summary."""

    ordinal: int
    name: str
    text: str
    seconds: float
    verification_seconds: float
    nodes: int
    dependencies: Mapping[str, int]
    statistics: Mapping[str, int]
    verdict: str
    changed: bool
    remarks: tuple[str, ...]
    graph_file: str
    diff_file: str
    findings: tuple[Finding, ...] = ()
    finding_count: int = 0


@dataclass(frozen=True)
class Dump:
    """A dumped run.

    ``status`` is ``ok``, ``failed`` or ``running``; ``input`` is what came in, as the record of a pass with ordinal 0;
    ``remarks`` are the target's, of its machine code.
    """

    folder: Path
    graph: str
    pipeline: str
    status: str
    error: str
    seconds: float
    version: str
    input: PassDump
    passes: tuple[PassDump, ...]
    remarks: tuple[str, ...] = ()
    _graphs: dict[str, Graph | None] = field(default_factory=dict, compare=False)

    @cached_property
    def steps(self) -> tuple[PassDump, ...]:
        """The input, then the passes."""
        return (self.input, *self.passes)

    def read(self, name: str) -> str:
        """A file of the dump; empty if it is not there.

        Raises:
            InvalidInput: If the file cannot be read, or is not a regular file of the folder itself.
        """
        path = self.folder / Path(name).name
        if not name or not os.path.lexists(path):
            return ""
        try:
            return read_regular(path, most=MAX_BYTES, follow=False).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error

    def read_record(self, name: str, *, made: str, record_format: str, what: str) -> JsonObject | None:
        """A JSON file of the dump; ``None`` if it is not there.

        Args:
            name: The file's name.
            made: How such a file is made, for error messages.
            record_format: What its ``format`` must say.
            what: What it holds, for error messages.

        Raises:
            InvalidInput: If the file is damaged, or its format is another one.
        """
        path = self.folder / name
        if not os.path.lexists(path):
            return None
        reader = read_json(path, hint=made, follow=False)
        reader.require("format", record_format, what)
        return reader

    def graph_after(self, step: PassDump) -> Graph | None:
        """The graph that a pass returned; ``None`` if it was not dumped, or is too broken to be read."""
        from forerun.ir.text import parse_graph

        name = step.graph_file
        if name not in self._graphs:
            try:
                text = self.read(name)
                self._graphs[name] = parse_graph(text, name) if text else None
            except InvalidInput:
                self._graphs[name] = None
        return self._graphs[name]


def load_dump(folder: Path) -> Dump:
    """Read a dump folder.

    Raises:
        InvalidInput: If it is not one, or its summary is damaged.
    """
    path = folder / SUMMARY_FILE
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidInput(f"{folder} {what}", hint=_HOW)
    if not os.path.lexists(path):
        raise InvalidInput(f"{folder} holds no {SUMMARY_FILE}", hint=_HOW)
    reader = read_json(path, hint=_HOW, follow=False)
    reader.require("schema", SCHEMA, "the summary of a dump that can be read")
    given = reader.inside("input")
    names = reader.list_of("files", str, optional=True)
    return Dump(
        folder,
        reader.text("graph"),
        reader.text("pipeline"),
        reader.text("status"),
        reader.text("error", ""),
        reader.number("seconds", 0.0),
        reader.text("forerun", "?"),
        _input_record(given, next((name for name in names if name.startswith("00-")), "")),
        tuple(_pass_record(each) for each in reader.each("passes")),
        tuple(reader.list_of("remarks", str, optional=True)),
    )


def _input_record(reader: JsonObject, graph_file: str) -> PassDump:
    nodes, counts = reader.integer("nodes"), reader.counts("dependencies")
    verdict = reader.text("verdict", "unchecked")
    findings = tuple(map(read_finding, reader.each("findings", optional=True)))
    count = reader.integer("finding_count", 0)
    return PassDump(
        0, "input", "input", 0.0, 0.0, nodes, counts, {}, verdict, False, (), graph_file, "", findings, count
    )


def _pass_record(reader: JsonObject) -> PassDump:
    files = reader.inside("files", optional=True)
    return PassDump(
        reader.integer("ordinal"),
        reader.text("name"),
        reader.text("text"),
        reader.number("seconds", 0.0),
        reader.number("verification_seconds", 0.0),
        reader.integer("nodes", 0),
        reader.counts("dependencies"),
        reader.counts("statistics"),
        reader.text("verdict"),
        reader.flag("changed", False),
        tuple(reader.list_of("remarks", str, optional=True)),
        files.text("graph", ""),
        files.text("diff", ""),
        tuple(map(read_finding, reader.each("findings", optional=True))),
        reader.integer("finding_count", 0),
    )
