"""Reads a dump folder: ``summary.json``, and the graphs and diffs that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from forerun.ir.diagnostics import InvalidInput
from forerun.ir.graph import Graph
from forerun.report import SUMMARY_FILE

__all__ = ["Dump", "PassDump", "Reader", "load_dump"]

SCHEMA = 1

_Value = TypeVar("_Value")


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


@dataclass(frozen=True)
class Dump:
    """A dumped run.

    Attributes:
        folder: Where it lies.
        graph: The graph's name.
        pipeline: The pipeline's text.
        status: ``ok``, ``failed`` or ``running``.
        error: What went wrong, or nothing.
        seconds: Time of the whole run.
        version: The version of forerun that ran it.
        input: What came in, as the record of a pass with ordinal 0.
        passes: In the order in which they ran.
        remarks: What the target had to say of its machine code.
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
            InvalidInput: If the file cannot be read.
        """
        path = self.folder / Path(name).name
        if not name or not path.exists():
            return ""
        return _read(path)

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
        raise InvalidInput(f"{folder} {what}", hint="name a folder that --dump wrote")
    if not path.exists():
        raise InvalidInput(f"{folder} holds no {SUMMARY_FILE}", hint="name a folder that --dump wrote")
    try:
        data = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    reader = Reader(path, data)
    schema = reader.get("schema", int)
    if schema != SCHEMA:
        raise InvalidInput(f"{path} has schema {schema}, and this forerun reads schema {SCHEMA}")
    given = reader.inside("input")
    names = [name for name in reader.get("files", list, []) if isinstance(name, str)]
    return Dump(
        folder,
        reader.get("graph", str),
        reader.get("pipeline", str),
        reader.get("status", str),
        reader.get("error", str, ""),
        reader.number("seconds"),
        reader.get("forerun", str, "?"),
        _input_record(given, next((name for name in names if name.startswith("00-")), "")),
        tuple(_pass_record(each) for each in reader.each("passes")),
        tuple(str(remark) for remark in reader.get("remarks", list, [])),
    )


class Reader:
    """Typed access to JSON; what is missing or of another type is the file's fault."""

    def __init__(self, path: Path, data: object, where: str = "") -> None:
        if not isinstance(data, dict):
            what = f"'{where.rstrip('.')}'" if where else "the file"
            raise InvalidInput(f"{path}: {what} is not a JSON object")
        self.path = path
        self.data: dict[str, Any] = data
        self.where = where

    def get(self, key: str, kind: type[_Value], default: _Value | None = None) -> _Value:
        """The value of a key."""
        value = self.data.get(key, default)
        if not isinstance(value, kind):
            raise InvalidInput(f"{self.path}: '{self.where}{key}' is missing, or is no {kind.__name__}")
        return value

    def number(self, key: str) -> float:
        """A number; 0 if it is missing."""
        value = self.data.get(key, 0.0)
        if not isinstance(value, (int, float)):
            raise InvalidInput(f"{self.path}: '{self.where}{key}' is not a number")
        return float(value)

    def counts(self, key: str) -> dict[str, int]:
        """An object of numbers."""
        return {str(name): n for name, n in self.get(key, dict, {}).items() if isinstance(n, int)}

    def inside(self, key: str) -> Reader:
        """An object."""
        return Reader(self.path, self.data.get(key), f"{self.where}{key}.")

    def each(self, key: str) -> list[Reader]:
        """A list of objects."""
        items = self.get(key, list)
        return [Reader(self.path, item, f"{key}[{number}].") for number, item in enumerate(items)]


def _input_record(reader: Reader, graph_file: str) -> PassDump:
    nodes, counts = reader.get("nodes", int), reader.counts("dependencies")
    verdict = reader.get("verdict", str, "unchecked")
    return PassDump(0, "input", "input", 0.0, 0.0, nodes, counts, {}, verdict, False, (), graph_file, "")


def _pass_record(reader: Reader) -> PassDump:
    files = reader.get("files", dict, {})
    return PassDump(
        reader.get("ordinal", int),
        reader.get("name", str),
        reader.get("text", str),
        reader.number("seconds"),
        reader.number("verification_seconds"),
        reader.get("nodes", int, 0),
        reader.counts("dependencies"),
        reader.counts("statistics"),
        reader.get("verdict", str),
        reader.get("changed", bool, False),
        tuple(str(remark) for remark in reader.get("remarks", list, [])),
        str(files.get("graph", "")),
        str(files.get("diff", "")),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
