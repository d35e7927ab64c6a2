"""What a run of a pipeline did, as data: one record a pass, and the JSON form of it all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from forerun.support.display import display
from forerun.support.version import __version__

__all__ = ["SCHEMA", "PassRecord", "Summary"]

SCHEMA = 1
"""Version of the JSON form. It grows by new keys only; a key that changes its meaning raises the version."""


@dataclass
class PassRecord:
    """One application of a pass.

    Attributes:
        ordinal: Its place in the pipeline, from 1.
        options: The value of each option.
        text: The pass as pipeline text.
        verification_seconds: Time in the instruments that check it (verify, certify, honesty).
        nodes: Nodes of the graph after it.
        dependencies: Dependencies of the graph after it, by kind.
        applications: How often each of its rewrite rules was applied.
        verdict: ``unchanged``, ``verified`` (the structure), ``proved``, ``refuted`` or ``unsupported`` (the meaning),
            ``unchecked``, ``failed`` or ``skipped``.
        remarks: What the pass and the instruments had to say, one line each.
        tolerance: How far each result may be from that of the nodes it replaces, relative to the greatest magnitude in
            its buffer; 0 for a pass that changes no value.
        files: Names of files in the dump folder: ``graph`` (with the graph after it) and ``diff``.
        findings: If it failed, what was found: the first 20, as ``forerun.ir.explain.Explanation.to_json`` gives them.
            Lines and columns are those of ``files["graph"]``.
    """

    ordinal: int
    name: str
    options: dict[str, Any]
    text: str
    seconds: float = 0.0
    verification_seconds: float = 0.0
    nodes: int = 0
    dependencies: dict[str, int] = field(default_factory=dict)
    statistics: dict[str, int] = field(default_factory=dict)
    applications: dict[str, int] = field(default_factory=dict)
    verdict: str = "unchecked"
    changed: bool = False
    remarks: list[str] = field(default_factory=list)
    tolerance: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    finding_count: int = 0


@dataclass
class Summary:
    """A run of a pipeline.

    Attributes:
        status: ``running``, ``ok``, ``failed`` or ``interrupted``.
        passes: One record for each pass that was reached.
        seconds: Time of the whole run, instruments included.
        input_verdict: What is known of its meaning; as in :class:`PassRecord`.
        input_findings: If it is refused, what was found, as in :class:`PassRecord`.
        dump: The folder of the dumps, if they are written.
        files: Names of all files that were dumped there.
        error: The first line of what went wrong.
        remarks: What the target had to say of its machine code, one line each.
        warnings: What was asked for and could not be had, one line each.
    """

    graph: str
    pipeline: str
    status: str = "running"
    passes: tuple[PassRecord, ...] = ()
    seconds: float = 0.0
    input_nodes: int = 0
    input_dependencies: dict[str, int] = field(default_factory=dict)
    input_verdict: str = "unchecked"
    input_findings: list[dict[str, Any]] = field(default_factory=list)
    input_finding_count: int = 0
    dump: Path | None = None
    files: list[str] = field(default_factory=list)
    error: str = ""
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def tolerance(self) -> float:
        """How far results may be from those of the graph that came in, as in :class:`PassRecord`; 0 for bit by bit."""
        return sum(record.tolerance for record in self.passes)

    @property
    def verification_seconds(self) -> float:
        """Time in the instruments that check passes."""
        return sum(record.verification_seconds for record in self.passes)

    def __str__(self) -> str:
        """A table with a row for each pass."""
        return str(display("summary.text", self))

    def _repr_html_(self) -> str:
        return str(display("summary.html", self))

    def to_json(self) -> dict[str, Any]:
        """A tree of dictionaries, lists, strings, numbers and booleans; docs/debugging-a-pipeline.md describes it."""
        return {
            "schema": SCHEMA,
            "forerun": __version__,
            "graph": self.graph,
            "pipeline": self.pipeline,
            "status": self.status,
            "error": self.error,
            "seconds": self.seconds,
            "verification_seconds": self.verification_seconds,
            "input": {
                "nodes": self.input_nodes,
                "dependencies": dict(self.input_dependencies),
                "verdict": self.input_verdict,
                "findings": list(self.input_findings),
                "finding_count": self.input_finding_count,
            },
            "passes": [asdict(record) for record in self.passes],
            "files": list(self.files),
            "remarks": list(self.remarks),
            "warnings": list(self.warnings),
            "tolerance": self.tolerance,
        }
